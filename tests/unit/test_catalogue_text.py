"""How typed words are compared, in several scripts."""

import pytest

from persistence.catalogue_text import (
    STOP_NAME_LENGTH_MAX,
    checked_text,
    fold,
    name_key_of,
    place_code_of,
    prefix_query_of,
    words_of,
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Hamlet, Prince of Denmark", ["hamlet", "prince", "of", "denmark"]),
        ("  R9_EXPRESS/2  ", ["r9", "express", "2"]),
        ("ŽĎÁR nad Sázavou", ["zdar", "nad", "sazavou"]),
        ("Straße STRASSE", ["strasse", "strasse"]),
        ("Łódź Øresund ÆRØ", ["lodz", "oresund", "aero"]),
        ("L'opéra d’été", ["l", "opera", "d", "ete"]),
        ("Москва́–Київ", ["москва", "киів"]),
        ("हिन्दी मेला", ["हिन्दी", "मेला"]),
        ("東京 ２号", ["東京", "2号"]),
        ("!?'\\ …", []),
        ("", []),
    ],
)
def test_words_have_no_case_no_accents_and_no_punctuation(text: str, words: list[str]) -> None:
    assert words_of(text) == words


def test_composed_and_decomposed_letters_are_the_same() -> None:
    assert fold("\u017d") == fold("Z\u030c") == fold("\u017e") == "z"


def test_no_word_can_break_out_of_a_query() -> None:
    assert prefix_query_of(words_of("a' | b & !c:* \\'d a")) == "'a':* & 'b':* & 'c':* & 'd':*"


def test_a_key_never_has_two_spaces_and_is_never_too_long() -> None:
    for name in ("  Praha   hl. n. ", "? ! '", "…  …", "ﷺ" * 300, "w" * 5000, "x " * 5000):
        key = name_key_of(name)
        assert key == " ".join(key.split())
        assert 0 < len(key) <= STOP_NAME_LENGTH_MAX


def test_a_key_keeps_repeated_words_apart_from_single_ones() -> None:
    assert name_key_of("Baden-Baden") != name_key_of("Baden")


@pytest.mark.parametrize("text", ["a\0", "\ud800", "x" * 11])
def test_text_that_cannot_be_stored_is_refused_by_its_field(text: str) -> None:
    with pytest.raises(ValueError, match=r"^title: "):
        checked_text("title", text, 10)


def test_a_second_call_is_at_the_same_place() -> None:
    codes = {"X", "X#2", "X#3", "Y#2", "#2"}
    assert [place_code_of(code, codes) for code in sorted(codes)] == ["#2", "X", "X", "X", "Y#2"]
