"""What every mailbox promises (``integrations/mail/mailbox.py``), and what one on SMTP adds.

The mail server is a real one, in this process.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from integrations.mail.directory_mailbox import DirectoryMailbox
from integrations.mail.letters import (
    known_address_letter,
    password_changed_letter,
    reset_letter,
    verification_letter,
)
from integrations.mail.mailbox import Letter, LetterRefused, Mailbox, is_address
from integrations.mail.smtp_mailbox import MailServer, SmtpMailbox, read_mail_url
from reservation.faults import NotDone, OutcomeUnknown

SENDER = "Housefull <tickets@housefull.example>"
ADA = "ada@customer.example"
CODE = "vYk" * 14
LINK = f"https://tickets.housefull.example/verify-email#{CODE}"
LETTER = Letter(ADA, "Your seats", f"Hello Ada,\n\n{LINK}\n")
USER, PASSWORD = "house", "p@ss:word/"
STEP_TIMEOUT_S = 5.0

Inbox = Callable[[], list[EmailMessage]]


class PostOffice:
    """What the mail server does with letters; ``answer`` is said instead of taking one."""

    def __init__(self) -> None:
        self.taken: list[EmailMessage] = []
        self.answers: dict[str, str] = {}
        self.was_encrypted: list[bool] = []
        self.on_text: Callable[[], None] = lambda: None

    async def handle_RCPT(  # noqa: N802 - the server calls it so.
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: Any
    ) -> str:
        envelope.rcpt_tos.append(address)
        return self.answers.get("RCPT", "250 OK")

    async def handle_DATA(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        self.on_text()
        if "DATA" in self.answers:
            return self.answers["DATA"]
        assert isinstance(envelope.content, bytes)
        message = message_from_bytes(envelope.content, policy=default)
        assert envelope.rcpt_tos == [message["To"]]
        self.taken.append(message)
        self.was_encrypted.append(session.ssl is not None)
        return "250 taken"


class Tls:
    """A certificate for 127.0.0.1, as its server and as those who trust it see it."""

    def __init__(self, directory: Path) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
        address = x509.SubjectAlternativeName([x509.DNSName("localhost")])
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(address, critical=False)
            .sign(key, hashes.SHA256())
        )
        file = directory / "mail.pem"
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        file.write_bytes(private + certificate.public_bytes(Encoding.PEM))
        self.server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.server.load_cert_chain(file)
        self.client = ssl.create_default_context(cafile=str(file))


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    return Tls(tmp_path_factory.mktemp("certificate"))


@contextmanager
def open_server(office: PostOffice, **options: Any) -> Iterator[int]:
    """A mail server on a port of its own."""
    controller = Controller(office, hostname="localhost", port=_free_port(), **options)
    controller.start()
    try:
        yield controller.port
    finally:
        controller.stop()


def _free_port() -> int:
    with socket.create_server(("localhost", 0)) as taken:
        port: int = taken.getsockname()[1]
    return port


def plain(port: int, user: str = "", password: str = "") -> MailServer:
    return MailServer("localhost", port, "none", user, password)


@pytest.fixture(params=["directory", "smtp"])
async def mailbox_and_inbox(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[tuple[Mailbox, Inbox]]:
    if request.param == "directory":
        directory = tmp_path / "data" / "mail"

        def read() -> list[EmailMessage]:
            files = sorted(directory.iterdir()) if directory.exists() else []
            return [message_from_bytes(file.read_bytes(), policy=default) for file in files]

        yield DirectoryMailbox(directory, SENDER), read
        return
    office = PostOffice()
    with open_server(office) as port:
        mailbox = SmtpMailbox(plain(port), SENDER, step_timeout_s=STEP_TIMEOUT_S)
        yield mailbox, lambda: office.taken
        await mailbox.close()


async def test_a_letter_arrives_as_it_was_written(
    mailbox_and_inbox: tuple[Mailbox, Inbox],
) -> None:
    mailbox, inbox = mailbox_and_inbox
    await mailbox.send(LETTER)
    (message,) = inbox()
    assert message["To"] == ADA
    assert message["From"] == SENDER
    assert message["Subject"] == "Your seats"
    assert message["Message-ID"].endswith("@housefull.example>")
    assert message["Date"].datetime is not None
    assert message["Auto-Submitted"] == "auto-generated"
    assert message.get_content().replace("\r\n", "\n") == LETTER.text


@pytest.mark.parametrize(
    "text",
    [
        "Zdravím, Růženo Žluťoučká — 🎭\n",
        ".\n.\n..\n.hidden\n",
        f"{LINK}{'x' * 500}\n",
        "no end of line",
        "\n\n\n",
        "From here on\nBcc: eve@customer.example\n",
    ],
)
async def test_no_text_changes_or_ends_a_letter_early(
    mailbox_and_inbox: tuple[Mailbox, Inbox], text: str
) -> None:
    mailbox, inbox = mailbox_and_inbox
    await mailbox.send(LETTER._replace(subject="Růže", text=text))
    await mailbox.send(LETTER)
    first, second = inbox()
    assert first["Subject"] == "Růže"
    assert first["Bcc"] is None
    assert first.get_content().replace("\r\n", "\n").rstrip("\n") == text.rstrip("\n")
    assert second.get_content().replace("\r\n", "\n") == LETTER.text


async def test_many_letters_at_once_all_arrive(mailbox_and_inbox: tuple[Mailbox, Inbox]) -> None:
    mailbox, inbox = mailbox_and_inbox
    subjects = {f"letter {number}" for number in range(12)}
    await asyncio.gather(*[mailbox.send(LETTER._replace(subject=one)) for one in subjects])
    assert {message["Subject"] for message in inbox()} == subjects
    assert len({message["Message-ID"] for message in inbox()}) == 12


@pytest.mark.parametrize(
    "recipient", ["", "ada", "ada@localhost", "ada@customer.example\nBcc: eve@customer.example"]
)
async def test_a_recipient_that_is_no_address_is_refused(
    mailbox_and_inbox: tuple[Mailbox, Inbox], recipient: str
) -> None:
    mailbox, inbox = mailbox_and_inbox
    with pytest.raises(LetterRefused):
        await mailbox.send(LETTER._replace(recipient=recipient))
    assert inbox() == []


async def test_only_the_house_can_read_the_files_of_a_directory(tmp_path: Path) -> None:
    directory = tmp_path / "mail"
    await DirectoryMailbox(directory, SENDER).send(LETTER)
    (file,) = directory.iterdir()
    assert file.suffix == ".eml"
    assert (directory.stat().st_mode & 0o777, file.stat().st_mode & 0o777) == (0o700, 0o600)
    assert LINK in file.read_text()


async def test_a_directory_that_cannot_be_written_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(NotDone):
        await DirectoryMailbox(tmp_path / "file" / "mail", SENDER).send(LETTER)


@pytest.mark.parametrize(
    ("step", "answer", "fault"),
    [
        ("RCPT", "550 no such mailbox", LetterRefused),
        ("RCPT", "450 greylisted", NotDone),
        ("DATA", "554 looks like junk", LetterRefused),
        ("DATA", "451 no room", NotDone),
    ],
)
async def test_what_the_server_says_decides_whether_to_try_again(
    step: str, answer: str, fault: type[NotDone]
) -> None:
    office = PostOffice()
    office.answers[step] = answer
    with open_server(office) as port:
        mailbox = SmtpMailbox(plain(port), SENDER, step_timeout_s=STEP_TIMEOUT_S)
        with pytest.raises(NotDone) as raised:
            await mailbox.send(LETTER)
        await mailbox.close()
    assert type(raised.value) is fault
    assert ADA not in str(raised.value)


async def test_a_server_that_is_not_there_is_a_fault() -> None:
    mailbox = SmtpMailbox(plain(_free_port()), SENDER)
    with pytest.raises(NotDone):
        await mailbox.send(LETTER)
    await mailbox.close()


async def test_a_server_that_never_greets_is_given_up() -> None:
    with socket.create_server(("localhost", 0)) as silent:
        server = plain(silent.getsockname()[1])
        for limits in ({"step_timeout_s": 0.2}, {"send_timeout_ms": 200, "step_timeout_s": 2.0}):
            mailbox = SmtpMailbox(server, SENDER, **limits)  # type: ignore[arg-type]
            with pytest.raises(NotDone):
                await mailbox.send(LETTER)
            await mailbox.close()


async def test_a_server_that_never_confirms_leaves_the_outcome_unknown() -> None:
    async def take_and_say_nothing(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        writer.write(b"220 here\r\n")
        while line := await reader.readline():
            if line == b"DATA\r\n":
                writer.write(b"354 go on\r\n")
            elif line[:4] in (b"ehlo", b"EHLO", b"mail", b"MAIL", b"rcpt", b"RCPT"):
                writer.write(b"250 yes\r\n")
        writer.close()

    server = await asyncio.start_server(take_and_say_nothing, "localhost", 0)
    port = server.sockets[0].getsockname()[1]
    for limits in ({"step_timeout_s": 0.3}, {"send_timeout_ms": 300, "step_timeout_s": 5.0}):
        mailbox = SmtpMailbox(plain(port), SENDER, **limits)  # type: ignore[arg-type]
        with pytest.raises(OutcomeUnknown):
            await mailbox.send(LETTER)
        await mailbox.close()
    server.close()


async def test_a_letter_travels_encrypted_and_only_to_a_server_that_is_known(tls: Tls) -> None:
    office = PostOffice()
    logins: list[tuple[str, str]] = []

    def authenticate(
        server: SMTP, session: Session, envelope: Envelope, mechanism: str, auth_data: Any
    ) -> AuthResult:
        assert isinstance(auth_data, LoginPassword)
        logins.append((auth_data.login.decode(), auth_data.password.decode()))
        # Not handled: the server itself says that it was wrong, and nobody waits for an answer.
        return AuthResult(success=logins[-1] == (USER, PASSWORD), handled=False)

    with open_server(
        office, tls_context=tls.server, require_starttls=True, authenticator=authenticate
    ) as port:
        server = MailServer("localhost", port, "starttls", USER, "only ascii")
        stranger = SmtpMailbox(server, SENDER, step_timeout_s=STEP_TIMEOUT_S)
        with pytest.raises(NotDone, match="SSL"):
            await stranger.send(LETTER)
        assert logins == []
        friend = SmtpMailbox(server, SENDER, tls=tls.client, step_timeout_s=STEP_TIMEOUT_S)
        with pytest.raises(NotDone):
            await friend.send(LETTER)
        assert logins
        assert office.taken == []


async def test_starttls_and_login_hand_a_letter_over(tls: Tls) -> None:
    office = PostOffice()

    def authenticate(
        server: SMTP, session: Session, envelope: Envelope, mechanism: str, auth_data: Any
    ) -> AuthResult:
        return AuthResult(success=auth_data == LoginPassword(b"house", b"p@ss word"))

    with open_server(
        office, tls_context=tls.server, require_starttls=True, authenticator=authenticate
    ) as port:
        server = read_mail_url(f"smtp://house:p%40ss%20word@localhost:{port}")
        mailbox = SmtpMailbox(server, SENDER, tls=tls.client, step_timeout_s=STEP_TIMEOUT_S)
        await mailbox.send(LETTER)
        await mailbox.close()
    assert office.was_encrypted == [True]


async def test_tls_from_the_first_byte_hands_a_letter_over(tls: Tls) -> None:
    office = PostOffice()
    with open_server(office, ssl_context=tls.server) as port:
        server = read_mail_url(f"smtps://localhost:{port}")
        mailbox = SmtpMailbox(server, SENDER, tls=tls.client, step_timeout_s=STEP_TIMEOUT_S)
        await mailbox.send(LETTER)
        await mailbox.close()
    assert len(office.taken) == 1


async def test_a_server_without_starttls_gets_no_letter_and_no_password() -> None:
    office = PostOffice()
    with open_server(office) as port:
        server = MailServer("localhost", port, "starttls", USER, PASSWORD)
        mailbox = SmtpMailbox(server, SENDER, step_timeout_s=STEP_TIMEOUT_S)
        with pytest.raises(NotDone):
            await mailbox.send(LETTER)
        await mailbox.close()
    assert office.taken == []


@pytest.mark.parametrize(
    "url",
    [
        "",
        "mail.housefull.example",
        "http://mail.housefull.example",
        "smtp://",
        "smtp://house:secret@",
        "smtp://house:secret@mail.housefull.example:0x19",
        "smtp://house:secret@mail.housefull.example:70000",
        "smtp://house@mail.housefull.example",
        "smtps://house:secret@mail.housefull.example/path",
        "smtps://house:secret@mail.housefull.example?starttls=no",
        "smtp+plain://house:secret@mail.housefull.example",
        "smtp://house:secret%C3%BC@mail.housefull.example",
    ],
)
def test_a_url_that_names_no_mail_server_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ValueError) as raised:
        read_mail_url(url)
    assert "secret" not in str(raised.value)


def test_urls_name_mail_servers() -> None:
    assert read_mail_url("smtps://mail.housefull.example") == MailServer(
        "mail.housefull.example", 465, "tls", "", ""
    )
    assert read_mail_url("smtp+plain://127.0.0.1:2525/") == MailServer(
        "127.0.0.1", 2525, "none", "", ""
    )


@pytest.mark.parametrize(
    ("address", "is_one"),
    [
        ("a@b.cz", True),
        ("o'brien+x@mail.customer.example", True),
        ("a" * 64 + "@customer.example", True),
        ("a" * 65 + "@customer.example", False),
        ("a@" + "b." * 126 + "cz", False),
        (".a@customer.example", False),
        ("a..b@customer.example", False),
        ("a@b@customer.example", False),
        ("a@-b.cz", False),
        ("a@127.0.0.1", False),
        ("růže@customer.example", False),
        ("a@customer.example ", False),
        ("a b@customer.example", False),
        ('"a b"@customer.example', False),
        ("a@customer.example\0", False),
    ],
)
def test_addresses_are_told_from_what_is_none(address: str, is_one: bool) -> None:
    assert is_address(address) is is_one


@pytest.mark.parametrize("link", [LINK, None])
def test_every_letter_has_its_link_and_code_whole_and_its_lines_short(link: str | None) -> None:
    for letter in (
        verification_letter(ADA, link, CODE, 24),
        known_address_letter(ADA, link, CODE, 24),
        reset_letter(ADA, link, CODE, 1),
    ):
        lines = letter.text.splitlines()
        assert CODE in lines
        assert [line for line in lines if "http" in line] == ([link] if link else [])
        assert all(len(line) <= 78 for line in lines if line != link)
    assert "http" not in password_changed_letter(ADA).text
