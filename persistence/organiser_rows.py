"""What the stores of an organiser's work have in common: outcomes, pages, and how rows are put.

Every row belongs to a tenant, and every question names one: a row of another tenant is not there.
A row is made under an id that its maker chose (``reservation.organiser_ids``), so that a repeated
request finds what it made; ``request_digest`` tells it from another request under the same id. A
row counts its changes, so that two people who edit it notice each other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from enum import StrEnum
from typing import Generic, NamedTuple, TypeVar

import asyncpg
import orjson

from persistence.catalogue_text import checked_text, name_key_of
from persistence.sessions import Pool, reading, writing
from reservation.ids import TenantId

PAGE_LENGTH_MAX = 100
NAME_LENGTH_MAX = 200

Row = TypeVar("Row")


class PutOutcome(StrEnum):
    """What became of a request to make or change a row."""

    CREATED = "created"
    UPDATED = "updated"
    DELETED = "deleted"
    REPEATED = "repeated"  #: It was done before.
    ID_TAKEN = "id_taken"  #: The id was used for another request.
    NAME_TAKEN = "name_taken"  #: Another row of the tenant has this name or code.
    NOT_FOUND = "not_found"  #: There is no such row, or it is another tenant's.
    STALE = "stale"  #: The row has changed since, or is not in the state for this.
    REFERENCE_NOT_FOUND = "reference_not_found"  #: It names what is not there, or another tenant's.
    IN_USE = "in_use"  #: Others refer to it.


class Put(NamedTuple, Generic[Row]):
    """An outcome and, after CREATED, UPDATED and REPEATED, the row as it is now."""

    outcome: PutOutcome
    row: Row | None = None


class Place(NamedTuple):
    """Where to go on in a list: right after this row."""

    at_ms: int
    id: str


class Page(NamedTuple, Generic[Row]):
    """Some rows; ``next`` is None on the last page."""

    items: tuple[Row, ...]
    next: Place | None


class PutStatements(NamedTuple, Generic[Row]):
    """How one kind of row is made, found, changed and listed.

    Shapes:
        insert: does nothing when the id is taken, and returns the row it made.
        find: by tenant and id. update: by tenant, id and expected version or NULL.
        list: by tenant, the place ``(at_ms, id)`` to go on after, and how many.
    """

    insert: str
    find: str
    update: str
    list: str
    id_column: str
    row_of: Callable[[asyncpg.Record], Row]


async def put_new(
    pool: Pool,
    statements: PutStatements[Row],
    tenant_id: TenantId,
    row_id: str,
    digest: bytes,
    *columns: object,
) -> Put[Row]:
    """Make a row; see ``PutOutcome``."""
    try:
        async with writing(pool) as connection:
            record = await connection.fetchrow(
                statements.insert, tenant_id, row_id, digest, *columns
            )
    except asyncpg.ForeignKeyViolationError:
        return Put(PutOutcome.REFERENCE_NOT_FOUND)
    except asyncpg.UniqueViolationError:
        conflict = PutOutcome.NAME_TAKEN
    else:
        if record is not None:
            return Put(PutOutcome.CREATED, statements.row_of(record))
        conflict = PutOutcome.ID_TAKEN
    # Whatever stood in the way, it may be what this same request made a moment ago.
    async with reading(pool) as connection:
        record = await connection.fetchrow(statements.find, tenant_id, row_id)
    if record is None:
        return Put(conflict)
    if record["request_digest"] != digest:
        return Put(PutOutcome.ID_TAKEN)
    return Put(PutOutcome.REPEATED, statements.row_of(record))


async def put_change(
    pool: Pool,
    statements: PutStatements[Row],
    tenant_id: TenantId,
    row_id: str,
    expected_version: int | None,
    *columns: object,
    update: str | None = None,
) -> Put[Row]:
    """Change a row by its own statement, or by ``update``; see ``PutOutcome``."""
    if not is_storable_id(row_id):
        return Put(PutOutcome.NOT_FOUND)
    try:
        async with writing(pool) as connection:
            record = await connection.fetchrow(
                update or statements.update, tenant_id, row_id, expected_version, *columns
            )
            if record is not None:
                return Put(PutOutcome.UPDATED, statements.row_of(record))
            known = await connection.fetchrow(statements.find, tenant_id, row_id)
    except asyncpg.ForeignKeyViolationError:
        return Put(PutOutcome.REFERENCE_NOT_FOUND)
    except asyncpg.UniqueViolationError:
        return Put(PutOutcome.NAME_TAKEN)
    return Put(PutOutcome.NOT_FOUND if known is None else PutOutcome.STALE)


async def find_row(
    pool: Pool, statements: PutStatements[Row], tenant_id: TenantId, row_id: str
) -> Row | None:
    """The tenant's row with this id."""
    if not is_storable_id(row_id) or not is_storable_id(tenant_id):
        return None
    async with reading(pool) as connection:
        record = await connection.fetchrow(statements.find, tenant_id, row_id)
    return None if record is None else statements.row_of(record)


