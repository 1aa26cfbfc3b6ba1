"""Everything that can happen to one payment, in every order: a world small enough to know.

It is a row of the database, a provider, a show, a runner and a customer. The row changes only by
the functions of ``reservation``; the rest is as malicious as the real ones may be:

* the customer pays, fails, pays twice, gives up, cancels his booking, at any moment;
* the hold expires, the show is cancelled, the authorisation lapses, a refund fails;
* a webhook says nothing and may come at any time, any number of times, or never: it only wakes;
* the runner decides on a row that may have changed when he acts, and may die before his effect or
  after it; a request that he gave up may arrive much later all the same.

Time has three moments: while the hold lives, when it is over, and days later. What is due is due
now: the order in which things are due is not a promise of anybody.

Every world is checked by itself, and followed to its end in calm: everybody does his work, no
request is lost, the customer does nothing more. Then money and places must be settled.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from reservation.checkout import Checkout, booked_by, cancelled_by, is_booked
from reservation.checkout_learning import (
    learn_confirm_rejected,
    learn_delay,
    learn_given_up,
    learn_held_again,
    learn_hold_again_rejected,
    learn_notice,
    learn_reckoned,
    learn_released,
    learn_rest,
)
from reservation.checkout_pace import money_ends_at_ms
from reservation.checkout_provider import (
    learn_absent,
    learn_provider,
    learn_refund_answer,
    learn_refund_requested,
    learn_refused,
    learn_voided,
)
from reservation.checkout_saga import (
    CancelUnpaid,
    CaptureMoney,
    ConfirmAtShow,
    CreateAtProvider,
    Done,
    FetchFromProvider,
    HoldAgain,
    ReckonCancellation,
    RefundMoney,
    ReleaseAgain,
    Step,
    VoidAtProvider,
    Wait,
    decide_step,
)
from reservation.ids import (
    CustomerId,
    HoldId,
    derive_hold_id,
    derive_payment_id,
    derive_show_id,
)
from reservation.ledger import EntryKind, LedgerEntry, balance_faults, entries_of
from reservation.payment import CaptureMode, Payment, PaymentState
from reservation.refund_terms import RefundTerms
from reservation.refunds import RefundBand, RefundPolicy
from reservation.rejections import Rejection

AMOUNT = 1000
SHOW_ID = derive_show_id("checkout model")
CUSTOMER = CustomerId("ann")
HOLD_ID = derive_hold_id(SHOW_ID, CUSTOMER, "seats")
HALF_BACK = RefundPolicy((RefundBand(0, 5_000),))

PAYMENT = Payment(
    derive_payment_id(HOLD_ID, "pay"),
    SHOW_ID,
    HOLD_ID,
    CUSTOMER,
    "sandbox",
    CaptureMode.MANUAL,
    AMOUNT,
    "EUR",
    hold_minor=900,
    accepts_equivalent=False,
    created_at_ms=0,
    hold_expires_at_ms=600_000,
)
WHILE_HELD = 0
WHEN_OVER = money_ends_at_ms(PAYMENT)
LAST_MOMENT = 2
MOMENTS = (WHILE_HELD, WHEN_OVER, *(WHEN_OVER + 3 * 86_400_000 * count for count in (1, 2, 3)))
"""The last two are only for calm, which has all the time that it needs."""


class Provider(NamedTuple):
    """``refunds``: (key, amount, state); ``is_payable``: its customer has got its secret."""

    state: str | None = None
    is_payable: bool = False
    charges: int = 0
    refunds: tuple[tuple[str, int, str], ...] = ()
    captured_by_us: bool = False


class House(NamedTuple):
    """The show. ``booked``: by which hold, 0 for none; ``again`` is the second hold."""

    hold: str = "live"
    again: str = "none"
    booked: int = 0
    booking_cancelled: str = ""
    show_cancelled: bool = False


class Left(NamedTuple):
    """How often each thing that goes wrong may still happen."""

    faults: int
    late: int = 0
    failures: int = 1
    charges: int = 1
    give_ups: int = 1
    show_cancels: int = 1
    booking_cancels: int = 0
    lapses: int = 0
    refund_failures: int = 0


class World(NamedTuple):
    """``row``: number of a checkout; ``acting``: (row as it was read, step)."""

    row: int
    sums: tuple[int, ...]
    moment: int
    provider: Provider
    house: House
    left: Left
    acting: tuple[int, Step] | None = None
    late: Step | None = None
    may_give_up: bool = False


class Seen(NamedTuple):
    """A payment as the model's provider sees it."""

    provider_ref: str
    state: str
    amount_minor: int
    currency: str
    captured_minor: int


