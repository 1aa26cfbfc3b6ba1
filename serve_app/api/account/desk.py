"""What the routes of the account application turn to."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from persistence.accounts import Accounts
from serve_app.access.access_tokens import TokenIssuer
from serve_app.access.key_ring import PublicKey
from serve_app.access.password_hasher import PasswordHasher
from serve_app.api.account.post_office import PostOffice
from serve_app.api.edge import probe_all


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountDesk:
    """What the routes need.

    Shapes:
        public_keys: the keys that are alive, as far as they are known.
        site_url: where customers find a page for the codes in letters; None: nowhere, and
            letters have only the codes.
        probes: reach everything that answering takes, each raising a fault if it cannot.
    """

    accounts: Accounts
    issuer: TokenIssuer
    public_keys: Callable[[], Sequence[PublicKey]]
    hasher: PasswordHasher
    post_office: PostOffice
    site_url: str | None = None
    probes: Sequence[Callable[[], Awaitable[object]]] = ()
    now_ms: Callable[[], int] = _now_ms

    async def probe(self) -> None:
        """See ``edge.Desk``."""
        await probe_all([self.accounts.list_public_keys(), *[probe() for probe in self.probes]])
