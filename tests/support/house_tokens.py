"""Tokens that a whole house accepts, for tests and measurements that start one."""

from __future__ import annotations

from persistence.accounts import Accounts
from persistence.sessions import open_pool
from persistence.signing_keys import SigningKeyRow
from serve_app.access.key_ring import SigningKey, new_signing_key
from tests.support.access import Tokens


async def tokens_of_house(admin_dsn: str) -> Tokens:
    """Tokens that a whole house accepts: signed with its own key, or with its first one."""
    pool = await open_pool(admin_dsn, "tests", size_max=1)
    try:
        accounts = Accounts(pool)
        first = new_signing_key()
        row = SigningKeyRow(first.kid, first.private_pem, first.public_raw, 0, 0, None)
        await accounts.add_signing_key(row, only_first=True)
        newest = max(await accounts.list_signing_keys(), key=lambda key: key.signs_from_at_ms)
        return Tokens(SigningKey(newest.kid, newest.private_pem, newest.public_raw))
    finally:
        await pool.close()
