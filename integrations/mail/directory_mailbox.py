"""A mailbox that writes letters into a directory, for a house without a mail server."""

from __future__ import annotations

import asyncio
import os
import secrets
from datetime import UTC, datetime
from email.message import EmailMessage
from pathlib import Path

from integrations.mail.mailbox import Letter, message_of
from reservation.faults import NotDone


class DirectoryMailbox:
    """Writes each letter as ``<time>-<random>.eml``; names sort by the time of writing.

    A file appears complete or not at all, and only the house's own user can read it: letters
    carry what opens an account.
    """

    def __init__(self, directory: Path, sender: str) -> None:
        self._directory = directory
        self._sender = sender

    async def send(self, letter: Letter) -> None:
        """See ``Mailbox``."""
        written_at = datetime.now(UTC)
        message = message_of(letter, self._sender, written_at)
        name = f"{written_at:%Y%m%dT%H%M%S.%f}-{secrets.token_hex(4)}.eml"
        try:
            await asyncio.to_thread(self._write, name, message)
        except OSError as error:
            raise NotDone(f"no letter can be written: {error.strerror}") from error

    async def close(self) -> None:
        """See ``Mailbox``; nothing is ever under way."""

    def _write(self, name: str, message: EmailMessage) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        unfinished = self._directory / f".{name}"
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with open(descriptor, "wb") as file:
                file.write(message.as_bytes())
                file.flush()
                os.fsync(descriptor)
            unfinished.replace(self._directory / name)
        except OSError:
            unfinished.unlink(missing_ok=True)
            raise
