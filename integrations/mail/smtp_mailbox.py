"""A mailbox that hands letters to a mail server.

Theory of operation

Each letter is one connection: greeting, encryption, login, recipient, text. A letter comes once in
a while and mail servers close idle connections, so keeping one open would only add a state.

Until the last line of the text is out, nothing can have been delivered, so everything that goes
wrong is ``NotDone``. From then until the server's answer the letter may be under way, and losing
the connection is ``OutcomeUnknown``. Answers of 4xx may change, answers of 5xx do not.

The standard library's client waits for its socket, so it has threads of its own, two of them. Every
step has a time limit, and a letter as a whole too: then its socket is closed under the thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import smtplib
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from email.message import EmailMessage
from typing import Literal, NamedTuple
from urllib.parse import unquote, urlsplit

from integrations.mail.mailbox import SEND_TIMEOUT_MS, Letter, LetterRefused, message_of
from reservation.faults import NotDone, OutcomeUnknown

STEP_TIMEOUT_S = 10.0

_GIVE_UP_S = 1.0
_THREADS = 2
_PORTS = {"smtps": 465, "smtp": 587, "smtp+plain": 25}
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class MailServer(NamedTuple):
    """Where letters are handed over, and how.

    Shapes:
        encryption: ``tls`` from the first byte, ``starttls`` after the greeting and never
            without, or ``none``.
    """

    host: str
    port: int
    encryption: Literal["tls", "starttls", "none"]
    user: str
    password: str


def read_mail_url(url: str) -> MailServer:
    """The mail server that a URL names.

    ``smtps://user:password@host`` speaks TLS (port 465), ``smtp://`` STARTTLS (587, and no letter
    leaves without it), ``smtp+plain://`` nothing of the kind (25): only to this machine.

    Raises:
        ValueError: it names none; the message does not repeat the URL, which may hold a password.

    Example:
        >>> read_mail_url("smtp://house:se%40cret@mail.housefull.example")[:3]
        ('mail.housefull.example', 587, 'starttls')
    """
    parts = urlsplit(url)
    if parts.scheme not in _PORTS:
        raise ValueError("must start with smtps://, smtp:// or smtp+plain://")
    try:
        port = parts.port or _PORTS[parts.scheme]
    except ValueError:
        raise ValueError("its port is not a number from 1 to 65535") from None
    if not parts.hostname:
        raise ValueError("names no host")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError("has something after the host")
    if (parts.username is None) != (parts.password is None):
        raise ValueError("needs both user and password, or neither")
    if parts.scheme == "smtp+plain" and parts.hostname not in _LOOPBACK:
        raise ValueError("smtp+plain:// goes to this machine only: use smtp:// or smtps://")
    encryption: Literal["tls", "starttls", "none"] = "none"
    if parts.scheme != "smtp+plain":
        encryption = "tls" if parts.scheme == "smtps" else "starttls"
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    if not (user + password).isascii():
        raise ValueError("user and password must be ASCII")
    return MailServer(parts.hostname, port, encryption, user, password)


class SmtpMailbox:
    """See the module's docstring.

    Args:
        tls: whom to trust; what the system trusts without it.
    """

    def __init__(
        self,
        server: MailServer,
        sender: str,
        *,
        tls: ssl.SSLContext | None = None,
        step_timeout_s: float = STEP_TIMEOUT_S,
        send_timeout_ms: int = SEND_TIMEOUT_MS,
    ) -> None:
        self._server = server
        self._sender = sender
        self._tls = tls or ssl.create_default_context()
        self._step_timeout_s = step_timeout_s
        self._send_timeout_s = send_timeout_ms / 1_000
        self._threads = ThreadPoolExecutor(_THREADS, "mail")

    async def send(self, letter: Letter) -> None:
        """See ``Mailbox``."""
        message = message_of(letter, self._sender, datetime.now(UTC))
        delivery = _Delivery(self._server, self._tls, self._step_timeout_s)
        under_way = self._threads.submit(delivery.deliver, message, letter.recipient)
        waiting = asyncio.wrap_future(under_way)
        # Who gives up never asks how it ended.
        waiting.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        try:
            await asyncio.wait({waiting}, timeout=self._send_timeout_s)
            if not under_way.done() and not under_way.cancel():
                delivery.give_up()
                await asyncio.wait({waiting}, timeout=_GIVE_UP_S)
        finally:
            delivery.give_up()
        if under_way.done() and not under_way.cancelled():
            under_way.result()
        elif delivery.is_text_out:
            raise OutcomeUnknown("the mail server did not confirm a letter in time")
        else:
            raise NotDone("the mail server did not take a letter in time")

    async def close(self) -> None:
        """See ``Mailbox``."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class _Delivery:
    """One letter's connection, used by one thread; ``give_up`` may come from another."""

    def __init__(self, server: MailServer, tls: ssl.SSLContext, timeout_s: float) -> None:
        self._server = server
        self._tls = tls
        self._timeout_s = timeout_s
        self._client: smtplib.SMTP | None = None
        self._is_given_up = False
        self.is_text_out = False

    def give_up(self) -> None:
        """Close the socket under whoever waits for it."""
        self._is_given_up = True
        sock = None if self._client is None else self._client.sock
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def deliver(self, message: EmailMessage, recipient: str) -> None:
        """Speak with the server from the greeting to the end."""
        try:
            self._client = client = self._connected()
            try:
                self._introduce(client)
                self._hand_over(client, message, recipient)
            finally:
                with contextlib.suppress(smtplib.SMTPException, OSError):
                    client.quit()
        except (smtplib.SMTPException, OSError, ValueError) as error:
            # ValueError is what the client says of answers that are not SMTP.
            if self.is_text_out:
                raise OutcomeUnknown("the mail server went away before it confirmed") from error
            raise NotDone(f"the mail server cannot be used ({_reason(error)})") from error

    def _connected(self) -> smtplib.SMTP:
        server = self._server
        if server.encryption == "tls":
            return smtplib.SMTP_SSL(
                server.host, server.port, timeout=self._timeout_s, context=self._tls
            )
        return smtplib.SMTP(server.host, server.port, timeout=self._timeout_s)

    def _introduce(self, client: smtplib.SMTP) -> None:
        if self._is_given_up:
            raise NotDone("there was no time left")
        client.ehlo()
        if self._server.encryption == "starttls":
            # Raises when the server does not offer it: whoever sits between must not decide.
            client.starttls(context=self._tls)
            client.ehlo()
        if self._server.user:
            client.login(self._server.user, self._server.password)

    def _hand_over(self, client: smtplib.SMTP, message: EmailMessage, recipient: str) -> None:
        sender = str(message["From"].addresses[0].addr_spec)
        _expect(client.mail(sender), "the sender")
        _expect(client.rcpt(recipient), "the recipient")
        _expect(client.docmd("DATA"), "a letter", wanted=354)
        if self._is_given_up:
            raise NotDone("there was no time left")
        text = message.as_bytes().replace(b"\r\n.", b"\r\n..")
        # A dot that begins the text would end it.
        text = b"." + text if text.startswith(b".") else text
        client.send(text if text.endswith(b"\r\n") else text + b"\r\n")
        self.is_text_out = True
        client.send(b".\r\n")
        answer = client.getreply()
        self.is_text_out = False
        _expect(answer, "the letter")


def _expect(answer: tuple[int, bytes], what: str, wanted: int = 250) -> None:
    code = answer[0]
    if code == wanted or (wanted == 250 and code == 251):
        return
    if 500 <= code < 600:
        raise LetterRefused(f"the mail server refused {what} ({code})")
    raise NotDone(f"the mail server does not take {what} now ({code})")


def _reason(error: Exception) -> str:
    # What servers say is free text and may repeat addresses.
    code = getattr(error, "smtp_code", None)
    name = type(error).__name__
    return name if code is None else f"{name} {code}"
