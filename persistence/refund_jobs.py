"""Cancelling all bookings of a cancelled show, and giving their money back, as a job.

Theory of operation
-------------------
``append_batch`` starts the job in the transaction that cancels the show, so no cancelled show goes
without one. A worker leases it, cancels the bookings page by page through the show's actor, and
says after each page how far it is. Cancelling a booking is harmless to repeat: a worker that dies
loses a page at most, and whoever takes the job next begins that page anew. What happens to the
money of each booking is its payment's own story.

Bookings that their customers cancel meanwhile are on no page any more and count as done at the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import asyncpg

from persistence.catalogue_text import checked_text
from persistence.queries import load_queries
from persistence.sessions import Pool, reading, writing
from reservation.ids import BookingId, CustomerId, HoldId, ShowId

_QUERIES = load_queries("refund_jobs.sql")

BOOKINGS_PER_PAGE_MAX = 1_000

_REQUESTER_LENGTH_MAX = 100
_ERROR_LENGTH_MAX = 1_000


class JobState(StrEnum):
    """Whether there is something left to do."""

    RUNNING = "running"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class RefundJob:
    """The job of one show.

    Shapes:
        total, done: bookings.
        after_hold_id: bookings up to this one's hold are done; a bare prefix at the start.
        requested_by: who cancelled the show; empty until it is said.
        attempts: how often a worker took it.
        last_error: why the last page was not done; None when it was.
    """

    show_id: ShowId
    state: JobState
    total: int
    done: int
    after_hold_id: HoldId
    requested_by: str
    attempts: int
    last_error: str | None
    created_at_ms: int
    updated_at_ms: int
    finished_at_ms: int | None


class BookingToCancel(NamedTuple):
    """A booking of a cancelled show; ``payment`` is how it was paid."""

    hold_id: HoldId
    booking_id: BookingId
    customer_id: CustomerId
    payment: str


class RefundJobs:
    """The jobs of one database.

    Raises:
        ShowUnavailable: from every method, when the database cannot be reached; nothing changed.
        OutcomeUnknown: from the writing methods, when it went away in the middle.

    Args:
        pool: stays the caller's, with the rights of ``housefull_application``.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def find(self, show_id: ShowId) -> RefundJob | None:
        """The job of a show; None when the show is not cancelled."""
        async with reading(self._pool) as connection:
            row = await connection.fetchrow(_QUERIES["find_refund_job"], show_id)
        return None if row is None else _job_of(row)

    async def name_requester(self, show_id: ShowId, requested_by: str) -> bool:
        """Say who cancelled a show; False when somebody else did, or it is not cancelled."""
        checked_text("requested_by", requested_by, _REQUESTER_LENGTH_MAX)
        async with writing(self._pool) as connection:
            is_named: bool = await connection.fetchval(
                _QUERIES["name_refund_requester"], show_id, requested_by
            )
        return is_named

    async def lease(self, owner: str, lease_ms: int) -> RefundJob | None:
        """Take the oldest job that nobody has; None when there is none."""
        async with writing(self._pool) as connection:
            row = await connection.fetchrow(_QUERIES["lease_refund_job"], owner, lease_ms)
        return None if row is None else _job_of(row)

    async def page(self, job: RefundJob, limit: int) -> list[BookingToCancel]:
        """The next bookings to cancel; none, when all are cancelled."""
        assert 1 <= limit <= BOOKINGS_PER_PAGE_MAX, "a page of this length"
        async with reading(self._pool) as connection:
            rows = await connection.fetch(
                _QUERIES["list_bookings_to_cancel"], job.show_id, job.after_hold_id, limit
            )
        return [BookingToCancel(*row) for row in rows]

    async def advance(
        self, job: RefundJob, owner: str, page: list[BookingToCancel], lease_ms: int
    ) -> RefundJob | None:
        """This page is done, and the job goes on; after an empty page it is over.

        Returns:
            The job as it is now, or None when it is another worker's.
        """
        to_hold_id = page[-1].hold_id if page else job.after_hold_id
        return await self._say(job, owner, to_hold_id, len(page), not page, lease_ms, None)

    async def give_up(self, job: RefundJob, owner: str, error: str) -> RefundJob | None:
        """Let go of a job whose page could not be done now; it stays where it is."""
        error = error.replace("\0", "")[:_ERROR_LENGTH_MAX]
        return await self._say(job, owner, job.after_hold_id, 0, False, 0, error)

    async def _say(self, job: RefundJob, owner: str, *said: object) -> RefundJob | None:
        async with writing(self._pool) as connection:
            is_ours = await connection.fetchval(
                _QUERIES["advance_refund_job"], job.show_id, owner, job.after_hold_id, *said
            )
        return await self.find(job.show_id) if is_ours else None


def _job_of(row: asyncpg.Record) -> RefundJob:
    return RefundJob(
        ShowId(row["show_id"]),
        JobState(row["state"]),
        row["total_count"],
        row["done_count"],
        HoldId(row["after_hold_id"]),
        row["requested_by"],
        row["attempts"],
        row["last_error"],
        row["created_at_ms"],
        row["updated_at_ms"],
        row["finished_at_ms"],
    )
