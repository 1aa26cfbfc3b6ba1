"""The keys that sign access tokens.

A new key is *published* first: everybody can read its public part, and nobody uses it. From
``signs_from_at_ms`` on it signs, and the one before it only verifies what it signed, until
``verifies_until_at_ms``. So no reader ever meets a token whose key it could not have known.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NamedTuple

from persistence.catalogue_text import checked_text
from persistence.queries import load_queries
from persistence.sessions import Pool, reading, writing

_PRIVATE_LENGTH_MAX = 2_000
_KID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_PUBLIC_BYTES = 32
_LOCK = int.from_bytes(b"sign key", "big") >> 1
_QUERIES = load_queries("accounts.sql")


class PublicKeyRow(NamedTuple):
    """What everybody may know of a key that is alive.

    ``verifies_until_at_ms`` is None while nothing is going to take its place.
    """

    kid: str
    public_raw: bytes
    signs_from_at_ms: int
    verifies_until_at_ms: int | None


@dataclass(frozen=True, slots=True)
class SigningKeyRow:
    """A key with its private part, which is not shown when the row is printed."""

    kid: str
    private_pem: str = field(repr=False)
    public_raw: bytes
    created_at_ms: int
    signs_from_at_ms: int
    verifies_until_at_ms: int | None = None


class SigningKeys:
    """Adds, lists and retires keys.

    Raises:
        ShowUnavailable: from every method, when the database cannot be reached; nothing changed.
        OutcomeUnknown: from the writing methods, when it went away in the middle; repeat them.

    Args:
        pool: stays the caller's, with the rights of ``housefull_accounts``; every group of roles
            may use ``list_public_keys``.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def add_signing_key(self, key: SigningKeyRow, *, only_first: bool = False) -> bool:
        """Publish a key.

        Args:
            only_first: leave everything as it is when some key is alive already. Of any number
                of processes that start at once, one adds its key.

        Returns:
            False when nothing was added: this kid is there, or ``only_first`` and there is a key.

        Raises:
            ValueError: a field cannot be stored; the message begins with its name.
        """
        if _KID.fullmatch(key.kid) is None:
            raise ValueError("kid: not 1 to 64 letters, digits, - and _")
        if not checked_text("private_pem", key.private_pem, _PRIVATE_LENGTH_MAX):
            raise ValueError("private_pem: empty")
        if len(key.public_raw) != _PUBLIC_BYTES:
            raise ValueError(f"public_raw: not {_PUBLIC_BYTES} bytes")
        async with writing(self._pool) as connection, connection.transaction():
            await connection.execute(_QUERIES["lock_signing_keys"], _LOCK)
            if only_first and await connection.fetchval(_QUERIES["some_key_is_alive"]):
                return False
            status = await connection.execute(
                _QUERIES["add_signing_key"],
                key.kid,
                key.private_pem,
                key.public_raw,
                key.created_at_ms,
                key.signs_from_at_ms,
                key.verifies_until_at_ms,
            )
        return status == "INSERT 0 1"

    async def retire_signing_key(self, kid: str, verifies_until_at_ms: int) -> bool:
        """Let a key verify until then and no longer; an earlier end that it has stays.

        Returns:
            False when there is no such key.
        """
        if _KID.fullmatch(kid) is None:
            return False
        async with writing(self._pool) as connection:
            status = await connection.execute(
                _QUERIES["retire_signing_key"], kid, verifies_until_at_ms
            )
        return status == "UPDATE 1"

    async def list_signing_keys(self) -> list[SigningKeyRow]:
        """The keys that are alive, private parts included, in the order in which they sign."""
        async with reading(self._pool) as connection:
            rows = await connection.fetch(_QUERIES["list_signing_keys"])
        return [SigningKeyRow(**row) for row in rows]

    async def list_public_keys(self) -> list[PublicKeyRow]:
        """The public parts of the keys that are alive, in the order in which they sign."""
        async with reading(self._pool) as connection:
            rows = await connection.fetch(_QUERIES["list_public_keys"])
        return [PublicKeyRow(*row) for row in rows]
