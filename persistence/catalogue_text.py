"""How the catalogue compares what people type: words without case, accents and punctuation.

This is done here and not by Postgres, because there it depends on the locale that the
database was made with: under ``C`` even ``lower('Ž')`` is ``'Ž'``.
"""

from __future__ import annotations

import re
import unicodedata

SOURCE_KEY_LENGTH_MAX = 500
NAME_LENGTH_MAX = 500
STOP_NAME_LENGTH_MAX = 300
STOP_CODE_LENGTH_MAX = 100
SEARCH_LENGTH_MAX = 300
DESCRIPTION_LENGTH_MAX = 10_000

_WORD_LENGTH_MAX = 60
_ASCII_WORD = re.compile(r"[a-z0-9]+")
_ACCENTS = re.compile("[\u0300-\u036f]+")
_SECOND_CALL = re.compile(r"(.+)#[0-9]+")
# Letters that people type as others but Unicode does not take apart.
_PLAIN_LETTERS = str.maketrans(
    {"ł": "l", "ø": "o", "đ": "d", "ð": "d", "ħ": "h", "ı": "i", "æ": "ae", "œ": "oe", "þ": "th"}
)


def checked_text(field: str, text: str, length_max: int) -> str:
    """``text`` itself, when Postgres can store it.

    Raises:
        ValueError: it is too long, has a zero character or is no valid Unicode; the message
            begins with ``field``.
    """
    if len(text) > length_max:
        raise ValueError(f"{field}: longer than {length_max} characters")
    if "\0" in text:
        raise ValueError(f"{field}: has a zero character")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"{field}: not valid Unicode") from error
    return text


def fold(text: str) -> str:
    """``text`` as it is compared: without case and without accents.

    Example:
        >>> fold("Łódź Fabryczna")
        'lodz fabryczna'
    """
    if text.isascii():
        return text.lower()
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    return _ACCENTS.sub("", folded).translate(_PLAIN_LETTERS)


def words_of(text: str) -> list[str]:
    """The words of ``text``, folded, in their order.

    A word consists of letters, digits and the marks that belong to letters, in any script.

    Example:
        >>> words_of("Praha hl.n. – Žďár n. S.")
        ['praha', 'hl', 'n', 'zdar', 'n', 's']
    """
    folded = fold(text)
    if folded.isascii():
        words = _ASCII_WORD.findall(folded)
    else:
        words = "".join(letter if _is_of_word(letter) else " " for letter in folded).split()
    return [word[:_WORD_LENGTH_MAX] for word in words]


def name_key_of(name: str) -> str:
    """What two spellings of one name have in common; never two spaces in a row.

    Example:
        >>> name_key_of("PRAHA  Hl.N.") == name_key_of("Praha hl. n.")
        True
    """
    # A name without any word is compared by its signs.
    words = words_of(name) or [sign[:_WORD_LENGTH_MAX] for sign in fold(name).split()]
    key = ""
    for word in words:
        if len(key) + len(word) >= STOP_NAME_LENGTH_MAX:
            break
        key = f"{key} {word}" if key else word
    return key


def prefix_query_of(words: list[str]) -> str:
    """A ``tsquery`` for texts that have, for each of these words, a word that begins with it.

    Words contain neither quotes nor backslashes, so quoting needs no escapes.

    Example:
        >>> prefix_query_of(["praha", "hl"])
        "'praha':* & 'hl':*"
    """
    return " & ".join(f"'{word}':*" for word in dict.fromkeys(words))


def place_code_of(code: str, codes: frozenset[str] | set[str]) -> str:
    """The code of the place that a stop calls at: ``X`` for ``X#2`` on a route that has ``X``.

    Example:
        >>> place_code_of("X#2", {"X", "X#2"}), place_code_of("Y#2", {"Y#2"})
        ('X', 'Y#2')
    """
    match = _SECOND_CALL.fullmatch(code)
    if match is not None and match[1] in codes:
        return match[1]
    return code


def _is_of_word(letter: str) -> bool:
    return letter.isalnum() or unicodedata.category(letter).startswith("M")
