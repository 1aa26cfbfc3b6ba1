"""Holding the books against the providers', both ways: what webhooks and workers have missed.

Everything that the providers have of the last three days is looked up here, and everything here
that has taken too long is looked at there. What lags is woken, and goes its usual way; what only a
person can judge is an alarm:

* A payment that carries an id of ours and has no row. The row is always written before a provider
  hears of it, so either another house uses the same account, or our database was restored to an
  earlier day. In both cases it may pay for places that somebody has: it is never paid back by
  itself.
* A second object of a payment that has its row. That one is certainly ours and pays for nothing:
  it is cancelled, or paid back when it was paid.
* Books that do not add up.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from actors.config import ActorsConfig
from actors.payment_stores import PaymentStores
from actors.provider_calls import open_gateways
from integrations.payments.payment_gateway import PaymentGateway, ProviderPayment, ProviderState
from persistence.payment_rows import StoredPayment
from reservation.checkout import UNBOOKED_TOO_LONG_MS, alarms_of
from reservation.faults import Fault
from reservation.ids import ShowId, is_payment_id
from reservation.payment import PaymentState

LOOKED_BACK_MS = 72 * 3_600_000
LOOKED_UP_AT_ONCE = 100
STUCK_LISTED_MAX = 1_000
SHOWS_ADDED_UP_MAX = 500

_UNPAID = (PaymentState.CREATED, PaymentState.OPEN, PaymentState.FAILED)
_PAID = (ProviderState.AUTHORISED, ProviderState.CAPTURED)


class FindingKind(StrEnum):
    """What was found."""

    LAGS = "lags"  #: The provider knows more than the row; it was woken.
    STUCK = "stuck"  #: It takes too long here.
    NO_ROW = "no_row"  #: An id of ours that is not here.
    SECOND_OBJECT = "second_object"  #: A payment is there twice; the second was ended.
    BOOKS = "books"  #: A show's ledger and its payments disagree.


class Finding(NamedTuple):
    """Something that was not as it should be.

    Shapes:
        subject: a payment id, a show id, or the provider and its reference.
    """

    kind: FindingKind
    subject: str
    detail: str


class ProviderTotal(NamedTuple):
    """What a provider has of ours since then, in one currency."""

    provider: str
    currency: str
    payment_count: int
    captured_minor: int
    refunded_minor: int


@dataclass(frozen=True, slots=True)
class ReconciliationReport:
    """What was compared, and what was found.

    Shapes:
        unreachable: providers and databases that could not be asked, and why: about them nothing
            is said.
    """

    since_ms: int
    checked_at_ms: int
    totals: tuple[ProviderTotal, ...]
    findings: tuple[Finding, ...]
    unreachable: tuple[str, ...]

    @property
    def is_clean(self) -> bool:
        """Whether everything was compared, and nothing found."""
        return not self.findings and not self.unreachable


class Reconciliation:
    """See the module's docstring. Can be repeated at any time, by any number of processes."""

    def __init__(self, stores: PaymentStores, gateways: Mapping[str, PaymentGateway]) -> None:
        self._stores = stores
        self._gateways = gateways

    async def run(
        self, *, looks_only: bool = False, looked_back_ms: int = LOOKED_BACK_MS
    ) -> ReconciliationReport:
        """Compare everything once.

        Args:
            looks_only: nothing is woken, ended or raised as an alarm.
            looked_back_ms: how old what the providers have may be.
        """
        found = _Found(looks_only)
        checked_at_ms = await self._stores.now_ms(0)
        since_ms = checked_at_ms - looked_back_ms
        for gateway in self._gateways.values():
            try:
                async for page in _pages_of(gateway.list_since(since_ms)):
                    await asyncio.gather(*(self._compare(gateway, each, found) for each in page))
            except Fault as fault:
                found.unreachable.append(f"{gateway.provider}: {fault}")
        for database in range(len(self._stores.payments)):
            try:
                await self._look_for_stuck(database, found)
            except Fault as fault:
                found.unreachable.append(f"database {database}: {fault}")
        await self._add_up(found)
        totals = [
            ProviderTotal(provider, currency, *sums)
            for (provider, currency), sums in sorted(found.totals.items())
        ]
        return ReconciliationReport(
            since_ms,
            checked_at_ms,
            tuple(totals),
            tuple(found.findings),
            tuple(found.unreachable),
        )

    async def _compare(self, gateway: PaymentGateway, seen: ProviderPayment, found: _Found) -> None:
        payment_id = seen.payment_id
        if payment_id is None or not is_payment_id(payment_id):
            return
        found.count(gateway.provider, seen)
        database = self._stores.database_of(payment_id)
        stored = await self._stores.payments[database].find(payment_id)
        if stored is None:
            await self._no_row(gateway, seen, found)
            return
        payment = stored.payment
        found.shows.setdefault(payment.show_id)
        if payment.provider_ref not in (None, seen.provider_ref):
            await self._second_object(gateway, seen, found)
        elif _lags(stored, seen):
            detail = f"{payment.state} here, {seen.state} there"
            found.add(FindingKind.LAGS, payment_id, detail)
            if not found.looks_only:
                await self._stores.payments[database].wake(payment_id)

    async def _no_row(self, gateway: PaymentGateway, seen: ProviderPayment, found: _Found) -> None:
        if seen.state not in _PAID:
            return
        detail = f"{seen.payment_id}: {seen.captured_minor} {seen.currency} captured"
        subject = f"{gateway.provider} {seen.provider_ref}"
        found.add(FindingKind.NO_ROW, subject, detail)
        await self._alarm(FindingKind.NO_ROW, subject, detail, found)

    async def _second_object(
        self, gateway: PaymentGateway, seen: ProviderPayment, found: _Found
    ) -> None:
        left_minor = seen.captured_minor - seen.refunded_minor
        if seen.state is ProviderState.CANCELLED or (seen.captured_minor and not left_minor):
            return
        assert seen.payment_id is not None
        subject = f"{gateway.provider} {seen.provider_ref}"
        detail = f"{seen.payment_id}: {seen.state}, {left_minor} {seen.currency} left"
        if seen.state in _PAID:
            found.add(FindingKind.SECOND_OBJECT, subject, detail)
        if found.looks_only:
            return
        if left_minor:
            await gateway.refund(seen, left_minor, f"rf:{seen.provider_ref}")
            await self._alarm(FindingKind.SECOND_OBJECT, subject, detail, found)
        else:
            await gateway.cancel(seen, f"void:{seen.provider_ref}")

    async def _look_for_stuck(self, database: int, found: _Found) -> None:
        payments, books = self._stores.payments[database], self._stores.books[database]
        now_ms = await self._stores.now_ms(database)
        stuck = await payments.stuck(now_ms - UNBOOKED_TOO_LONG_MS, STUCK_LISTED_MAX)
        for stored in stuck:
            alarms = alarms_of(stored.checkout, now_ms)
            for alarm in alarms:
                found.add(FindingKind.STUCK, alarm.payment_id, f"{alarm.kind}, {alarm.detail}")
                if not found.looks_only:
                    await books.raise_alarm(
                        alarm.kind, alarm.payment_id, alarm.detail, stored.payment.show_id
                    )
            # What has a step of its own ahead is not woken: looking again and again, every few
            # minutes, would push that step away for ever.
            is_forgotten = stored.payment.due_at_ms is None
            if alarms and is_forgotten and not found.looks_only:
                await payments.wake(stored.payment.payment_id)
            found.shows.setdefault(stored.payment.show_id)

    async def _add_up(self, found: _Found) -> None:
        for show_id in list(found.shows)[:SHOWS_ADDED_UP_MAX]:
            try:
                sums = await self._stores.books[self._stores.database_of_show(show_id)].sums(
                    show_id
                )
            except Fault as fault:
                found.unreachable.append(f"the books of {show_id}: {fault}")
                continue
            for money in sums:
                for detail in money.disagreements():
                    found.add(FindingKind.BOOKS, show_id, detail)
                    await self._alarm(FindingKind.BOOKS, show_id, detail, found, show_id)

    async def _alarm(
        self,
        kind: FindingKind,
        subject: str,
        detail: str,
        found: _Found,
        show_id: ShowId | None = None,
    ) -> None:
        if not found.looks_only:
            database = 0 if show_id is None else self._stores.database_of_show(show_id)
            await self._stores.books[database].raise_alarm(kind, subject, detail, show_id)