async def list_rows(
    pool: Pool,
    statements: PutStatements[Row],
    tenant_id: TenantId,
    limit: int,
    after: Place | None,
) -> Page[Row]:
    """Rows of the tenant, the newest first.

    Raises:
        ValueError: ``limit`` is not in 1..100, or ``after`` is no place.
    """
    check_limit(limit)
    place = checked_place(after, Place(1 << 62, ""))
    async with reading(pool) as connection:
        records = await connection.fetch(statements.list, tenant_id, *place, limit + 1)
    last = records[limit - 1] if len(records) > limit else None
    return Page(
        tuple(statements.row_of(record) for record in records[:limit]),
        None if last is None else Place(last["created_at_ms"], last[statements.id_column]),
    )


def check_limit(limit: int) -> None:
    """Refuse the length of a page.

    Raises:
        ValueError: it is not in 1..100.
    """
    if not 1 <= limit <= PAGE_LENGTH_MAX:
        raise ValueError(f"limit: not in 1..{PAGE_LENGTH_MAX}")


def checked_place(after: Place | None, start: Place) -> Place:
    """The place to go on after, ``start`` when there is none yet.

    Raises:
        ValueError: it is no place of any list.
    """
    if after is None:
        return start
    if not -(1 << 62) <= after.at_ms <= 1 << 62 or not is_storable_id(after.id):
        raise ValueError("after: not a place in this list")
    return after


def is_storable_id(text: str) -> bool:
    """Whether an id may be asked for; anything else is an id of nothing."""
    return len(text) <= 100 and text.isascii() and text.isprintable()


def checked_name(field: str, name: str, length_max: int = NAME_LENGTH_MAX) -> str:
    """``name`` itself, when it can be a name.

    Raises:
        ValueError: it is blank, too long or cannot be stored.
    """
    if not checked_text(field, name, length_max).strip():
        raise ValueError(f"{field}: blank")
    return name


def key_of_name(name: str) -> str:
    """What two names have in common that a person would take for the same.

    Example:
        >>> key_of_name("Velký  sál") == key_of_name("velky sal")
        True
    """
    return name_key_of(name)


def digest_of(*content: object) -> bytes:
    """What tells one request from another; ``content`` is what JSON can say."""
    return hashlib.sha256(orjson.dumps(content, default=_plain)).digest()


def _plain(value: object) -> object:
    if isinstance(value, frozenset | set):
        return sorted(value)
    if isinstance(value, tuple):
        return list(value)
    raise TypeError(f"{type(value).__name__} has no digest")


def json_text(field: str, value: object) -> str:
    """``value`` as a column of JSON has it.

    Raises:
        ValueError: it has something that JSON or Postgres cannot say.
    """
    try:
        encoded = orjson.dumps(value, default=_plain).decode()
    except TypeError as error:
        raise ValueError(f"{field}: cannot be stored ({error})") from error
    if "\\u0000" in encoded.replace("\\\\", ""):
        raise ValueError(f"{field}: has a zero character")
    return encoded
