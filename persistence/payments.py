"""The payments of one database: begun, leased, changed one step at a time, paid back.

Theory of operation
-------------------
The row of a payment decides; whoever wants to move it says what he has read, and moves nothing
when it is not that any more (``Payment.version``). Three kinds of writers meet here:

* ``append_batch`` (``sql/migrations/0005_payments.sql``) books with a payment, or cancels what was
  booked, in the transaction of the booking itself. It asks nobody's version, only the state.
* The payment worker leases what is due and saves step after step. A lease makes a new version, so
  a worker whose lease ran out cannot save any more.
* The web hands a payment to the provider, and wakes one that a provider has sent word of. Waking
  makes a new version too: a worker that has looked at the provider before the word came must look
  again.

What nobody may do is refused by the database, whoever asks: going back, booking without a booking,
paying back more than was taken. Every change of money writes its entry of the ledger in the same
statement (``persistence.payment_books`` reads it).

Of a kind, one statement is under way at a time. What is asked meanwhile leaves together, in one
statement and one transaction (``persistence.together``): so a crowd's commits are few.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum
from typing import NamedTuple

from persistence.coalesced import Coalesced
from persistence.organiser_rows import Page, Place, check_limit, checked_place
from persistence.payment_rows import (
    SAVED_FIELDS,
    PromoUse,
    StoredPayment,
    changed_refunds_json,
    new_payment_json,
    saved_payment_json,
    stored_payment_of,
)
from persistence.queries import load_queries
from persistence.sessions import Pool, reading, writing
from persistence.together import Together
from reservation.checkout import Checkout, returned_minor
from reservation.ids import CustomerId, HoldId, PaymentId, ShowId
from reservation.payment import Payment, PaymentState
from reservation.price import Price

_QUERIES = load_queries("payments.sql")

LEASED_AT_ONCE_MAX = 1_000
PAYMENTS_PER_PAGE_MAX = 1_000
ERROR_LENGTH_MAX = 1_000

# What went back is counted by the database, from the refunds.
_MOVING_FIELDS = frozenset({*SAVED_FIELDS, "version", "refunded_minor"})
_FIXED_FIELDS = tuple(name for name in Payment.__dataclass_fields__ if name not in _MOVING_FIELDS)


class BeginOutcome(StrEnum):
    """What became of a request to begin a payment."""

    BEGUN = "begun"
    REPEATED = "repeated"  #: It was begun before, by the same request.
    OTHER_CONTENT = "other_content"  #: The id was used for another request.
    HOLD_HAS_PAYMENT = "hold_has_payment"  #: Another payment of this hold is alive.


class Begun(NamedTuple):
    """An outcome and the payment there is: the one asked for, or the one that is in its way.

    ``stored`` is None only when what was in the way has gone meanwhile; ask again.
    """

    outcome: BeginOutcome
    stored: StoredPayment | None


class _Change(NamedTuple):
    """What ``save_checkout`` is told."""

    payment_id: PaymentId
    version: int
    state: PaymentState
    after: str
    refunds: str
    keeps_lease: bool


class Payments:
    """Stores the payments of one database. Belongs to one event loop.

    Raises:
        ShowUnavailable: from every method, when the database cannot be reached; nothing changed.
        OutcomeUnknown: from the writing methods, when it went away in the middle.

    Args:
        pool: stays the caller's, with the rights of ``housefull_application``.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._begins = Together(self._begin_all)
        self._finds = Coalesced(self._find_all, waits_for_company=True)
        self._finds_by_hold = Coalesced(self._find_all_by_hold, waits_for_company=True)
        self._lists_by_hold = Coalesced(self._list_all_by_hold, waits_for_company=True)
        self._saves = Together(self._save_all)

    async def begin(self, payment: Payment, price: Price, promo: PromoUse | None = None) -> Begun:
        """Write a new payment down, before anybody asks its provider.

        Repeating it is harmless: times do not count, everything else must be the same.

        Args:
            price: what the customer agrees to pay; kept as it is.
            promo: the use that was taken of a promo code (``persistence.promo_uses``), so that
                whoever ends the payment can give it back.
        """
        assert payment.state is PaymentState.CREATED, "a payment begins as created"
        assert price.total_minor == payment.amount_minor, "the lines do not add up to the amount"
        assert price.currency == payment.currency, "the price is in another currency"
        verdict, known = await self._begins(new_payment_json(payment, price, promo))
        if verdict is BeginOutcome.BEGUN:
            return Begun(verdict, StoredPayment(Checkout(payment), price, promo, None, None))
        return Begun(verdict, None if known is None else await self.find(known))

    async def find(self, payment_id: PaymentId) -> StoredPayment | None:
        """The payment with this id."""
        return _one(await self._finds([payment_id]))

    async def find_each(self, payment_ids: Sequence[PaymentId]) -> list[StoredPayment | None]:
        """The payments with these ids, in this order."""
        if not payment_ids:
            return []
        found = await self._finds(payment_ids)
        assert found is not None, "there are answers"
        return found

    async def find_by_hold(self, hold_id: HoldId) -> StoredPayment | None:
        """The payment that a hold was booked with, else its living one, else its newest."""
        return _one(await self._finds_by_hold([hold_id]))

    async def find_by_provider_ref(self, provider: str, provider_ref: str) -> StoredPayment | None:
        """The payment that this object of a provider is of."""
        return await self._find("find_payment_by_provider_ref", provider, provider_ref)

    async def list_by_hold(self, hold_id: HoldId) -> list[StoredPayment]:
        """All payments that were begun for a hold, the newest first."""
        found = await self._lists_by_hold([hold_id])
        assert found is not None, "there is an answer"
        return found[0]

    async def list_by_customer(
        self, customer_id: CustomerId, limit: int = 50, after: Place | None = None
    ) -> Page[StoredPayment]:
        """A customer's payments in this database, the newest first."""
        check_limit(limit)
        place = checked_place(after, Place(1 << 62, ""))
        found = await self._fetch("list_payments_by_customer", customer_id, *place, limit + 1)
        last = found[limit - 1].payment if len(found) > limit else None
        return Page(
            tuple(found[:limit]),
            None if last is None else Place(last.created_at_ms, last.payment_id),
        )

    async def list_by_show(
        self, show_id: ShowId, limit: int = 100, after: PaymentId | None = None
    ) -> list[StoredPayment]:
        """A show's payments in the order of their ids; shorter than ``limit`` on the last page."""
        assert 1 <= limit <= PAYMENTS_PER_PAGE_MAX, "a page of this length"
        return await self._fetch(
            "list_payments_of_show", show_id, after or "pay_" + show_id[4:], limit
        )

    async def stuck(self, unmoved_since_ms: int, limit: int = 100) -> list[StoredPayment]:
        """Payments that are not at their end, and in the same state since before that instant."""
        return await self._fetch("list_unfinished_payments", unmoved_since_ms, limit)

    # -- moving -------------------------------------------------------------------------

    async def lease_due(self, owner: str, limit: int, lease_ms: int) -> list[StoredPayment]:
        """Take up to ``limit`` payments that are due; for so long nobody else gets them."""
        assert 1 <= limit <= LEASED_AT_ONCE_MAX, "a lease of so many"
        async with writing(self._pool) as connection:
            rows = await connection.fetch(_QUERIES["lease_payments"], owner, limit, lease_ms)
        return sorted(map(stored_payment_of, rows), key=lambda each: each.payment.due_at_ms or 0)

    async def end_leases(self, actor: str, owner: str) -> int:
        """End the leases of an actor's earlier incarnations; how many payments are free by that.

        Args:
            actor: what owners begin with, before a slash.
            owner: the present incarnation, which keeps its own.
        """
        async with writing(self._pool) as connection:
            ended: int = await connection.fetchval(_QUERIES["end_leases"], actor, owner)
        return ended

    async def next_due_at_ms(self) -> int | None:
        """When the next payment is due, or its lease is over; None when there is nothing to do."""
        async with reading(self._pool) as connection:
            due_at_ms: int | None = await connection.fetchval(_QUERIES["next_due_at"])
        return due_at_ms

    async def save(
        self,
        before: Checkout,
        after: Checkout,
        *,
        charge_ref: str | None = None,
        last_error: str | None = None,
        keeps_lease: bool = False,
    ) -> Checkout | None:
        """Change a payment and its refunds, if the payment is still as ``before``.

        Args:
            charge_ref: what captures and refunds name; None leaves it as it is.
            keeps_lease: whoever leased it goes on with it; otherwise its lease ends here.

        Returns:
            The checkout as it is now, or None when somebody else moved it meanwhile: nothing
            changed, read it again.

        Raises:
            asyncpg.PostgresError: a bug, and nothing changed: no payment goes that way (HF003), or
                its refunds are more than was captured (HF008).
        """
        for name in _FIXED_FIELDS:
            is_same = getattr(before.payment, name) == getattr(after.payment, name)
            assert is_same, f"{name} is not for saving"
        error = last_error and last_error.replace("\0", "")[:ERROR_LENGTH_MAX]
        change = _Change(
            before.payment.payment_id,
            before.payment.version,
            before.payment.state,
            saved_payment_json(after.payment, charge_ref, error),
            changed_refunds_json(before, after),
            keeps_lease,
        )
        version = await self._saves(change)
        if version is None:
            return None
        return replace(
            after,
            payment=replace(after.payment, version=version, refunded_minor=returned_minor(after)),
        )

    async def wake(self, payment_id: PaymentId) -> bool:
        """Make a payment due, because its provider has news; False when there is no such one."""
        async with writing(self._pool) as connection:
            is_there: bool = await connection.fetchval(_QUERIES["wake_payment"], payment_id)
        return is_there

    # -- together -----------------------------------------------------------------------

    async def _begin_all(self, new: Sequence[str]) -> list[tuple[BeginOutcome, PaymentId | None]]:
        async with writing(self._pool) as connection:
            rows = await connection.fetch(_QUERIES["begin_payments"], new)
        return [
            (BeginOutcome(row["verdict"]), row["payment_id"])
            for row in sorted(rows, key=lambda row: int(row["n"]))
        ]

    async def _save_all(self, changes: Sequence[_Change]) -> list[int | None]:
        async with writing(self._pool) as connection:
            rows = await connection.fetch(_QUERIES["save_checkouts"], *zip(*changes, strict=True))
        versions: dict[int, int | None] = {row["n"]: row["version"] for row in rows}
        return [versions[n] for n in range(1, len(changes) + 1)]

    async def _find_all(self, payment_ids: Sequence[PaymentId]) -> list[StoredPayment | None]:
        found = await self._fetch("find_payments", payment_ids)
        by_id = {stored.payment.payment_id: stored for stored in found}
        return [by_id.get(payment_id) for payment_id in payment_ids]

    async def _find_all_by_hold(self, hold_ids: Sequence[HoldId]) -> list[StoredPayment | None]:
        async with reading(self._pool) as connection:
            rows = await connection.fetch(_QUERIES["find_payments_of_holds"], hold_ids)
        by_hold = {row["asked_hold_id"]: stored_payment_of(row) for row in rows}
        return [by_hold.get(hold_id) for hold_id in hold_ids]

    async def _list_all_by_hold(self, hold_ids: Sequence[HoldId]) -> list[list[StoredPayment]]:
        found: dict[HoldId, list[StoredPayment]] = {}
        for stored in await self._fetch("list_payments_of_holds", hold_ids):
            found.setdefault(stored.payment.hold_id, []).append(stored)
        return [found.get(hold_id, []) for hold_id in hold_ids]

    async def _find(self, query: str, *arguments: object) -> StoredPayment | None:
        found = await self._fetch(query, *arguments)
        return found[0] if found else None

    async def _fetch(self, query: str, *arguments: object) -> list[StoredPayment]:
        async with reading(self._pool) as connection:
            rows = await connection.fetch(_QUERIES[query], *arguments)
        return [stored_payment_of(row) for row in rows]


def _one(found: list[StoredPayment | None] | None) -> StoredPayment | None:
    assert found is not None, "there is an answer"
    return found[0]
