"""What is mailed to somebody to prove that an address is theirs: tokens that work once."""

from __future__ import annotations

from enum import StrEnum

from persistence.account_fields import checked_password_hash, checked_sha256
from persistence.account_registry import change_password
from persistence.login_sessions import holding_account
from persistence.queries import load_queries
from persistence.sessions import Pool, PooledConnection, writing
from reservation.ids import AccountId

TOKENS_PER_KIND_MAX = 3
"""Of one account. The next one takes the place of the one that expires first: whoever asks for
mail again and again may use the last few, and fills no table."""

_QUERIES = load_queries("accounts.sql")


class TokenKind(StrEnum):
    """What a mailed token is good for."""

    VERIFY_EMAIL = "verify_email"
    RESET_PASSWORD = "reset_password"


class MailedTokens:
    """Remembers tokens, and does what they are good for: of many callers exactly one succeeds.

    A token and what it does are one transaction: when it fails, the token still works.

    Raises:
        ShowUnavailable: from every method, when the database cannot be reached; nothing changed.
        OutcomeUnknown: from every method, when it went away in the middle.

    Args:
        pool: stays the caller's, with the rights of ``housefull_accounts``.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def put_token(
        self, kind: TokenKind, account_id: AccountId, token_sha256: bytes, expires_at_ms: int
    ) -> bool:
        """Remember a token that is about to be mailed.

        Returns:
            False when there is no such account, or it is disabled.
        """
        checked_sha256("token_sha256", token_sha256)
        async with holding_account(self._pool, account_id) as (connection, account):
            if account is None or account["state"] != "active":
                return False
            await connection.execute(
                _QUERIES["forget_excess_tokens"], account_id, kind, TOKENS_PER_KIND_MAX - 1
            )
            await connection.execute(
                _QUERIES["put_token"], token_sha256, kind, account_id, expires_at_ms
            )
        return True

    async def confirm_email(self, token_sha256: bytes, now_ms: int) -> AccountId | None:
        """Use a token that verifies an address.

        Returns:
            The account, whose address is verified now; None when there is no such token, it has
            expired, or its account is disabled.
        """
        checked_sha256("token_sha256", token_sha256)
        async with writing(self._pool) as connection, connection.transaction():
            account_id = await _use(connection, TokenKind.VERIFY_EMAIL, token_sha256, now_ms)
            if account_id is None:
                return None
            await connection.execute(_QUERIES["verify_email"], account_id, now_ms)
            await connection.execute(_QUERIES["forget_tokens"], account_id, TokenKind.VERIFY_EMAIL)
        return account_id

    async def reset_password(
        self, token_sha256: bytes, password_hash: str, now_ms: int
    ) -> AccountId | None:
        """Use a token that sets another password; every session of the account ends.

        Returns:
            The account, whose address is verified now as well: the token was read there. None
            when there is no such token, it has expired, or its account is disabled.

        Raises:
            ValueError: the hash cannot be stored; the message does not show it.
        """
        checked_sha256("token_sha256", token_sha256)
        checked_password_hash(password_hash)
        async with writing(self._pool) as connection, connection.transaction():
            account_id = await _use(connection, TokenKind.RESET_PASSWORD, token_sha256, now_ms)
            if account_id is None:
                return None
            await connection.execute(_QUERIES["verify_email"], account_id, now_ms)
            await change_password(connection, account_id, password_hash)
        return account_id


async def _use(
    connection: PooledConnection, kind: TokenKind, token_sha256: bytes, now_ms: int
) -> AccountId | None:
    """Use up a token of an active account, whose row is held afterwards."""
    found = await connection.fetchval(_QUERIES["account_of_token"], token_sha256, kind)
    if found is None:
        return None
    account = await connection.fetchrow(_QUERIES["lock_account"], found)
    if account is None or account["state"] != "active":
        return None
    used = await connection.fetchval(_QUERIES["use_token"], token_sha256, kind, now_ms)
    return None if used is None else AccountId(used)