class SeenBack(NamedTuple):
    """A refund as the model's provider sees it."""

    refund_ref: str
    key: str | None
    state: str
    amount_minor: int


@dataclass(frozen=True)
class Saga:
    """What is tested, and what a mutant of it changes."""

    decide: Callable[[Checkout, int], Step] = decide_step
    provider_says: Callable[..., Any] = learn_provider
    unknown: Callable[[Checkout, Step, int], Checkout] = lambda checkout, _, now_ms: (
        learn_delay(checkout, now_ms, 0).checkout
    )
    books: Callable[[Payment, HoldId, int], Payment | None] = booked_by
    compares_versions: bool = True
    reconciles: bool = True
    acts_blindly: bool = False


class Broken(AssertionError):
    """A world that must not be. The message says how it came to be."""


@dataclass
class Model:
    """All worlds that one beginning leads to.

    Shapes:
        capture_tells: who captures is told how the payment is by then; else he has to ask.
    """

    saga: Saga = field(default_factory=Saga)
    again_answer: str = "same_price"
    amount_at_provider: int = AMOUNT
    is_automatic: bool = False
    capture_tells: bool = True

    def __post_init__(self) -> None:
        self._number: dict[Checkout, int] = {}
        self._rows: list[Checkout] = []
        self._known: dict[tuple[Any, ...], Any] = {}
        self._origin: dict[World, tuple[World | None, str]] = {}
        self._calm: set[World] = set()
        self.ends: set[tuple[PaymentState, bool]] = set()

    def explore(self, left: Left, worlds_max: int = 400_000) -> int:
        """Visit every world, breadth first, and follow each to its end. Returns how many."""
        mode = CaptureMode.AUTOMATIC if self.is_automatic else CaptureMode.MANUAL
        row = self._code(Checkout(replace(PAYMENT, capture_mode=mode)), WHILE_HELD)
        first = World(row, (0,) * len(EntryKind), 0, Provider(), House(), left)
        self._origin[first] = (None, "begin")
        waiting = deque([first])
        while waiting:
            world = waiting.popleft()
            self._check(world)
            self._follow(world)
            for what, after in self._all_that_may_happen(world):
                if after not in self._origin:
                    assert len(self._origin) < worlds_max, "the world is too large to know"
                    self._origin[after] = (world, what)
                    waiting.append(after)
        return len(self._origin)

    # -- the row ------------------------------------------------------------------------------

    def _code(self, checkout: Checkout, now_ms: int) -> int:
        """The row's number; rows that differ only in their pace are the same."""
        payment = checkout.payment
        due_at_ms = None if payment.due_at_ms is None else now_ms
        if payment.due_at_ms != due_at_ms or payment.attempt_count:
            payment = replace(payment, due_at_ms=due_at_ms, attempt_count=0)
            checkout = replace(checkout, payment=payment)
        number = self._number.get(checkout)
        if number is None:
            number = self._number[checkout] = len(self._rows)
            self._rows.append(checkout)
        return number

    def _changed(self, row: int, moment: int, change: Callable[..., Any], *said: Any) -> int:
        known = (row, moment, change, said)
        number: int | None = self._known.get(known)
        if number is None:
            now_ms = MOMENTS[moment]
            learned = change(self._rows[row], *said, now_ms)
            number = self._code(getattr(learned, "checkout", learned), now_ms)
            self._known[known] = number
        return number

    def _saved(self, world: World, row: int, read: int | None = None) -> World:
        """The world with the row saved, unless it is not any more what its changer read."""
        if read is not None and self.saga.compares_versions and world.row != read:
            return world
        if row == world.row:
            return world
        known = ("entries", world.row, row)
        written: tuple[int, ...] | None = self._known.get(known)
        if written is None:
            sums = dict.fromkeys(EntryKind, 0)
            for entry in entries_of(self._rows[world.row], self._rows[row], 0):
                sums[entry.kind] += entry.amount_minor
            written = self._known[known] = tuple(sums.values())
        sums_after = tuple(map(sum, zip(world.sums, written, strict=True)))
        return world._replace(row=row, sums=sums_after)

    def _step(self, world: World) -> Step:
        known = ("step", world.row, world.moment)
        step: Step | None = self._known.get(known)
        if step is None:
            checkout = self._rows[world.row]
            step = self._known[known] = self.saga.decide(checkout, MOMENTS[world.moment])
        return step

    # -- what may happen ----------------------------------------------------------------------

    def _all_that_may_happen(self, world: World) -> Iterator[tuple[str, World]]:
        yield from self._of_customer(world)
        yield from self._of_fate(world)
        if world.late is not None:
            arrived = world._replace(late=None)
            yield f"late {_name(world.late)}", self._effect(arrived, world.late)[0]
        if world.acting is None:
            decided = self._decided(world)
            if decided is not None:
                yield f"decide {_name(self._step(world))}", decided
            return
        step = world.acting[1]
        yield f"{_name(step)}", self._acted(world)
        left = world.left
        if left.faults:
            alone = world._replace(left=left._replace(faults=left.faults - 1))
            yield f"{_name(step)} not done", self._forgotten(alone)
            done = self._effect(alone, step)[0]
            yield f"{_name(step)} without answer", self._forgotten(done)
        if left.late and world.late is None:
            lost = world._replace(left=left._replace(late=left.late - 1), late=step)
            yield f"{_name(step)} on its way", self._forgotten(lost)

    def _of_customer(self, world: World) -> Iterator[tuple[str, World]]:
        provider, left = world.provider, world.left
        if provider.is_payable and provider.state in ("open", "failed"):
            state = "captured" if self.is_automatic else "authorised"
            charges = 1 if self.is_automatic else 0
            yield "pays", world._replace(provider=provider._replace(state=state, charges=charges))
            if left.failures and provider.state == "open":
                yield (
                    "fails",
                    world._replace(
                        provider=provider._replace(state="failed"),
                        left=left._replace(failures=left.failures - 1),
                    ),
                )
        if provider.state == "captured" and left.charges > 1:
            yield (
                "pays twice",
                world._replace(
                    provider=provider._replace(charges=provider.charges + 1),
                    left=left._replace(charges=left.charges - 1),
                ),
            )
        if left.give_ups and not is_booked(self._rows[world.row].payment):
            given_up = self._changed(world.row, world.moment, learn_given_up)
            if given_up != world.row:
                after = world._replace(
                    left=left._replace(give_ups=left.give_ups - 1), may_give_up=True
                )
                yield "gives up", self._saved(after, given_up)
        if left.booking_cancels and world.house.booked and not world.house.booking_cancelled:
            fewer = world._replace(left=left._replace(booking_cancels=left.booking_cancels - 1))
            yield "cancels booking", self._booking_cancelled(fewer, RefundTerms.POLICY)

    def _of_fate(self, world: World) -> Iterator[tuple[str, World]]:
        provider, house, left = world.provider, world.house, world.left
        if world.moment < LAST_MOMENT and not _takes_less_time(world):
            yield "time passes", self._later(world)
        if provider.state is not None:
            noticed = self._changed(world.row, world.moment, learn_notice)
            yield "webhook", self._saved(world, noticed)
        if left.show_cancels and not house.show_cancelled:
            yield (
                "show cancelled",
                world._replace(
                    house=house._replace(show_cancelled=True, hold=_ended(house.hold, "released")),
                    left=left._replace(show_cancels=left.show_cancels - 1),
                    may_give_up=True,
                ),
            )
        if house.show_cancelled and house.booked and not house.booking_cancelled:
            yield "house cancels", self._booking_cancelled(world, RefundTerms.FULL)
        if left.lapses and provider.state == "authorised" and world.moment == LAST_MOMENT:
            yield (
                "authorisation lapses",
                world._replace(
                    provider=provider._replace(state="cancelled"),
                    left=left._replace(lapses=left.lapses - 1),
                    may_give_up=True,
                ),
            )
        for index, (key, amount, state) in enumerate(provider.refunds):
            if state == "pending":
                yield "refund arrives", _refund_becomes(world, index, (key, amount, "succeeded"))
            if state != "failed" and left.refund_failures:
                # Also after it had arrived: the customer's account may be closed.
                fewer = left._replace(refund_failures=left.refund_failures - 1)
                failed = world._replace(left=fewer)
                yield "refund fails", _refund_becomes(failed, index, (key, amount, "failed"))

    def _later(self, world: World) -> World:
        house = world.house
        moment = world.moment + 1
        again = house.again if world.moment == 0 else _ended(house.again, "expired")
        return world._replace(
            moment=moment,
            row=self._changed(world.row, moment, _aged),
            house=house._replace(hold=_ended(house.hold, "expired"), again=again),
            acting=None
            if world.acting is None
            else (self._changed(world.acting[0], moment, _aged), world.acting[1]),
        )

    def _booking_cancelled(self, world: World, terms: RefundTerms) -> World:
        row = self._changed(world.row, world.moment, _booking_cancelled, terms)
        house = world.house._replace(booking_cancelled=terms.value)
        return self._saved(world._replace(house=house), row)

    # -- the runner ---------------------------------------------------------------------------

    def _decided(self, world: World) -> World | None:
        if self._rows[world.row].payment.due_at_ms is None:
            return None
        step = self._step(world)
        if isinstance(step, Done):
            return self._saved(world, self._changed(world.row, world.moment, _rest))
        if isinstance(step, Wait):
            return None
        if isinstance(step, RefundMoney):
            refund_id = step.refund.refund_id
            asked = self._changed(world.row, world.moment, learn_refund_requested, refund_id)
            world = self._saved(world, asked)
        return world._replace(acting=(world.row, step))

    def _forgotten(self, world: World) -> World:
        """The runner, or his answer, is gone; he notes that he knows nothing."""
        assert world.acting is not None
        read, step = world.acting
        unknown = self._changed(read, world.moment, self.saga.unknown, step)
        world = self._saved(world._replace(acting=None), unknown, read)
        if self.saga.acts_blindly and isinstance(step, ConfirmAtShow):
            world = world._replace(provider=_undone(world.provider))
        return world

    def _acted(self, world: World) -> World:
        assert world.acting is not None
        read, step = world.acting
        world, change = self._effect(world._replace(acting=None), step)
        if change is None:
            return world
        learn, *said = change
        world = self._saved(world, self._changed(read, world.moment, learn, *said), read)
        payment, provider = self._rows[world.row].payment, world.provider
        if payment.state is PaymentState.OPEN and not provider.is_payable:
            return world._replace(provider=provider._replace(is_payable=True))
        return world

    def _effect(self, world: World, step: Step) -> tuple[World, tuple[Any, ...] | None]:
        """What the step does out there, and what is learned from the answer."""
        provider, house = world.provider, world.house
        match step:
            case CreateAtProvider():
                if provider.state is None:
                    world = world._replace(provider=provider._replace(state="open"))
                return world, (self.saga.provider_says, self._seen(world.provider), None)
            case FetchFromProvider():
                if provider.state is None:
                    return world, (learn_absent,)
                refunds = tuple(SeenBack("r" + key, key, state, amount)
                                for key, amount, state in provider.refunds)  # fmt: skip
                said = (self._seen(provider), refunds if step.with_refunds else None)
                return world, (self.saga.provider_says, *said)
            case CaptureMoney():
                if provider.state == "authorised":
                    captured = provider._replace(state="captured", charges=1, captured_by_us=True)
                    world = world._replace(provider=captured)
                elif provider.state != "captured":
                    return world, (_refused,)
                if self.capture_tells and not _given_back(world.provider):
                    return world, (self.saga.provider_says, self._seen(world.provider), None)
                return world, (learn_notice,)
            case VoidAtProvider():
                if provider.state == "captured":
                    return world, (_refused,)
                return world._replace(provider=provider._replace(state="cancelled")), (
                    learn_voided,
                )
            case RefundMoney():
                return self._refunded(world, step)
            case ConfirmAtShow():
                return self._confirmed(world, step.hold_id)
            case HoldAgain():
                return self._held_again(world)
            case ReleaseAgain():
                house = house._replace(again=_ended(house.again, "released"))
                return world._replace(house=house), (learn_released,)
            case ReckonCancellation():
                return world, (_reckoned,)
            case CancelUnpaid():
                if house.booking_cancelled:
                    return world, None
                return self._booking_cancelled(world, step.terms), None
            case Wait() | Done():
                raise AssertionError("nothing to do")

    def _seen(self, provider: Provider) -> Seen:
        assert provider.state is not None
        taken = provider.charges * self.amount_at_provider
        # As agreed until it is paid: somebody changes it behind the customer's back, or ours.
        amount = AMOUNT if provider.state in ("open", "failed") else self.amount_at_provider
        return Seen("obj", provider.state, amount, "EUR", taken)

    def _refunded(self, world: World, step: RefundMoney) -> tuple[World, tuple[Any, ...] | None]:
        provider, refund = world.provider, step.refund
        by_key = {key: (amount, state) for key, amount, state in provider.refunds}
        if refund.key not in by_key:
            rest = provider.charges * self.amount_at_provider - _given_back(provider, "pending")
            if refund.amount_minor > rest:
                return world, (_unknown,)
            by_key[refund.key] = (refund.amount_minor, "pending")
            refunds = (*provider.refunds, (refund.key, refund.amount_minor, "pending"))
            world = world._replace(provider=provider._replace(refunds=refunds))
        amount, state = by_key[refund.key]
        seen = SeenBack("r" + refund.key, refund.key, state, amount)
        return world, (learn_refund_answer, refund.refund_id, seen)

    def _confirmed(self, world: World, hold_id: HoldId) -> tuple[World, tuple[Any, ...] | None]:
        house = world.house
        which = 1 if hold_id == HOLD_ID else 2
        state = house.hold if which == 1 else house.again
        if house.booked == which:
            if not house.booking_cancelled:
                return world, None
            return _refusing(world, Rejection.BOOKING_CANCELLED)
        if house.show_cancelled:
            return _refusing(world, Rejection.SHOW_CANCELLED)
        if state != "live":
            # A hold at another price is alive, too, but nobody confirms it.
            assert state != "other_price", "confirms what the customer did not agree to"
            return _refusing(world, Rejection.HOLD_EXPIRED)
        row = self._changed(world.row, world.moment, self._booked, hold_id)
        if row == world.row:
            return world, (_unknown,)
        world = world._replace(house=house._replace(booked=which))
        return self._saved(world, row), None

    def _booked(self, checkout: Checkout, hold_id: HoldId, now_ms: int) -> Checkout:
        payment = self.saga.books(checkout.payment, hold_id, now_ms)
        return checkout if payment is None else replace(checkout, payment=payment)

    def _held_again(self, world: World) -> tuple[World, tuple[Any, ...] | None]:
        house = world.house
        if house.again == "none":
            if house.show_cancelled or self.again_answer == "taken":
                return world._replace(may_give_up=True), (learn_hold_again_rejected,)
            again = "live" if self.again_answer == "same_price" else "other_price"
            world = world._replace(house=house._replace(again=again))
        price = PAYMENT.hold_minor + (0 if self.again_answer == "same_price" else 1)
        if price != PAYMENT.hold_minor:
            world = world._replace(may_give_up=True)
        return world, (learn_held_again, price)

    # -- what must be -------------------------------------------------------------------------

    def _check(self, world: World) -> None:
        payment = self._rows[world.row].payment
        provider, house = world.provider, world.house
        is_active = house.booked and not house.booking_cancelled
        if is_active and not is_booked(payment):
            self._break(world, "places without their payment")
        if not house.booked and is_booked(payment):
            self._break(world, "a payment booked without places")
        if house.booked and self.amount_at_provider != AMOUNT:
            self._break(world, "booked for another amount than was agreed")
        taken = provider.charges * self.amount_at_provider
        back = _given_back(provider, "pending")
        if is_active and payment.state is PaymentState.SETTLED and taken - back < AMOUNT:
            self._break(world, "booked, and paid back all the same")
        if provider.captured_by_us and not house.booked:
            self._break(world, "captured before it was booked")
        if payment.state in _LET_GO and not (
            world.may_give_up or house.booking_cancelled or self.amount_at_provider != AMOUNT
            or world.moment > 0
        ):  # fmt: skip
            self._break(world, "given up although nobody said no")
        known = ("faults", world.row, world.sums)
        faults = self._known.get(known)
        if faults is None:
            checkout = self._rows[world.row]
            entries = [
                LedgerEntry(kind, amount, "EUR", checkout.payment.payment_id, None, 0)
                for kind, amount in zip(EntryKind, world.sums, strict=True)
                if amount
            ]
            faults = self._known[known] = balance_faults(entries, [checkout])
        if faults:
            self._break(world, f"the ledger does not add up: {faults}")

    def _follow(self, world: World) -> None:
        """Let everybody finish his work, and look at what is left."""
        path: list[World] = []
        while world not in self._calm:
            if len(path) > 300:
                self._break(path[0], f"never ends: {path[-6:]}")
            path.append(world)
            after = self._calmly(world)
            if after is None:
                self._check_end(path[0], world)
                break
            world = after
            self._check_of(path[0], world)
        self._calm.update(path)

    def _calmly(self, world: World) -> World | None:
        if world.late is not None:
            return self._effect(world._replace(late=None), world.late)[0]
        if world.acting is not None:
            return self._acted(world)
        for index, (key, amount, state) in enumerate(world.provider.refunds):
            if state == "pending":
                return _refund_becomes(world, index, (key, amount, "succeeded"))
        house = world.house
        if house.show_cancelled and house.booked and not house.booking_cancelled:
            return self._booking_cancelled(world, RefundTerms.FULL)
        decided = self._decided(world)
        if decided is not None and decided.acting is None:
            return decided
        if decided is not None and self._acted(decided) != world:
            return decided
        if world.moment < len(MOMENTS) - 1:
            return self._later(world)
        if self.saga.reconciles and world.provider.state is not None:
            noticed = self._saved(world, self._changed(world.row, world.moment, learn_notice))
            looked = self._decided(noticed)
            assert looked is not None, "notice does not wake"
            if looked.acting is not None and self._acted(looked) != world:
                return noticed
        return None

    def _check_of(self, origin: World, world: World) -> None:
        if world not in self._origin and world not in self._calm:
            self._origin.setdefault(world, (origin, "calm"))
            self._check(world)
            del self._origin[world]

    def _check_end(self, origin: World, world: World) -> None:
        payment = self._rows[world.row].payment
        provider, house = world.provider, world.house
        has_places = bool(house.booked) and not house.booking_cancelled
        ours = provider.charges * self.amount_at_provider - _given_back(provider)
        self.ends.add((payment.state, has_places))
        if payment.due_at_ms is not None or payment.state not in _ENDS:
            self._break(origin, f"ends unfinished: {payment.state}")
        if provider.is_payable and provider.state in ("open", "failed", "authorised"):
            self._break(origin, f"ends while the provider can still take money: {provider.state}")
        if has_places:
            if ours != AMOUNT:
                self._break(origin, f"booked, and paid {ours}")
        elif house.booking_cancelled == RefundTerms.POLICY:
            if ours not in (0, AMOUNT // 2) or (ours == 0 and provider.charges):
                self._break(origin, f"cancelled by policy, and {ours} kept")
        elif ours:
            self._break(origin, f"neither places nor money back: {ours}")
        if not house.booked and house.again == "live" and world.left.late == origin.left.late:
            self._break(origin, "the second hold was left behind")

    def _break(self, world: World, what: str) -> None:
        story: list[str] = []
        at: World | None = world
        while at is not None:
            before, how = self._origin[at]
            story.append(how)
            at = before
        row = self._rows[world.row]
        raise Broken(f"{what}\n  " + "\n  ".join(reversed(story)) + f"\n{row}\n{world}")


_ENDS = (PaymentState.SETTLED, PaymentState.VOIDED, PaymentState.REFUNDED)
_LET_GO = (
    PaymentState.VOID_DUE,
    PaymentState.VOIDED,
    PaymentState.REFUND_DUE,
    PaymentState.REFUNDED,
)


def _aged(checkout: Checkout, _: int) -> Checkout:
    return checkout


def _booking_cancelled(checkout: Checkout, terms: RefundTerms, now_ms: int) -> Checkout:
    return replace(checkout, payment=cancelled_by(checkout.payment, terms, now_ms))


def _rest(checkout: Checkout, _: int) -> Any:
    return learn_rest(checkout, None)


def _refused(checkout: Checkout, now_ms: int) -> Any:
    return learn_refused(checkout, now_ms, 0)


def _unknown(checkout: Checkout, now_ms: int) -> Any:
    return learn_delay(checkout, now_ms, 0)


def _reckoned(checkout: Checkout, now_ms: int) -> Any:
    return learn_reckoned(checkout, HALF_BACK, None, now_ms)


def _refusing(world: World, rejection: Rejection) -> tuple[World, tuple[Any, ...]]:
    return world._replace(may_give_up=True), (learn_confirm_rejected, rejection)


def _takes_less_time(world: World) -> bool:
    """Whether something is under way that is over long before time passes.

    A call lasts seconds. The saga counts on it in one place: what the provider does not know of
    minutes after it was closed to calls was not created.
    """
    under_way = (world.late, None if world.acting is None else world.acting[1])
    return any(isinstance(step, CreateAtProvider) for step in under_way)


def _name(step: Step) -> str:
    return type(step).__name__


def _ended(hold: str, how: str) -> str:
    return how if hold in ("live", "other_price") else hold


def _given_back(provider: Provider, *also: str) -> int:
    return sum(
        amount for _, amount, state in provider.refunds if state == "succeeded" or state in also
    )


def _refund_becomes(world: World, index: int, refund: tuple[str, int, str]) -> World:
    refunds = list(world.provider.refunds)
    refunds[index] = refund
    return world._replace(provider=world.provider._replace(refunds=tuple(refunds)))


def _undone(provider: Provider) -> Provider:
    """What a runner does who takes silence for a no."""
    if provider.state == "captured":
        back = ("blind", AMOUNT, "succeeded")
        return provider._replace(refunds=(*provider.refunds, back))
    return provider._replace(state="cancelled")
