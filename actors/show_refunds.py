"""Giving up all that was sold of a cancelled show, page by page.

``append_batch`` has started a job in the transaction that cancelled the show. Here its bookings are
cancelled through the show's actor, on full terms; what becomes of the money of each is its
payment's own story. Payments that are not booked yet are given up first, so that nobody pays for a
show that does not take place while his hold would still have lived.

Everything may be done twice: whoever dies loses a page.
"""

from __future__ import annotations

import asyncio
import logging

from actors.payment_stores import PaymentStores
from actors.show_ref import ShowRefs
from persistence.payments import PAYMENTS_PER_PAGE_MAX
from persistence.refund_jobs import BookingToCancel, JobState, RefundJob
from reservation.checkout_learning import UNBOOKED, learn_given_up
from reservation.commands import CancelBooking
from reservation.faults import Fault
from reservation.ids import PaymentId, ShowId
from reservation.refund_terms import RefundTerms
from reservation.rejections import Rejected

log = logging.getLogger(__name__)

BOOKINGS_PER_PAGE = 100
JOB_LEASE_MS = 60_000


class ShowRefunds:
    """Works on the jobs of one database."""

    def __init__(
        self,
        stores: PaymentStores,
        database: int,
        refs: ShowRefs,
        owner: str,
        *,
        bookings_per_page: int = BOOKINGS_PER_PAGE,
        lease_ms: int = JOB_LEASE_MS,
    ) -> None:
        self._stores = stores
        self._database = database
        self._jobs = stores.refund_jobs[database]
        self._refs = refs
        self._owner = owner
        self._bookings_per_page = bookings_per_page
        self._lease_ms = lease_ms

    async def work(self) -> bool:
        """Take a job and bring it to its end; whether there was one.

        Raises:
            Fault: a database or the show is away. The job stays where it is.
        """
        job = await self._jobs.lease(self._owner, self._lease_ms)
        if job is None:
            return False
        try:
            await self._work(job)
        except Fault as fault:
            await self._jobs.give_up(job, self._owner, str(fault) or repr(fault))
            raise
        return True

    async def _work(self, leased: RefundJob) -> None:
        show_id = leased.show_id
        await self._give_up_payments(show_id)
        job: RefundJob | None = leased
        while job is not None and job.state is JobState.RUNNING:
            page = await self._jobs.page(job, self._bookings_per_page)
            outcomes = await asyncio.gather(
                *(self._cancel(show_id, booking) for booking in page), return_exceptions=True
            )
            for outcome in outcomes:
                if isinstance(outcome, BaseException):
                    raise outcome
            job = await self._jobs.advance(job, self._owner, page, self._lease_ms)
            if job is not None:
                log.info("%s: %d of %d bookings are cancelled", show_id, job.done, job.total)

    async def _cancel(self, show_id: ShowId, booking: BookingToCancel) -> None:
        command = CancelBooking(booking.booking_id, booking.customer_id, RefundTerms.FULL)
        outcome = await self._refs.ask(show_id, command)
        if isinstance(outcome, Rejected):
            detail = f"the show says {outcome.code}"
            await self._stores.books[self._database].raise_alarm(
                "booking_not_cancelled", booking.booking_id, detail, show_id
            )

    async def _give_up_payments(self, show_id: ShowId) -> None:
        payments = self._stores.payments[self._database]
        after: PaymentId | None = None
        while True:
            page = await payments.list_by_show(show_id, PAYMENTS_PER_PAGE_MAX, after)
            for stored in page:
                checkout = stored.checkout
                now_ms = await self._stores.now_ms(self._database)
                # Whoever moved it meanwhile, the show books nothing any more.
                if checkout.payment.state in UNBOOKED:
                    given_up = learn_given_up(checkout, now_ms).checkout
                    await payments.save(checkout, given_up, last_error="the show is cancelled")
            if len(page) < PAYMENTS_PER_PAGE_MAX:
                return
            after = page[-1].payment.payment_id
