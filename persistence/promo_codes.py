"""Promo codes as they are stored; what they take off an order is ``reservation.promo_codes``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import asyncpg
import orjson

from persistence.catalogue_text import NAME_LENGTH_MAX, checked_text
from persistence.organiser_rows import (
    Page,
    Place,
    Put,
    PutStatements,
    digest_of,
    find_row,
    json_text,
    list_rows,
    put_change,
    put_new,
)
from persistence.queries import load_queries
from persistence.sessions import Pool, reading
from reservation.ids import ShowId, TenantId
from reservation.organiser_ids import PromoCodeId, SeriesId
from reservation.promo_codes import (
    AmountOff,
    PercentageOff,
    PromoTerms,
    Reduction,
    code_key,
)

_QUERIES = load_queries("organisers.sql")


@dataclass(frozen=True, slots=True)
class PromoCodeRow:
    """One promo code."""

    promo_code_id: PromoCodeId
    tenant_id: TenantId
    terms: PromoTerms
    version: int
    created_at_ms: int
    updated_at_ms: int


def _row_of(record: asyncpg.Record) -> PromoCodeRow:
    return PromoCodeRow(
        PromoCodeId(record["promo_code_id"]),
        TenantId(record["tenant_id"]),
        _terms_of(record["code"], record["is_active"], orjson.loads(record["terms_text"])),
        record["version"],
        record["created_at_ms"],
        record["updated_at_ms"],
    )


_PROMO_CODE = PutStatements(
    _QUERIES["insert_promo_code"],
    _QUERIES["find_promo_code"],
    _QUERIES["update_promo_code"],
    _QUERIES["list_promo_codes"],
    "promo_code_id",
    _row_of,
)


class PromoCodes:
    """Makes, finds and changes promo codes. The codes of one tenant differ, whatever their case.

    Raises:
        ValueError: from the writing methods, a field that cannot be stored; the message begins
            with its name.
        Fault: from every method, when the database is away.

    Args:
        pool: stays the caller's, with the rights of ``housefull_organiser``.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def create(
        self, tenant_id: TenantId, promo_code_id: PromoCodeId, terms: PromoTerms
    ) -> Put[PromoCodeRow]:
        """A new promo code; NAME_TAKEN when the tenant has this code already."""
        columns = _columns(terms)
        digest = digest_of(*columns)
        return await put_new(self._pool, _PROMO_CODE, tenant_id, promo_code_id, digest, *columns)

    async def find(self, tenant_id: TenantId, promo_code_id: PromoCodeId) -> PromoCodeRow | None:
        """The promo code; None when the tenant has none with this id."""
        return await find_row(self._pool, _PROMO_CODE, tenant_id, promo_code_id)

    async def find_by_code(self, tenant_id: TenantId, code: str) -> PromoCodeRow | None:
        """The promo code that a customer typed; None when the tenant has none like this."""
        try:
            key = code_key(code)
        except ValueError:
            return None
        async with reading(self._pool) as connection:
            record = await connection.fetchrow(_QUERIES["find_promo_code_by_code"], tenant_id, key)
        return None if record is None else _row_of(record)

    async def list(
        self, tenant_id: TenantId, limit: int = 50, after: Place | None = None
    ) -> Page[PromoCodeRow]:
        """The tenant's promo codes, the newest first."""
        return await list_rows(self._pool, _PROMO_CODE, tenant_id, limit, after)

    async def update(
        self,
        tenant_id: TenantId,
        promo_code_id: PromoCodeId,
        terms: PromoTerms,
        expected_version: int | None = None,
    ) -> Put[PromoCodeRow]:
        """Other terms. Orders that were paid keep what they got."""
        return await put_change(
            self._pool, _PROMO_CODE, tenant_id, promo_code_id, expected_version, *_columns(terms)
        )


def _columns(terms: PromoTerms) -> tuple[object, ...]:
    for name in terms.category_names:
        checked_text("category_names", name, NAME_LENGTH_MAX)
    for bound in ("valid_from_at_ms", "valid_until_at_ms"):
        at_ms = getattr(terms, bound)
        if at_ms is not None and abs(at_ms) >= 1 << 62:
            raise ValueError(f"{bound}: not an instant")
    key = code_key(terms.code)
    stored = {
        "reduction": _members_of(terms.reduction),
        "show_ids": terms.show_ids,
        "series_ids": terms.series_ids,
        "category_names": terms.category_names,
        "uses_max": terms.uses_max,
        "uses_per_customer_max": terms.uses_per_customer_max,
        "valid_from_at_ms": terms.valid_from_at_ms,
        "valid_until_at_ms": terms.valid_until_at_ms,
    }
    return terms.code.strip(" "), key, json_text("terms", stored), terms.is_active


def _members_of(reduction: Reduction) -> dict[str, object]:
    if isinstance(reduction, PercentageOff):
        return {"basis_points": reduction.basis_points}
    return {
        "amount_minor": reduction.amount_minor,
        "currency": reduction.currency,
        "each_place": reduction.each_place,
    }


def _terms_of(code: str, is_active: bool, stored: dict[str, Any]) -> PromoTerms:
    reduction = stored["reduction"]
    return PromoTerms(
        code=code,
        reduction=PercentageOff(**reduction)
        if "basis_points" in reduction
        else AmountOff(**reduction),
        show_ids=frozenset(map(ShowId, stored["show_ids"])),
        series_ids=frozenset(map(SeriesId, stored["series_ids"])),
        category_names=frozenset(stored["category_names"]),
        uses_max=stored["uses_max"],
        uses_per_customer_max=stored["uses_per_customer_max"],
        valid_from_at_ms=stored["valid_from_at_ms"],
        valid_until_at_ms=stored["valid_until_at_ms"],
        is_active=is_active,
    )
