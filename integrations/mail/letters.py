"""What the letters say.

Plain text, because a link in plain text shows where it leads. Nothing that somebody has typed is
in a letter, not even a name: anybody may type anybody's address, and would write through us.
"""

from __future__ import annotations

from integrations.mail.mailbox import Letter

_LINE_LENGTH_MAX = 78


def verification_letter(recipient: str, link: str | None, code: str, lasts_h: int) -> Letter:
    """Asks a new customer to prove that this address is theirs; ``link`` if there is a page."""
    return Letter(
        recipient,
        "Confirm your e-mail address",
        _text(
            "Hello,",
            "somebody has opened a Housefull account with this e-mail address. If it was you, "
            "please confirm the address.",
            *_ways(link, code, lasts_h),
            "If it was not you, do nothing: without this step nobody can use the address.",
        ),
    )


def known_address_letter(recipient: str, link: str | None, code: str, lasts_h: int) -> Letter:
    """Tells the owner of an account that somebody wanted to open another one with the address."""
    return Letter(
        recipient,
        "You have an account already",
        _text(
            "Hello,",
            "somebody has tried to open a Housefull account with this e-mail address, and there "
            "is one already. If it was you, log in as before. If you have forgotten your "
            "password, or if you have never opened an account, choose a new password: that "
            "logs out everybody else.",
            *_ways(link, code, lasts_h),
            "If it was not you, do nothing: nothing has changed, and whoever tried was not told "
            "that the account exists.",
        ),
    )


def reset_letter(recipient: str, link: str | None, code: str, lasts_h: int) -> Letter:
    """Lets the owner of an account choose a new password; ``link`` if there is a page for it."""
    return Letter(
        recipient,
        "Choose a new password",
        _text(
            "Hello,",
            "somebody has asked for a new password for the Housefull account with this e-mail "
            "address. If it was you, please choose one: that logs the account out everywhere.",
            *_ways(link, code, lasts_h),
            "If it was not you, do nothing: the password stays as it is.",
        ),
    )


def password_changed_letter(recipient: str) -> Letter:
    """Tells the owner that the password is another one now."""
    return Letter(
        recipient,
        "Your password was changed",
        _text(
            "Hello,",
            "the password of the Housefull account with this e-mail address was just changed, and "
            "the account was logged out everywhere.",
            "If it was not you, ask for a new password at once: that locks out whoever it was.",
        ),
    )


def _ways(link: str | None, code: str, lasts_h: int) -> tuple[str, ...]:
    """What to do with a code. It stands on a line of its own, to be copied."""
    lasts = f"{lasts_h} hours" if lasts_h > 1 else "one hour"
    if link is None:
        return (f"This is your code. It works once, for {lasts}:", code)
    return ("Open this link:", link, f"Or enter this code. Both work once, for {lasts}:", code)


def _text(*paragraphs: str) -> str:
    return "\n\n".join(_wrapped(paragraph) for paragraph in paragraphs) + "\n"


def _wrapped(paragraph: str) -> str:
    """The paragraph in lines; a word that is longer than a line, such as a link, stays whole.

    Example:
        >>> _wrapped("a link: https://housefull.example/" + "x" * 70).count("\\n")
        1
    """
    lines = [""]
    for word in paragraph.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > _LINE_LENGTH_MAX:
            lines.append(word)
        else:
            lines[-1] += f" {word}" if lines[-1] else word
    return "\n".join(lines)
