"""The booking application: hold, extend, release, pay, confirm, cancel, and what a customer has.

``POST .../holds`` is the hot route. It parses once, knows the show from memory, asks the show's
actor, and answers from the event; it never waits for a database. The other commands do the same.
Only reading (``GET``) goes to the databases.

Repeating a command is harmless everywhere. A hold is known by its idempotency key, and a
repetition is answered with the same status and body and ``Idempotent-Replayed: true``; extending,
releasing, confirming and cancelling are known by the hold or booking itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Annotated, NamedTuple

from fastapi import Query, Request
from starlette.responses import Response

from actors.show_ref import ShowRefs
from persistence.claim_reader import BookingCursor, ClaimReader
from persistence.payment_rows import StoredPayment
from reservation.access import Principal, Role
from reservation.commands import (
    CancelBooking,
    Command,
    ConfirmHold,
    ExtendHold,
    HoldBestAvailable,
    HoldFromChannel,
    HoldSeats,
    ReleaseHold,
)
from reservation.events import (
    BookingCancelled,
    BookingConfirmed,
    Event,
    HeldFromChannel,
    HoldExtended,
    HoldReleased,
    SeatsHeld,
)
from reservation.faults import Fault, ShowNotFound
from reservation.hold import Hold
from reservation.ids import (
    BookingId,
    CustomerId,
    HoldId,
    ShowId,
    derive_hold_id,
    hold_id_of,
    is_booking_id,
    is_hold_id,
    is_show_id,
    show_id_of,
)
from reservation.refund_terms import RefundTerms
from reservation.rejections import Rejected, Rejection
from reservation.seat_map import Repeated
from serve_app.api import booking_document as document
from serve_app.api.api_document import describe
from serve_app.api.body_guard import body_of
from serve_app.api.booking_checkout import CheckoutCounter
from serve_app.api.booking_schemas import CHECKOUT, CONFIRM, BookingsQuery
from serve_app.api.channel_keys import ChannelKeys
from serve_app.api.cursors import read_cursor, write_cursor
from serve_app.api.edge import (
    IDEMPOTENCY_KEY,
    Opened,
    idempotency_key_of,
    json_response,
    make_api,
    probe_all,
)
from serve_app.api.hold_requests import command_of, through_channel
from serve_app.api.hold_views import (
    View,
    view_of_booking,
    view_of_cancelled,
    view_of_confirmed,
    view_of_extended,
    view_of_held,
    view_of_hold,
)
from serve_app.api.limits import RequestLimits, Rule
from serve_app.api.principals import Gate, customer_of, principal_of
from serve_app.api.problems import Problem, bad_field, problem_of_fault, problem_of_rejection
from serve_app.api.short_way import Api
from serve_app.api.show_facts import ShowFacts, ShowFactsCache
from serve_app.api.strict_json import read_json, read_nothing, validated

log = logging.getLogger(__name__)

# They sell for a house: their own one. An admin may for every house.
_SELLERS = frozenset({Role.BOX_OFFICE, Role.ORGANISER})

_REPLAYED = {"Idempotent-Replayed": "true"}


@dataclass(frozen=True, slots=True)
class BookingDesk:
    """What the routes need. ``probes`` reach every database, each raising a fault if it cannot."""

    refs: ShowRefs
    facts: ShowFactsCache
    claims: ClaimReader
    channels: ChannelKeys
    checkouts: CheckoutCounter
    probes: Sequence[Callable[[], Awaitable[object]]] = ()

    async def probe(self) -> None:
        """See ``edge.Desk``."""
        await probe_all([probe() for probe in self.probes])


class _Answer(NamedTuple):
    """What an actor said to a command that was not rejected."""

    event: Event
    headers: dict[str, str]


def build_booking_api(
    open_desk: Callable[[], AbstractAsyncContextManager[BookingDesk]],
    *,
    gate: Gate,
    body_bytes_max: int,
    limits: RequestLimits | None = None,
    cors_origins: Sequence[str] = (),
) -> Api:
    """The booking application as plain ASGI, without Ray.

    See ``edge.make_api`` for ``open_desk`` and what follows it.
    """
    opened = Opened()
    app = make_api(
        opened,
        open_desk,
        title="Housefull booking",
        summary="Hold seats, confirm them, cancel bookings.",
        description=document.DESCRIPTION,
        body_bytes_max=body_bytes_max,
        limits=limits,
        cors_origins=cors_origins,
    )
    routes = _Routes(opened, limits or RequestLimits.off())
    for operation, handler in (
        (document.HOLD, routes.hold),
        (document.LIST_HOLDS, routes.list_holds),
        (document.FIND_HOLD, routes.find_hold),
        (document.EXTEND, routes.extend),
        (document.RELEASE, routes.release),
        (document.CONFIRM, routes.confirm),
        (document.CHECKOUT, routes.checkout),
        (document.LIST_BOOKINGS, routes.list_bookings),
        (document.FIND_BOOKING, routes.find_booking),
        (document.CANCEL, routes.cancel),
    ):
        operation.add_to(app, handler, gate)
    describe(app, document.MODELS)
    return app


class _Routes:
    """The handlers. They take the bare request: see ``api_document`` for why."""

    def __init__(self, opened: Opened, limits: RequestLimits) -> None:
        self._opened = opened
        self._limits = limits

    @property
    def _desk(self) -> BookingDesk:
        desk: BookingDesk | None = self._opened.desk
        if desk is None:
            raise Problem("not_done", "The application is starting or stopping.")
        return desk

    # -- commands -----------------------------------------------------------------------

    async def hold(self, request: Request) -> Response:
        scope = request.scope
        customer_id = customer_of(request)
        await self._limits.admit(scope, Rule.HOLD, customer_id)
        show_id = _show_id(request)
        key = idempotency_key_of(scope)
        if key is None:
            detail = f"A hold needs the header {IDEMPOTENCY_KEY}; choose a new one for each hold."
            raise Problem("idempotency_key_missing", detail)
        body = read_json(scope)
        desk = self._desk
        facts = await desk.facts.facts(show_id)
        hold_id = derive_hold_id(show_id, customer_id, key)
        hold = command_of(body, facts, hold_id, customer_id)
        command: Command = hold
        if body.get("access_key") is not None:
            command = await self._through_channel(hold, body["access_key"], facts)
        answer = await self._ask(show_id, command, facts, has_key=True)
        held = answer.event.held if isinstance(answer.event, HeldFromChannel) else answer.event
        assert isinstance(held, SeatsHeld)
        headers = {"Location": _address(request, "holds", hold_id), **answer.headers}
        return json_response(view_of_held(held, facts), 201, headers)

    async def extend(self, request: Request) -> Response:
        customer_id = await self._admit_command(request)
        hold_id = _hold_id(request)
        read_nothing(request.scope)
        answer = await self._settle(ExtendHold(hold_id, customer_id), hold_id)
        assert isinstance(answer.event, HoldExtended)
        return json_response(view_of_extended(answer.event), 200, answer.headers)

    async def release(self, request: Request) -> Response:
        customer_id = await self._admit_command(request)
        hold_id = _hold_id(request)
        read_nothing(request.scope)
        answer = await self._settle(ReleaseHold(hold_id, customer_id), hold_id)
        assert isinstance(answer.event, HoldReleased)
        return Response(status_code=204, headers=answer.headers)

    async def confirm(self, request: Request) -> Response:
        customer_id = await self._admit_command(request)
        hold_id = _hold_id(request)
        body = validated(CONFIRM, read_json(request.scope))
        facts = await self._facts_of_claim(hold_id)
        if not _sells(principal_of(request), facts):
            raise _payment_not_allowed()
        answer = await self._settle(ConfirmHold(hold_id, customer_id, body.payment), hold_id)
        event = answer.event
        assert isinstance(event, BookingConfirmed)
        headers = {"Location": _address(request, "bookings", event.booking_id), **answer.headers}
        return json_response(view_of_confirmed(event, facts), 201, headers)

    async def checkout(self, request: Request) -> Response:
        customer_id = await self._admit_command(request)
        hold_id = _hold_id(request)
        key = idempotency_key_of(request.scope)
        if key is None:
            detail = f"A payment needs the header {IDEMPOTENCY_KEY}; choose a new one for each."
            raise Problem("idempotency_key_missing", detail)
        body = validated(CHECKOUT, read_json(request.scope) if body_of(request.scope) else {})
        hold = await self._own_hold(hold_id, customer_id)
        facts = await self._desk.facts.facts(show_id_of(hold_id))
        begun = await self._desk.checkouts.begin(hold, facts, body, key)
        headers = {"Location": begun.address, **(_REPLAYED if begun.is_repeated else {})}
        return json_response(begun.view, 201, headers)

    async def cancel(self, request: Request) -> Response:
        customer_id = await self._admit_command(request)
        booking_id = _booking_id(request)
        read_nothing(request.scope)
        terms = RefundTerms.POLICY
        if principal_of(request).role is not Role.CUSTOMER:
            customer_id, terms = await self._customer_served(request, booking_id)
        answer = await self._settle(CancelBooking(booking_id, customer_id, terms), booking_id)
        assert isinstance(answer.event, BookingCancelled)
        return json_response(view_of_cancelled(answer.event), 200, answer.headers)

    # -- reading ------------------------------------------------------------------------

    async def list_holds(self, request: Request) -> Response:
        customer_id = await self._admit_read(request)
        holds = await self._desk.claims.list_live_holds(customer_id)
        facts = await self._facts_of(holds)
        views = [view_of_hold(hold, facts[show_id_of(hold.held.hold_id)]) for hold in holds]
        return json_response({"holds": views})

    async def find_hold(self, request: Request) -> Response:
        customer_id = await self._admit_read(request)
        hold_id = _hold_id(request)
        hold = await self._own_hold(hold_id, customer_id)
        facts = await self._desk.facts.facts(show_id_of(hold_id))
        return json_response(view_of_hold(hold, facts))

    async def list_bookings(
        self, request: Request, query: Annotated[BookingsQuery, Query()]
    ) -> Response:
        customer_id = await self._admit_read(request)
        after = _booking_cursor(query.cursor)
        page = await self._desk.claims.list_bookings(customer_id, limit=query.limit, after=after)
        facts = await self._facts_of(page.holds)
        paid = await self._payments_of(page.holds)
        bookings = [
            _booking_view(hold, facts[show_id_of(hold.held.hold_id)], paid) for hold in page.holds
        ]
        view: View = {"bookings": bookings}
        if page.next is not None:
            view["next"] = write_cursor(page.next.confirmed_at_ms, page.next.booking_id)
        return json_response(view)

    async def find_booking(self, request: Request) -> Response:
        customer_id = await self._admit_read(request)
        booking_id = _booking_id(request)
        hold = await self._desk.claims.find_booking(booking_id)
        if hold is None or hold.held.customer_id != customer_id:
            raise problem_of_rejection(Rejection.BOOKING_NOT_FOUND)
        facts = await self._desk.facts.facts(show_id_of(booking_id))
        return json_response(_booking_view(hold, facts, await self._payments_of([hold])))

    # -- what they share ----------------------------------------------------------------

    async def _admit_command(self, request: Request) -> CustomerId:
        customer_id = customer_of(request)
        await self._limits.admit(request.scope, Rule.COMMAND, customer_id)
        # Not needed, because the hold itself is the key; but a broken one is a mistake.
        idempotency_key_of(request.scope)
        return customer_id

    async def _admit_read(self, request: Request) -> CustomerId:
        customer_id = customer_of(request)
        await self._limits.admit(request.scope, Rule.READ, customer_id)
        return customer_id

    async def _through_channel(
        self, hold: HoldSeats | HoldBestAvailable, access_key: str, facts: ShowFacts
    ) -> HoldFromChannel:
        channel_id = await self._desk.channels.channel_of(access_key, facts.listing.tenant_id)
        if channel_id is None:
            raise problem_of_rejection(Rejection.CHANNEL_NOT_FOUND)
        return through_channel(hold, channel_id)

    async def _own_hold(self, hold_id: HoldId, customer_id: CustomerId) -> Hold:
        hold = await self._desk.claims.find_hold(hold_id)
        if hold is None or hold.held.customer_id != customer_id:
            raise problem_of_rejection(Rejection.HOLD_NOT_FOUND)
        return hold

    async def _payments_of(self, holds: Sequence[Hold]) -> Mapping[str, StoredPayment]:
        """The payments of these bookings; what is free, or of the counter, has none."""
        names = [hold.booking.confirmed.payment for hold in holds if hold.booking is not None]
        return await self._desk.checkouts.payments.find_all(names)

    async def _customer_served(
        self, request: Request, booking_id: BookingId
    ) -> tuple[CustomerId, RefundTerms]:
        """For whom this account may cancel a booking, and on which terms.

        For its customer and with all of his money, if it sells the show: then the house cancels.
        """
        if not _sells(principal_of(request), await self._facts_of_claim(booking_id)):
            return customer_of(request), RefundTerms.POLICY
        # What was confirmed is in the database before anybody is told.
        hold = await self._desk.claims.find_hold(hold_id_of(booking_id))
        if hold is None or hold.booking is None:
            raise problem_of_rejection(Rejection.BOOKING_NOT_FOUND)
        return hold.held.customer_id, RefundTerms.FULL

    async def _facts_of_claim(self, claim_id: HoldId | BookingId) -> ShowFacts:
        try:
            return await self._desk.facts.facts(show_id_of(claim_id))
        except ShowNotFound:
            raise problem_of_rejection(_absence_of(claim_id)) from None

    async def _settle(self, command: Command, claim_id: HoldId | BookingId) -> _Answer:
        """Ask the show of a hold or booking. The ids of unknown shows name nothing."""
        try:
            return await self._ask(show_id_of(claim_id), command)
        except ShowNotFound:
            raise problem_of_rejection(_absence_of(claim_id)) from None

    async def _ask(
        self,
        show_id: ShowId,
        command: Command,
        facts: ShowFacts | None = None,
        *,
        has_key: bool = False,
    ) -> _Answer:
        """Let the show decide.

        Raises:
            ShowNotFound: as it is; what it means depends on the route.
            Problem: every other fault, and every rejection; ``facts`` name what clashed.
        """
        try:
            outcome = await self._desk.refs.ask(show_id, command)
        except ShowNotFound:
            raise
        except Fault as fault:
            log.warning("%s on %s: %r", type(command).__name__, show_id, fault)
            raise problem_of_fault(fault, has_key=has_key) from fault
        if isinstance(outcome, Rejected):
            raise _problem_of(outcome, facts)
        if isinstance(outcome, Repeated):
            return _Answer(outcome.event, _REPLAYED)
        return _Answer(outcome, {})

    async def _facts_of(self, holds: Sequence[Hold]) -> dict[ShowId, ShowFacts]:
        show_ids = list({show_id_of(hold.held.hold_id) for hold in holds})
        facts = await asyncio.gather(*[self._desk.facts.facts(show_id) for show_id in show_ids])
        return dict(zip(show_ids, facts, strict=True))


def _sells(principal: Principal, facts: ShowFacts) -> bool:
    """Whether this account sells this show to others: takes money for it, cancels bookings."""
    if principal.role in _SELLERS:
        return principal.tenant_id == facts.listing.tenant_id
    return principal.role is Role.ADMIN


def _problem_of(rejected: Rejected, facts: ShowFacts | None) -> Problem:
    if facts is None:
        return problem_of_rejection(rejected.code)
    tiers = facts.plan.admission_tiers
    return problem_of_rejection(
        rejected.code,
        seats=facts.plan.labels_of(rejected.seat_indexes),
        tiers=[tiers[index].code for index in rejected.tier_indexes],
    )


def _payment_not_allowed() -> Problem:
    # A customer pays with a payment, which its own route begins.
    reason = "only the box office of the show's own house takes money at the counter"
    return Problem(
        "payment_not_allowed",
        f"payment: {reason}.",
        members={"errors": [{"field": "payment", "reason": reason}]},
    )


def _booking_view(hold: Hold, facts: ShowFacts, paid: Mapping[str, StoredPayment]) -> View:
    assert hold.booking is not None, f"{hold.held.hold_id} is listed as a booking and is none"
    return view_of_booking(hold.held, hold.booking, facts, paid.get(hold.booking.confirmed.payment))


def _booking_cursor(cursor: str | None) -> BookingCursor | None:
    if cursor is None:
        return None
    confirmed_at_ms, booking_id = read_cursor(cursor)
    if not is_booking_id(booking_id):
        raise bad_field("cursor", "is not a cursor of this list")
    return BookingCursor(confirmed_at_ms, BookingId(booking_id))


# An id of the wrong form is an id of nothing: there is no use in telling the two apart.


def _show_id(request: Request) -> ShowId:
    text = request.path_params["show_id"]
    if not is_show_id(text):
        raise Problem("show_not_found", "There is no show with this id.")
    return ShowId(text)


def _hold_id(request: Request) -> HoldId:
    text = request.path_params["hold_id"]
    if not is_hold_id(text):
        raise problem_of_rejection(Rejection.HOLD_NOT_FOUND)
    return HoldId(text)


def _booking_id(request: Request) -> BookingId:
    text = request.path_params["booking_id"]
    if not is_booking_id(text):
        raise problem_of_rejection(Rejection.BOOKING_NOT_FOUND)
    return BookingId(text)


def _absence_of(claim_id: HoldId | BookingId) -> Rejection:
    return Rejection.BOOKING_NOT_FOUND if is_booking_id(claim_id) else Rejection.HOLD_NOT_FOUND


def _address(request: Request, collection: str, claim_id: str) -> str:
    return f"{request.scope.get('root_path', '')}/{collection}/{claim_id}"
