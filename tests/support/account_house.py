"""The account application over a real database, with letters in a directory.

Its keys, revocations and rights are the real ones: sessions of the database have the role that the
application has, and the verifier learns what it is told from there.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from integrations.mail.directory_mailbox import DirectoryMailbox
from persistence.accounts import Accounts
from persistence.migrate import ACCOUNTS_GROUP
from persistence.sessions import Pool, open_pool
from reservation.access import HOUSE_TENANT, TENANT_ROLES, Role
from reservation.ids import AccountId, TenantId
from serve_app.access.access_tokens import TokenIssuer, TokenVerifier
from serve_app.access.access_watch import AccessWatch
from serve_app.access.hashing_process import HashingProcess
from serve_app.access.password_hasher import PasswordHasher
from serve_app.api.account.application import build_account_api
from serve_app.api.account.caretaker import Caretaker
from serve_app.api.account.desk import AccountDesk
from serve_app.api.account.post_office import PostOffice, open_post_office
from serve_app.api.limits import RequestLimits
from serve_app.api.principals import Gate
from serve_app.house.signing_keys import ensure_signing_key

ACCOUNT = "/api/account"
BODY_BYTES_MAX = 65_536
PASSWORD = "correct horse battery"
NOW_MS = 1_790_000_000_000

_CODE = re.compile(r"^[A-Za-z0-9_-]{43}$", re.MULTILINE)
_numbers = itertools.count(1)


class CountingHasher(PasswordHasher):
    """Counts what it computes: one for each password hash, made or checked."""

    def __init__(self) -> None:
        super().__init__(gives_way=False)
        self.computed = 0
        process, house = self._process, self

        class Counting(HashingProcess):
            async def ask(self, request: Mapping[str, str]) -> dict[str, object]:
                answer = await process.ask(request)
                house.computed += 2 if answer.get("rehash") else 1
                return answer

            def close(self) -> None:
                process.close()

        self._process = Counting()


class AccountHouse:
    """One account application. ``now_ms`` is the clock of its handlers, not of the tokens."""

    def __init__(self, pool: Pool, office: PostOffice, mail: Path) -> None:
        self.accounts = Accounts(pool)
        self.hasher = CountingHasher()
        self.issuer = TokenIssuer()
        self.verifier = TokenVerifier()
        self.watch = AccessWatch(self.accounts, self.verifier)
        self.caretaker = Caretaker(self.accounts, self.issuer)
        self.office = office
        self.site_url: str | None = None
        self._mail = mail
        self._read = 0

    def app(self, limits: RequestLimits | None = None) -> FastAPI:
        """The application."""
        desk = AccountDesk(
            accounts=self.accounts,
            issuer=self.issuer,
            public_keys=lambda: self.caretaker.public_keys,
            hasher=self.hasher,
            post_office=self.office,
            site_url=self.site_url,
        )

        @asynccontextmanager
        async def open_desk() -> AsyncIterator[AccountDesk]:
            yield desk

        return build_account_api(
            open_desk, gate=Gate(self.verifier), body_bytes_max=BODY_BYTES_MAX, limits=limits
        )

    async def learn(self) -> None:
        """What the background would learn within a second: keys, and what was revoked."""
        await self.caretaker.read_keys()
        assert await self.watch.refresh_keys()
        assert await self.watch.refresh_revocations()

    async def letters(self) -> list[EmailMessage]:
        """The letters since the last time, in the order of writing."""
        await self.office.is_idle()
        files = sorted(self._mail.glob("*.eml")) if self._mail.exists() else []
        new, self._read = files[self._read :], len(files)
        return [message_from_bytes(file.read_bytes(), policy=default) for file in new]

    async def code(self) -> str:
        """The code in the only letter since the last time."""
        (letter,) = await self.letters()
        (code,) = _CODE.findall(letter.get_content().replace("\r", ""))
        return str(code)

    async def make_account(
        self,
        role: Role = Role.CUSTOMER,
        tenant_id: TenantId = HOUSE_TENANT,
        *,
        is_verified: bool = True,
        password: str = PASSWORD,
    ) -> tuple[AccountId, str]:
        """A new account, behind the application's back; its id and e-mail address."""
        email = new_email()
        account_id = await self.accounts.sign_up(
            email,
            await self.hasher.hash(password),
            "Somebody",
            NOW_MS,
            role=role,
            tenant_id=tenant_id if role in TENANT_ROLES else None,
            is_verified=is_verified,
        )
        assert account_id is not None
        return account_id, email


def new_email() -> str:
    """An address that nobody has used."""
    return f"somebody{next(_numbers)}@customer.example"


async def log_in(
    client: httpx.AsyncClient, email: str, password: str = PASSWORD, **headers: str
) -> dict[str, Any]:
    """A new session, as the answer says it."""
    answer = await client.post(
        "/sessions", json={"email": email, "password": password}, headers=headers
    )
    assert answer.status_code == 201, answer.text
    session: dict[str, Any] = answer.json()
    return session


def bearer(session: dict[str, Any]) -> dict[str, str]:
    """The header that goes with a session or an access token."""
    return {"Authorization": f"Bearer {session['access_token']}"}


@asynccontextmanager
async def open_account_house(dsn: str, mail: Path) -> AsyncIterator[AccountHouse]:
    """A house over a migrated database, as the application's own role sees it."""
    async with AsyncExitStack() as opened:
        pool = await open_pool(dsn, "tests", size_max=5, role=ACCOUNTS_GROUP)
        opened.push_async_callback(pool.close)
        mailbox = DirectoryMailbox(mail, "Housefull <tickets@housefull.example>")
        office = await opened.enter_async_context(open_post_office(mailbox))
        house = AccountHouse(pool, office, mail)
        opened.callback(house.hasher.close)
        await ensure_signing_key(house.accounts)
        await house.learn()
        yield house
