"""What a show charges besides its fares, and what it gives back to those who cancel.

Set by its organiser, in the first database. Nobody has to set any: then a hold costs what its
places cost, and whoever cancels before the start gets everything back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import orjson

from persistence.coalesced import Coalesced
from persistence.organiser_rows import Put, PutOutcome, is_storable_id
from persistence.queries import load_queries
from persistence.sessions import Pool, reading, writing
from reservation.ids import ShowId, TenantId
from reservation.price import FeeBasis, FeeTerm, PriceTerms, TaxBase, TaxTerm
from reservation.refunds import RefundBand, RefundPolicy

_QUERIES = load_queries("show_terms.sql")


@dataclass(frozen=True, slots=True)
class ShowTerms:
    """The terms of one show; ``version`` is 0 while nobody has set any."""

    price_terms: PriceTerms = field(default_factory=PriceTerms)
    refund_policy: RefundPolicy = field(default_factory=RefundPolicy)
    version: int = 0
    updated_at_ms: int = 0


class ShowTermsStore:
    """Finds and sets the terms of shows.

    Raises:
        ShowUnavailable: from every method, when the database cannot be reached; nothing changed.
        OutcomeUnknown: from ``put``, when it went away in the middle; repeat it.

    Args:
        pool: stays the caller's: the first database, with the rights of ``housefull_organiser``;
            those of ``housefull_application`` are enough for ``find``.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._finds = Coalesced(self._find_all)

    async def find(self, show_id: ShowId) -> ShowTerms:
        """The terms of a show as they are now."""
        found = await self._finds([show_id])
        assert found is not None, "there is an answer"
        return found[0]

    async def _find_all(self, show_ids: Sequence[ShowId]) -> list[ShowTerms]:
        async with reading(self._pool) as connection:
            rows = await connection.fetch(_QUERIES["find_show_terms"], list(set(show_ids)))
        found = {row["show_id"]: _terms_of(row) for row in rows}
        return [found.get(show_id) or ShowTerms() for show_id in show_ids]

    async def put(
        self,
        tenant_id: TenantId,
        show_id: ShowId,
        price_terms: PriceTerms,
        refund_policy: RefundPolicy,
        expected_version: int | None = None,
    ) -> Put[ShowTerms]:
        """Set the terms of a tenant's show. Payments that were begun keep theirs.

        Args:
            expected_version: STALE when the terms have another one; None for whatever there is.
        """
        if not is_storable_id(show_id) or not is_storable_id(tenant_id):
            return Put(PutOutcome.NOT_FOUND)
        async with writing(self._pool) as connection:
            row = await connection.fetchrow(
                _QUERIES["put_show_terms"],
                tenant_id,
                show_id,
                orjson.dumps(price_terms).decode(),
                orjson.dumps(_policy_json(refund_policy)).decode(),
                expected_version,
            )
            if row is not None:
                return Put(PutOutcome.UPDATED, _terms_of(row))
            is_there = await connection.fetchval(_QUERIES["has_show"], tenant_id, show_id)
        return Put(PutOutcome.STALE if is_there else PutOutcome.NOT_FOUND)


def _policy_json(policy: RefundPolicy) -> dict[str, object]:
    return {"bands": [tuple(band) for band in policy.bands], "kept_minor": policy.kept_minor}


def _terms_of(row: asyncpg.Record) -> ShowTerms:
    prices: dict[str, Any] = orjson.loads(row["price_terms"])
    policy: dict[str, Any] = orjson.loads(row["refund_policy"])
    return ShowTerms(
        PriceTerms(
            tuple(
                FeeTerm(fee["name"], FeeBasis(fee["basis"]), fee["rate"]) for fee in prices["fees"]
            ),
            tuple(
                TaxTerm(tax["name"], TaxBase(tax["base"]), tax["basis_points"], tax["is_included"])
                for tax in prices["taxes"]
            ),
        ),
        RefundPolicy(tuple(RefundBand(*band) for band in policy["bands"]), policy["kept_minor"]),
        row["version"],
        row["updated_at_ms"],
    )
