"""``housefull verify``: the journal, the state tables and the claims must tell one story.

The journal of each show is replayed by the auditor (``reservation.audit``), which proves that
it never sells a seat-leg twice. What the auditor ends up with is then compared, row by row, with
the holds, bookings, blocks, claims and counters in the tables. Its payments are held against its
bookings, both ways, and its ledger against both. All of one show is read in one snapshot, so a show
may be verified while it is selling.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from typing import NamedTuple

import asyncpg

from persistence.claim_blocks import taken_seats
from persistence.codec import decode_events
from persistence.hold_rows import holds_of
from persistence.payment_rows import stored_payment_of
from persistence.queries import load_queries
from persistence.sessions import Pool, PooledConnection
from persistence.shards import ShardMap
from reservation.audit import AuditFault, Auditor, JournalEntry, ShowBooks
from reservation.hold import Hold
from reservation.ids import ShowId
from reservation.ledger import EntryKind, LedgerEntry, balance_faults

_SQL = load_queries("verification.sql")
_JOURNAL_SQL = load_queries("journal.sql")
_PAYMENTS_SQL = load_queries("payments.sql")

JOURNAL_ROWS_AT_ONCE = 500


class Verdict(NamedTuple):
    """What was found about one show.

    Shapes:
        entries: journal rows replayed.
        seat_legs: seat-legs that are taken now.
        faults: empty when everything agrees.
        payments: how many there are.
    """

    show_id: ShowId
    entries: int
    seat_legs: int
    faults: list[AuditFault]
    payments: int = 0


async def verify_shows(
    pools: Sequence[Pool], shards: ShardMap, show_ids: Sequence[ShowId] = ()
) -> AsyncIterator[Verdict]:
    """Verify these shows, or all of them, one after another."""
    for database, pool in enumerate(pools):
        if show_ids:
            mine = [show_id for show_id in show_ids if shards.database_of(show_id) == database]
        else:
            mine = [ShowId(row[0]) for row in await pool.fetch(_SQL["list_shows"])]
        for show_id in mine:
            async with (
                pool.acquire() as connection,
                connection.transaction(isolation="repeatable_read", readonly=True),
            ):
                yield await _verify(connection, show_id)


async def _verify(connection: PooledConnection, show_id: ShowId) -> Verdict:
    owner = await connection.fetchrow(_SQL["find_owner"], show_id)
    if owner is None:
        # Nobody ever asked for a seat of it; then there must be no trace of it either.
        lost = AuditFault(0, "there are traces of the show, but its owner row is gone")
        has_traces = await connection.fetchval(_SQL["has_traces"], show_id)
        return Verdict(show_id, 0, 0, [lost] if has_traces else [])
    capacities = [row[0] for row in await connection.fetch(_SQL["list_capacities"], show_id)]
    auditor = Auditor(owner["leg_count"], owner["seat_count"], capacities)
    entries, at_ms = 0, 0
    async for entry in _journal(connection, show_id, auditor.faults):
        entries, at_ms = entries + 1, entry.at_ms
        try:
            auditor.replay([entry])
        except (TypeError, ValueError) as error:
            # Events that can be read, but with letters where numbers belong.
            auditor.faults.append(AuditFault(at_ms, f"journal {entry.seq}: {error!r}"))
    books = auditor.books
    comparison = _Comparison(books, auditor.faults, at_ms)
    if books.seq != owner["seq"]:
        comparison.fault(f"the journal ends at {books.seq}, its owner row at {owner['seq']}")
    if books.epoch > owner["epoch"]:
        comparison.fault(f"the journal knows epoch {books.epoch}, its owner row {owner['epoch']}")
    holds = await connection.fetch(_JOURNAL_SQL["load_holds"], show_id)
    bookings = await connection.fetch(_JOURNAL_SQL["load_bookings"], show_id)
    comparison.compare_holds(holds_of(holds, bookings))
    house = await connection.fetch(_JOURNAL_SQL["load_house_seats"], show_id)
    comparison.compare_blocks({row[0]: row[1] for row in house if row[1] is not None})
    comparison.compare_channels({row[0]: row[2] for row in house if row[2] is not None})
    comparison.compare_cancellation(await connection.fetchrow(_SQL["find_cancellation"], show_id))
    claims = await connection.fetch(_SQL["list_claims"], show_id)
    comparison.compare_claims(taken_seats(((row[0], row[1]) for row in claims), owner["leg_count"]))
    admissions = await connection.fetch(_SQL["list_admissions"], show_id)
    comparison.compare_admissions({(row[0], row[1]): row[2] for row in admissions})
    payments = await _verify_money(connection, show_id, comparison)
    return Verdict(show_id, entries, len(books.owner_of), auditor.faults, payments)


async def _verify_money(
    connection: PooledConnection, show_id: ShowId, comparison: _Comparison
) -> int:
    """Note what is wrong with the money of a show; how many payments it has."""
    for booking_id, payment, what in await connection.fetch(_SQL["list_unpaid_bookings"], show_id):
        comparison.fault(f"{booking_id} is paid with {payment}, which {what}")
    for payment_id, what in await connection.fetch(_SQL["list_lost_payments"], show_id):
        comparison.fault(f"{payment_id} {what}")
    checkouts = [
        stored_payment_of(row).checkout
        for row in await connection.fetch(
            _PAYMENTS_SQL["list_payments_of_show"], show_id, "pay_" + show_id[4:], None
        )
    ]
    rows = await connection.fetch(_PAYMENTS_SQL["list_entries"], show_id, 0, None)
    for position, row in enumerate(rows, start=1):
        if row["number"] != position:
            comparison.fault(f"the ledger has {row['number']} where {position} should be")
            break
    entries = [LedgerEntry(EntryKind(kind), *rest) for _, kind, *rest in rows]
    for fault in balance_faults(entries, checkouts):
        comparison.fault(f"ledger: {fault}")
    return len(checkouts)


async def _journal(
    connection: PooledConnection, show_id: ShowId, faults: list[AuditFault]
) -> AsyncIterator[JournalEntry]:
    cursor = connection.cursor(_SQL["read_journal"], show_id, prefetch=JOURNAL_ROWS_AT_ONCE)
    async for row in cursor:
        try:
            events = decode_events(row["events"])
        except ValueError as error:
            faults.append(AuditFault(row["at_ms"], f"journal {row['seq']}: {error}"))
            events = []
        yield JournalEntry(row["seq"], row["epoch"], row["at_ms"], events)


class _Comparison:
    """The auditor's books against the tables."""

    def __init__(self, books: ShowBooks, faults: list[AuditFault], at_ms: int) -> None:
        self._books = books
        self._faults = faults
        self._at_ms = at_ms

    def fault(self, what: str, seat_index: int | None = None, leg: int | None = None) -> None:
        """Note a disagreement; its time is the last moment that the journal tells of."""
        self._faults.append(AuditFault(self._at_ms, what, seat_index, leg))

    def compare_holds(self, holds: Iterable[Hold]) -> None:
        """Every hold and booking, with its state, deadline, seats and price."""
        left = dict(self._books.holds)
        for hold in holds:
            hold_id = hold.held.hold_id
            book = left.pop(hold_id, None)
            if book is None:
                self.fault(f"{hold_id} is stored but the journal does not know it")
                continue
            if hold.held != book.held:
                self.fault(f"{hold_id} is stored with other content than the journal's")
            if hold.state.value != book.state:
                self.fault(f"{hold_id} is stored as {hold.state}, in the journal {book.state}")
            if hold.expires_at_ms != book.deadline_at_ms:
                self.fault(f"{hold_id} is stored with another deadline than the journal's")
            if hold.ended_at_ms != book.ended_at_ms:
                self.fault(f"{hold_id} is stored with another end than the journal's")
            confirmed = hold.booking.confirmed if hold.booking else None
            if confirmed != book.confirmed:
                self.fault(f"{hold_id} is booked as {confirmed}, in the journal {book.confirmed}")
            cancelled_at_ms = hold.booking.cancelled_at_ms if hold.booking else None
            if cancelled_at_ms != book.cancelled_at_ms:
                self.fault(f"{hold_id}: table and journal disagree about its cancellation")
        for missing in left:
            self.fault(f"{missing} is in the journal but not stored")

    def compare_blocks(self, blocked: dict[int, str]) -> None:
        """Every seat that is off sale."""
        told = self._books.blocked
        for seat_index in sorted(blocked.keys() | told.keys()):
            if blocked.get(seat_index) != told.get(seat_index):
                self.fault("table and journal disagree about a block", seat_index)

    def compare_channels(self, channel_of: dict[int, str]) -> None:
        """Every seat that is a channel's."""
        told = self._books.channel_of
        for seat_index in sorted(channel_of.keys() | told.keys()):
            if channel_of.get(seat_index) != told.get(seat_index):
                self.fault("table and journal disagree about a channel", seat_index)

    def compare_cancellation(self, row: asyncpg.Record | None) -> None:
        """Whether the show takes place."""
        told = self._books.cancelled
        if (None if row is None else tuple(row)) != (told and (told.reason, told.at_ms)):
            self.fault("table and journal disagree about the show's cancellation")

    def compare_claims(self, claims: Iterable[tuple[int, int]]) -> None:
        """Every seat-leg that is taken, in both directions."""
        left = set(self._books.owner_of)
        for seat_index, legs in claims:
            for leg in range(legs.bit_length()):
                if not legs >> leg & 1:
                    continue
                if (seat_index, leg) in left:
                    left.discard((seat_index, leg))
                else:
                    self.fault("claimed, but the journal says free", seat_index, leg)
        for seat_index, leg in sorted(left):
            holder = self._books.owner_of[seat_index, leg]
            self.fault(f"{holder} has it in the journal, but it is not claimed", seat_index, leg)

    def compare_admissions(self, admitted: dict[tuple[int, int], int]) -> None:
        """Every counter of unnumbered places."""
        told = {key: count for key, count in self._books.admitted.items() if count}
        for tier_index, leg in sorted(admitted.keys() | told.keys()):
            stored, journal = admitted.get((tier_index, leg), 0), told.get((tier_index, leg), 0)
            if stored != journal:
                self.fault(f"tier {tier_index}: {stored} admitted, journal {journal}", None, leg)
