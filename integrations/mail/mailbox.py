"""PORT ``Mailbox``: hands one letter to whoever delivers it.

What every implementation promises:

* ``send`` returns when somebody else answers for the letter: a mail server, or the disk.
* It returns or raises within ``SEND_TIMEOUT_MS``, and never holds up the event loop.
* What it raises is a fault that says whether the letter may be under way. A letter that is sent
  again after ``OutcomeUnknown`` may arrive twice; letters are written so that this does no harm.
* Neither a letter's text nor an address is ever part of a fault: both end up in logs.
"""

from __future__ import annotations

import re
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, formataddr, make_msgid, parseaddr
from typing import TYPE_CHECKING, NamedTuple, Protocol

from reservation.faults import NotDone

if TYPE_CHECKING:
    from datetime import datetime

SEND_TIMEOUT_MS = 20_000
"""Mail servers that look for junk take their time; those that take longer are tried again."""

ADDRESS_LENGTH_MAX = 254

# ASCII only. Other letters look like each other, and half of all mail servers refuse them; names
# of hosts have an ASCII form.
_ADDRESS = re.compile(
    r"(?=.{3,254}\Z)(?=[^@]{1,64}@)"
    r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
    r"@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+"
    r"[A-Za-z](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
)

# Lines of up to 998 bytes are lawful, and a link that is folded cannot be copied.
_POLICY = SMTP.clone(max_line_length=990, cte_type="7bit")


class Letter(NamedTuple):
    """One letter to one person, in plain text."""

    recipient: str
    subject: str
    text: str


class Mailbox(Protocol):
    """See the module's docstring."""

    async def send(self, letter: Letter) -> None:
        """Hand the letter over.

        Raises:
            LetterRefused: nobody will ever take this letter.
            NotDone: it was not sent; try again later.
            OutcomeUnknown: it may or may not be under way.
        """
        ...

    async def close(self) -> None:
        """Give up what is under way."""
        ...


class LetterRefused(NotDone):
    """The letter itself was refused: trying again is of no use."""


def is_address(text: str) -> bool:
    """Whether ``text`` has the form of an e-mail address that letters can be sent to.

    Example:
        >>> is_address("ada.lovelace+seats@housefull.example"), is_address("ada@localhost")
        (True, False)
        >>> is_address("ada@housefull.example\\nBcc: eve@housefull.example")
        False
    """
    return _ADDRESS.fullmatch(text) is not None


def is_sender(text: str) -> bool:
    """Whether letters can be from ``text``: an address, or a name before one in brackets.

    Example:
        >>> is_sender("Grand Theatre <tickets@housefull.example>"), is_sender("Grand Theatre")
        (True, False)
    """
    name, address = parseaddr(text)
    written = (address, formataddr((name, address), "utf-8"), f"{name} <{address}>")
    return text.isprintable() and is_address(address) and text in written


def message_of(letter: Letter, sender: str, written_at: datetime) -> EmailMessage:
    """The letter with the headers that mail servers expect.

    Raises:
        LetterRefused: the recipient's address has no acceptable form.
    """
    if not is_address(letter.recipient):
        raise LetterRefused("the recipient's address is none")
    message = EmailMessage(policy=_POLICY)
    message["From"] = sender
    message["To"] = letter.recipient
    message["Subject"] = letter.subject
    message["Date"] = format_datetime(written_at)
    message["Message-ID"] = make_msgid(domain=sender.rpartition("@")[2].strip("<> "))
    # Machines that are on holiday shall not answer.
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(letter.text)
    return message