class _Found:
    """What one run has found so far."""

    def __init__(self, looks_only: bool) -> None:
        self.looks_only = looks_only
        self.findings: list[Finding] = []
        self.unreachable: list[str] = []
        self.shows: dict[ShowId, None] = {}
        self.totals: dict[tuple[str, str], tuple[int, int, int]] = {}

    def add(self, kind: FindingKind, subject: str, detail: str) -> None:
        self.findings.append(Finding(kind, subject, detail))

    def count(self, provider: str, seen: ProviderPayment) -> None:
        key = (provider, seen.currency)
        count, captured_minor, refunded_minor = self.totals.get(key, (0, 0, 0))
        self.totals[key] = (
            count + 1,
            captured_minor + seen.captured_minor,
            refunded_minor + seen.refunded_minor,
        )


def _lags(stored: StoredPayment, seen: ProviderPayment) -> bool:
    """Whether the provider knows something that the row does not, and that matters."""
    payment = stored.payment
    if payment.provider_ref is None or seen.captured_minor > payment.captured_minor:
        return True
    if payment.state in _UNPAID:
        return seen.state in _PAID
    if payment.state is PaymentState.AUTHORISED:
        return seen.state is ProviderState.CANCELLED
    if payment.state is PaymentState.BOOKED:
        return seen.state is not ProviderState.AUTHORISED
    is_under_way = any(refund.is_alive for refund in stored.checkout.refunds)
    return seen.refunded_minor != payment.refunded_minor and not is_under_way


async def _pages_of(
    payments: AsyncIterator[ProviderPayment],
) -> AsyncIterator[list[ProviderPayment]]:
    page: list[ProviderPayment] = []
    async for payment in payments:
        page.append(payment)
        if len(page) == LOOKED_UP_AT_ONCE:
            yield page
            page = []
    yield page


async def reconcile(
    config: ActorsConfig, *, looks_only: bool = False, looked_back_ms: int = LOOKED_BACK_MS
) -> ReconciliationReport:
    """Compare everything once, from a process that does nothing else.

    Raises:
        Fault: the first database is away.
    """
    stores = await PaymentStores(config.shards, "reconciliation").open()
    gateways = open_gateways(config.payments)
    try:
        reconciliation = Reconciliation(stores, gateways)
        return await reconciliation.run(looks_only=looks_only, looked_back_ms=looked_back_ms)
    finally:
        for gateway in gateways.values():
            await gateway.close()
        await stores.close()
