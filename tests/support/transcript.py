"""Transcripts: a show's rules as a table, one command a line with the answer it must get.

    show    rows=4,2 stops=PUNE,LONAVALA,MUMBAI tiers=F:2
    hold    H1 ann A1,A2 PUNE-LONAVALA F:1     -> held A1,A2 F:1 for 2600
    hold    H2 bob A1 PUNE-MUMBAI              -> seat_unavailable A1
    tick    600
    expire                                     -> expired H1

Each answer must begin with what the table says; the rest of it is not compared. When the table
ends, whatever happened in it is balanced and audited (``assert_sound``).

Commands (words in brackets may be left out):
    show      rows=, stops=, tiers=, accessible=, companion=, categories= (seats of the second
              category), ttl= life= holds= places= perhold= sale=FROM..UNTIL orphan= of the
              policy, and prices=SECONDS:BASE,... for later prices of the first category
    hold      ID CUSTOMER [SEATS] [FROM-TO] [TIER:COUNT...] [nearest]
    best      ID CUSTOMER COUNT [FROM-TO] [category=] [accessible=] [companion=] [orphan=]
    extend    ID CUSTOMER
    release   ID CUSTOMER
    confirm   ID CUSTOMER PAYMENT
    cancel    ID CUSTOMER
    block     SEATS [REASON]
    unblock   SEATS
    allocate  CHANNEL SEATS
    dealloc   CHANNEL SEATS
    close     CHANNEL
    through   CHANNEL hold or best with their words
    stop      REASON: the show is cancelled
    tick      SECONDS, or N+ or N- milliseconds beside it: the clock goes on, nothing else happens
    expire    the owner's duty: ends what is due
    forget    the owner's other duty: lets go of what ended long ago
    restart   the show leaves memory and comes back, restored from what is stored

Answers:
    held SEATS TIERS for AMOUNT until SECONDS (nearest, row, section or split instead of held when
    the house chose), extended until SECONDS, released, expired IDS, booked AMOUNT, cancelled,
    blocked SEATS, unblocked SEATS, allocated SEATS, deallocated SEATS, through CHANNEL before
    held, stopped REASON IDS, forgotten IDS; "again" before an answer that was given before;
    or the code of a rejection with the seats or tiers it is about.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable, Sequence

from reservation.audit import BLOCKED, Auditor, JournalEntry
from reservation.commands import (
    AllocateSeats,
    BlockSeats,
    CancelBooking,
    CancelShow,
    CloseChannel,
    Command,
    ConfirmHold,
    DeallocateSeats,
    ExtendHold,
    HoldBestAvailable,
    HoldFromChannel,
    HoldSeats,
    ReleaseHold,
    UnblockSeats,
    Wish,
    digest_request,
)
from reservation.events import (
    Arrangement,
    BookingCancelled,
    BookingConfirmed,
    Event,
    HeldFromChannel,
    HoldExpired,
    HoldExtended,
    HoldReleased,
    HoldsForgotten,
    SeatsAllocated,
    SeatsBlocked,
    SeatsDeallocated,
    SeatsHeld,
    SeatsUnblocked,
    ShowCancelled,
)
from reservation.fares import CategoryFare, FareTable, FareWindow
from reservation.hold import BookingState, HoldState
from reservation.ids import BookingId, ChannelId, CustomerId, HoldId, derive_show_id
from reservation.rejections import Rejected
from reservation.route import Route, Segment, Stop
from reservation.seat_assignment import SeatChooser
from reservation.seat_map import Outcome, Repeated, SeatMap
from reservation.seating_plan import SeatTrait
from reservation.show import OrphanRule, SalesPolicy, Show
from tests.support.plans import build_plan

START_AT_MS = 1_700_000_000_000
BASE_MINOR = 1_000
LEG_MINOR = 100


def check(table: str) -> SeatMap:
    """Run a transcript; fails at the first line whose answer is another one."""
    transcript: Transcript | None = None
    for number, line in enumerate(table.strip().splitlines(), start=1):
        asked, _, expected = line.partition("->")
        words = asked.split()
        if not words or words[0].startswith("#"):
            continue
        if words[0] == "show":
            assert transcript is None, "one show a transcript"
            transcript = Transcript(words[1:])
            continue
        assert transcript is not None, "a transcript begins with its show"
        answer = transcript.run(words)
        wanted = expected.split()
        assert wanted or words[0] == "tick", f"line {number}: no answer is expected: {line.strip()}"
        got = answer.split()[: len(wanted)]
        assert got == wanted, f"line {number}: {line.strip()}\n    answered: {answer}"
    assert transcript is not None, "a transcript begins with its show"
    assert_sound(transcript.seat_map, transcript.history)
    return transcript.seat_map


class Transcript:
    """A show with a clock and a history."""

    def __init__(self, words: Iterable[str]) -> None:
        options = dict(word.split("=") for word in words)
        rows = [int(count) for count in options.pop("rows", "4").split(",")]
        self._seats = {
            f"{chr(ord('A') + row)}{number}": (row, number)
            for row, count in enumerate(rows)
            for number in range(1, count + 1)
        }
        self._index = {label: index for index, label in enumerate(self._seats)}
        self._labels = list(self._seats)
        self._stops = options.pop("stops", "").split(",") if "stops" in options else []
        self._tiers = dict(tier.split(":") for tier in options.pop("tiers", "").split(",") if tier)
        special: Counter[int] = Counter()
        for name, trait in (("accessible", 1), ("companion", 2)):
            for label in filter(None, options.pop(name, "").split(",")):
                special[self._index[label]] += trait
        second = self._parse_seats(options.pop("categories", ""))
        plan = build_plan(
            [("S", chr(ord("A") + row), count, ()) for row, count in enumerate(rows)],
            categories=("Standard", "Second"),
            category_of=dict.fromkeys(second, 1),
            traits={seat: SeatTrait(trait) for seat, trait in special.items()},
            admission_tiers=[(code, int(capacity)) for code, capacity in self._tiers.items()],
        )
        route = Route(
            tuple(Stop(code, code, 0, 0, 1_000 * n) for n, code in enumerate(self._stops))
        )
        legs = (LEG_MINOR,) * route.leg_count
        second_fare = CategoryFare(BASE_MINOR // 2)
        windows = tuple(
            FareWindow(START_AT_MS + int(start) * 1_000, (CategoryFare(int(base)), second_fare))
            for start, base in (
                word.split(":") for word in options.pop("prices", "").split(",") if word
            )
        )
        fares = FareTable("EUR", (CategoryFare(BASE_MINOR, legs), second_fare), windows)
        show = Show(derive_show_id("transcript"), plan, route, fares, _policy(options))
        self.seat_map = SeatMap(show, SeatChooser(plan))
        self.history: list[Event] = []
        self.now_ms = START_AT_MS

    def run(self, words: Sequence[str]) -> str:
        """Carry one line out and say what it answered."""
        match words[0]:
            case "tick":
                self.now_ms += _duration_ms(words[1])
                return ""
            case "expire":
                events = self.seat_map.decide_expired(list(self.seat_map.holds), self.now_ms)
                for event in events:
                    self._happened(event)
                return f"expired {','.join(event.hold_id[4:] for event in events) or 'nothing'}"
            case "forget":
                forgotten = self.seat_map.decide_forgotten(self.now_ms)
                if forgotten is None:
                    return "forgotten nothing"
                self._happened(forgotten)
                return self._say_event(forgotten)
            case "restart":
                self.seat_map = restored(self.seat_map)
                return "restored"
        outcome = self.seat_map.decide(self._command(words), self.now_ms)
        if not isinstance(outcome, Rejected | Repeated):
            self._happened(outcome)
        return self._say(outcome)

    def _happened(self, event: Event) -> None:
        self.seat_map.apply(event)
        self.history.append(event)

    def _command(self, words: Sequence[str]) -> Command:
        name, rest = words[0], words[2:]
        hold_id = HoldId(f"hld_{words[1]}")
        match name:
            case "hold":
                return self._hold(hold_id, CustomerId(rest[0]), rest[1:])
            case "best":
                return self._best(hold_id, CustomerId(rest[0]), int(rest[1]), rest[2:])
            case "extend":
                return ExtendHold(hold_id, CustomerId(rest[0]))
            case "release":
                return ReleaseHold(hold_id, CustomerId(rest[0]))
            case "confirm":
                return ConfirmHold(hold_id, CustomerId(rest[0]), rest[1])
            case "cancel":
                return CancelBooking(BookingId(f"bkg_{words[1]}"), CustomerId(rest[0]))
            case "block":
                return BlockSeats(self._parse_seats(words[1]), rest[0] if rest else "repair")
            case "unblock":
                return UnblockSeats(self._parse_seats(words[1]))
            case "allocate":
                return AllocateSeats(ChannelId(words[1]), self._parse_seats(rest[0]))
            case "dealloc":
                return DeallocateSeats(ChannelId(words[1]), self._parse_seats(rest[0]))
            case "close":
                return CloseChannel(ChannelId(words[1]))
            case "through":
                inner = self._command(rest)
                assert isinstance(inner, HoldSeats | HoldBestAvailable)
                return HoldFromChannel(ChannelId(words[1]), inner)
            case "stop":
                return CancelShow(words[1])
        raise AssertionError(f"no such command: {name}")

    def _hold(self, hold_id: HoldId, customer_id: CustomerId, words: Iterable[str]) -> HoldSeats:
        seats: tuple[int, ...] = ()
        segment = self.seat_map.show.route.whole
        admissions: list[tuple[int, int]] = []
        or_nearest = False
        for word in words:
            if word == "nearest":
                or_nearest = True
            elif ":" in word:
                code, _, count = word.partition(":")
                admissions.append((list(self._tiers).index(code), int(count)))
            elif "-" in word:
                segment = self._segment(word)
            else:
                seats = self._parse_seats(word)
        digest = digest_request(seats, segment, admissions, or_nearest)
        places = tuple(sorted(admissions))
        return HoldSeats(hold_id, customer_id, segment, seats, places, or_nearest, digest)

    def _best(
        self, hold_id: HoldId, customer_id: CustomerId, seat_count: int, words: Iterable[str]
    ) -> HoldBestAvailable:
        segment = self.seat_map.show.route.whole
        wishes: dict[str, str] = {}
        for word in words:
            name, is_wish, value = word.partition("=")
            if is_wish:
                wishes[name] = value
            else:
                segment = self._segment(word)
        wish = Wish(
            seat_count,
            int(wishes["category"]) if "category" in wishes else None,
            int(wishes.get("accessible", 0)),
            int(wishes.get("companion", 0)),
            OrphanRule(wishes["orphan"]) if "orphan" in wishes else None,
        )
        return HoldBestAvailable(hold_id, customer_id, segment, wish, digest_request(wish, segment))

    def _segment(self, word: str) -> Segment:
        from_code, _, to_code = word.partition("-")
        segment = self.seat_map.show.route.segment(from_code, to_code)
        assert segment is not None, f"{word} is no ride"
        return segment

    def _parse_seats(self, text: str) -> tuple[int, ...]:
        return tuple(sorted(self._index[label] for label in text.split(",") if label))

    def _say(self, outcome: Outcome) -> str:
        if isinstance(outcome, Rejected):
            tiers = [list(self._tiers)[index] for index in outcome.tier_indexes]
            return f"{outcome.code.value} {self._name(outcome.seat_indexes)}{','.join(tiers)}"
        if isinstance(outcome, Repeated):
            return f"again {self._say_event(outcome.event)}"
        return self._say_event(outcome)

    def _say_event(self, event: Event) -> str:
        match event:
            case SeatsHeld():
                is_asked = event.arrangement in (Arrangement.NAMED, Arrangement.ADMISSION)
                words = ["held" if is_asked else event.arrangement.value]
                words += [self._name(event.seat_indexes)] if event.seat_indexes else []
                words += [
                    f"{list(self._tiers)[tier]}:{count}" for tier, count, _ in event.admissions
                ]
                words += [f"for {event.amount_minor}", self._until(event.expires_at_ms)]
                return " ".join(words)
            case HoldExtended():
                return f"extended {self._until(event.expires_at_ms)}"
            case HoldReleased():
                return f"released at {self._seconds(event.at_ms)}"
            case HoldExpired():
                return f"expired {event.hold_id[4:]}"
            case BookingConfirmed():
                assert event.booking_id[4:] == event.hold_id[4:]
                return f"booked {event.amount_minor} {event.payment}"
            case BookingCancelled():
                return f"cancelled at {self._seconds(event.at_ms)}"
            case SeatsBlocked():
                return f"blocked {self._name(event.seat_indexes)} {event.reason}"
            case SeatsUnblocked():
                return f"unblocked {self._name(event.seat_indexes)}"
            case SeatsAllocated():
                return f"allocated {self._name(event.seat_indexes)}"
            case SeatsDeallocated():
                return f"deallocated {self._name(event.seat_indexes)}"
            case HeldFromChannel():
                return f"through {event.channel_id} {self._say_event(event.held)}"
            case ShowCancelled():
                ids = ",".join(hold_id[4:] for hold_id in event.hold_ids)
                return f"stopped {event.reason} {ids}"
            case HoldsForgotten():
                return f"forgotten {','.join(hold_id[4:] for hold_id in event.hold_ids)}"

    def _name(self, seat_indexes: Iterable[int]) -> str:
        return ",".join(self._labels[index] for index in seat_indexes)

    def _until(self, at_ms: int) -> str:
        return f"until {self._seconds(at_ms)}"

    def _seconds(self, at_ms: int) -> str:
        return f"{(at_ms - START_AT_MS) / 1_000:g}"


def _policy(options: dict[str, str]) -> SalesPolicy:
    sale_from, _, sale_until = options.pop("sale", "..").partition("..")
    policy = SalesPolicy(
        hold_ttl_ms=int(options.pop("ttl", "600")) * 1_000,
        hold_life_ms_max=int(options.pop("life", "1200")) * 1_000,
        live_holds_per_customer_max=int(options.pop("holds", "4")),
        seats_per_customer_max=int(options.pop("places", "10")),
        seats_per_hold_max=int(options.pop("perhold", "50")),
        orphan_rule=OrphanRule(options.pop("orphan", "off")),
        on_sale_from_at_ms=START_AT_MS + int(sale_from) * 1_000 if sale_from else None,
        on_sale_until_at_ms=START_AT_MS + int(sale_until) * 1_000 if sale_until else None,
    )
    assert not options, f"unknown: {options}"
    return policy


def _duration_ms(word: str) -> int:
    seconds = int(word.rstrip("+-"))
    return seconds * 1_000 + {"+": 1, "-": -1}.get(word[-1], 0)


def restored(seat_map: SeatMap) -> SeatMap:
    """The map as another process would restore it from the stored holds and blocks."""
    copies = [copy.deepcopy(hold) for hold in seat_map.holds.values()]
    again = SeatMap(seat_map.show, SeatChooser(seat_map.show.plan))
    again.restore(
        sorted(copies, key=lambda hold: hold.ended_at_ms or 0),
        seat_map.blocked.items(),
        seat_map.house.channel_of.items(),
        seat_map.cancelled,
    )
    return again


def replayed(seat_map: SeatMap, history: Iterable[Event]) -> SeatMap:
    """A fresh map of the same show after these events."""
    again = SeatMap(seat_map.show, SeatChooser(seat_map.show.plan))
    for event in history:
        again.apply(event)
    return again


def state_of(seat_map: SeatMap) -> object:
    """Everything a map knows, in a form that compares."""
    holds = {
        hold_id: (
            hold.held,
            hold.state,
            hold.expires_at_ms,
            hold.ended_at_ms,
            hold.booking and (hold.booking.confirmed, hold.booking.state),
            hold.booking and hold.booking.cancelled_at_ms,
        )
        for hold_id, hold in seat_map.holds.items()
    }
    occupancy = seat_map.occupancy
    totals = {
        customer: (totals.live_holds, totals.places)
        for customer, totals in seat_map._totals.items()
    }
    return (
        holds,
        dict(seat_map.blocked),
        dict(seat_map.house.channel_of),
        seat_map.cancelled and (seat_map.cancelled.reason, seat_map.cancelled.at_ms),
        list(occupancy.taken),
        dict(occupancy.reserved),
        [list(counters) for counters in occupancy.admitted],
        seat_map.live_hold_count,
        totals,
        sorted(seat_map._ended),
    )


def assert_conserved(seat_map: SeatMap) -> None:
    """On every leg: held + booked + blocked + free = capacity, for the seats and for each tier."""
    show = seat_map.show
    for leg in range(show.route.leg_count):
        owners: Counter[str] = Counter()
        admitted = [0] * len(show.plan.admission_tiers)
        for hold in seat_map.holds.values():
            held = hold.held
            if not held.segment.from_leg <= leg < held.segment.to_leg:
                continue
            if hold.state is HoldState.HELD:
                owner = "held"
            elif hold.booking is not None and hold.booking.state is BookingState.CONFIRMED:
                owner = "booked"
            else:
                continue
            owners[owner] += len(held.seat_indexes)
            for tier, count, _ in held.admissions:
                admitted[tier] += count
        owners["blocked"] = len(seat_map.blocked)
        owners["reserved"] = sum(bits >> leg & 1 for bits in seat_map.occupancy.reserved.values())
        free = sum(not bits >> leg & 1 for bits in seat_map.occupancy.taken)
        assert owners.total() + free == show.plan.seat_count, f"leg {leg}: {owners} and {free} free"
        for tier, count in enumerate(admitted):
            assert count == seat_map.occupancy.admitted[tier][leg]
            assert 0 <= count <= show.plan.admission_tiers[tier].capacity


def audited(seat_map: SeatMap, history: Sequence[Event]) -> Auditor:
    """The auditor after this history, one event a journal row."""
    show = seat_map.show
    capacities = [tier.capacity for tier in show.plan.admission_tiers]
    auditor = Auditor(show.route.leg_count, show.plan.seat_count, capacities)
    auditor.replay(JournalEntry(seq, 1, seq, [event]) for seq, event in enumerate(history, start=1))
    return auditor


def assert_books_agree(seat_map: SeatMap, auditor: Auditor) -> None:
    """The auditor found no fault, and its books are the map's."""
    assert auditor.faults == []
    books, occupancy = auditor.books, seat_map.occupancy
    taken = [0] * seat_map.show.plan.seat_count
    for seat, leg in books.owner_of:
        taken[seat] |= 1 << leg
    every_leg = seat_map.show.route.whole.mask
    for seat in books.channel_of:
        assert occupancy.reserved[seat] == every_leg & ~taken[seat]
        taken[seat] = every_leg
    assert taken == occupancy.taken
    assert books.channel_of == seat_map.house.channel_of
    cancelled = seat_map.cancelled
    assert (books.cancelled is None) == (cancelled is None)
    if books.cancelled is not None and cancelled is not None:
        told = (books.cancelled.reason, books.cancelled.at_ms)
        assert told == (cancelled.reason, cancelled.at_ms)
    blocked = {seat for (seat, _), owner in books.owner_of.items() if owner == BLOCKED}
    assert blocked == seat_map.blocked.keys()
    assert books.blocked == seat_map.blocked
    for tier, counters in enumerate(occupancy.admitted):
        assert [books.admitted.get((tier, leg), 0) for leg in range(len(counters))] == counters
    assert books.holds.keys() == seat_map.holds.keys()
    for hold_id, book in books.holds.items():
        hold = seat_map.holds[HoldId(hold_id)]
        booking = hold.booking
        assert (book.held, book.state) == (hold.held, hold.state.value)
        assert (book.deadline_at_ms, book.ended_at_ms) == (hold.expires_at_ms, hold.ended_at_ms)
        assert book.confirmed == (booking and booking.confirmed)
        assert book.cancelled_at_ms == (booking and booking.cancelled_at_ms)


def assert_sound(seat_map: SeatMap, history: Sequence[Event]) -> None:
    """Nothing is lost, the history gives the same map again, and the auditor agrees."""
    assert_conserved(seat_map)
    assert state_of(replayed(seat_map, history)) == state_of(seat_map)
    assert state_of(restored(seat_map)) == state_of(seat_map)
    assert_books_agree(seat_map, audited(seat_map, history))
