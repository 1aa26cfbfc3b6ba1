"""Bookings as the people of a house undo them: cancelled, or paid back in part or in full.

A refund that is asked for here is written down under its key, once, and made by the payment worker
like every other; the answer does not wait for the provider.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from persistence.payment_rows import StoredPayment
from persistence.refund_requests import RefundRequest
from reservation.commands import CancelBooking
from reservation.events import BookingCancelled
from reservation.granting import GrantRefusal, grantable_minor, learn_granted
from reservation.hold import Hold
from reservation.ids import BookingId, ShowId, hold_id_of, is_booking_id, show_id_of
from reservation.outcome import Repeated
from reservation.refund_terms import RefundTerms
from reservation.rejections import Rejection
from reservation.seating_plan import SeatingPlan
from serve_app.api.api_document import Handler, Operation, problems
from serve_app.api.edge import json_response
from serve_app.api.instants import write_instant
from serve_app.api.organiser import refund_bodies as bodies
from serve_app.api.organiser.acting import (
    ANY_QUERY,
    BOX_OFFICE,
    Acting,
    body_of,
    creation_key,
)
from serve_app.api.organiser.asking import ask
from serve_app.api.organiser.audit_trail import Action
from serve_app.api.organiser.counter import Counter
from serve_app.api.organiser.outcomes import READING, REPLAYED, REPLAYED_HEADER
from serve_app.api.organiser.show_document import ASKING, FOR
from serve_app.api.problems import Problem, problem_of_rejection

_NOT_FOUND = Rejection.BOOKING_NOT_FOUND.value
_BODY = ("malformed_json", "unsupported_media_type")
_TRIES_MAX = 10

LIST = Operation(
    "GET",
    "/bookings/{booking_id}/refunds",
    tag="refunds",
    roles=BOX_OFFICE,
    summary="What became of the money of a booking",
    responses={
        200: {"description": "Its payment and refunds.", "model": bodies.BookingMoneyView},
        **problems(*READING, _NOT_FOUND, "payment_not_found"),
    },
    extra={"parameters": [bodies.BOOKING, *FOR]},
)
REFUND = Operation(
    "POST",
    "/bookings/{booking_id}/refunds",
    status=201,
    tag="refunds",
    roles=BOX_OFFICE,
    summary="Pay back a part of a booking, or all that is left",
    description=(
        "The booking stays as it is. Of a cancelled one, what the house has kept can be paid back. "
        "Never more than was captured and is still there."
    ),
    responses={
        201: {
            "description": "It is written down and will be made.",
            "model": bodies.RefundView,
            "headers": REPLAYED_HEADER,
        },
        **problems(
            *READING,
            *_BODY,
            "idempotency_key_missing",
            _NOT_FOUND,
            "payment_not_found",
            "refund_not_possible",
            Rejection.EXISTS_WITH_DIFFERENT_REQUEST.value,
            "outcome_unknown",
        ),
    },
    extra={
        "parameters": [bodies.REFUND_KEY, bodies.BOOKING, *FOR],
        "requestBody": bodies.REFUND_REQUEST,
    },
)
CANCEL = Operation(
    "POST",
    "/bookings/{booking_id}/cancel",
    tag="refunds",
    roles=BOX_OFFICE,
    summary="Cancel a booking for its customer",
    description="Everything goes back unless said otherwise: it is the house that cancels.",
    responses={
        200: {
            "description": "It is.",
            "model": bodies.BookingCancelledView,
            "headers": REPLAYED_HEADER,
        },
        **problems(*READING, *_BODY, _NOT_FOUND, *ASKING),
    },
    extra={"parameters": [bodies.BOOKING, *FOR], "requestBody": bodies.CANCEL_REQUEST},
)


class RefundRoutes:
    """The handlers."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter

    def operations(self) -> Iterable[tuple[Operation, Handler]]:
        """Which handler answers where."""
        yield LIST, self.list_refunds
        yield REFUND, self.refund
        yield CANCEL, self.cancel_booking

    async def list_refunds(self, request: Request) -> Response:
        acting, _ = await self._counter.begin(request, ANY_QUERY)
        booked = await self._booked(acting, request)
        stored = await self._payment(booked)
        requests = await self._counter.desk.money.requests_of(booked.show_id).list(
            stored.payment.payment_id
        )
        return json_response(bodies.view_of_money(booked.booking_id, stored.checkout, requests))

    async def refund(self, request: Request) -> Response:
        acting, _ = await self._counter.begin(request, ANY_QUERY)
        key = creation_key(request)
        sent = body_of(bodies.REFUND, request)
        booked = await self._booked(acting, request)
        for _ in range(_TRIES_MAX):
            answer = await self._refund_once(acting, booked, key, sent)
            if answer is not None:
                return answer
        raise Problem("not_done", "The payment is moving; nothing was paid back. Ask again.")

    async def cancel_booking(self, request: Request) -> Response:
        acting, _ = await self._counter.begin(request, ANY_QUERY)
        sent = body_of(bodies.CANCEL, request)
        booked = await self._booked(acting, request)
        command = CancelBooking(
            booked.booking_id, booked.hold.held.customer_id, RefundTerms(sent.refund)
        )
        outcome = await ask(self._counter.desk, booked.show_id, command)
        is_repeated = isinstance(outcome, Repeated)
        event = outcome.event if isinstance(outcome, Repeated) else outcome
        assert isinstance(event, BookingCancelled), event
        view = {
            "booking_id": booked.booking_id,
            "cancelled_at": write_instant(event.at_ms),
            "refund": event.refund.value,
        }
        if not is_repeated:
            after = {"refund": event.refund.value, "reason": sent.reason}
            await self._counter.audit.note(
                acting, Action.BOOKING_CANCELLED, booked.booking_id, after=after
            )
        return json_response(view, 200, REPLAYED if is_repeated else {})

    # -- what they share ----------------------------------------------------------------

    async def _refund_once(
        self, acting: Acting, booked: _Booked, key: str, sent: bodies.RefundBody
    ) -> Response | None:
        """The answer, or None when somebody else moved the payment meanwhile."""
        # Before the requests are: see RefundRequests.grant.
        stored = await self._payment(booked)
        checkout, payment = stored.checkout, stored.payment
        requests = self._counter.desk.money.requests_of(booked.show_id)
        asked_before = await requests.list(payment.payment_id)
        known = next((each for each in asked_before if each.request_key == key), None)
        digest = bodies.digest_of(sent)
        if known is not None:
            if known.digest != digest:
                raise problem_of_rejection(Rejection.EXISTS_WITH_DIFFERENT_REQUEST)
            refund = next(each for each in checkout.refunds if each.refund_id == known.refund_id)
            view = bodies.view_of_refund(refund, checkout, [known])
            return json_response(view, 201, REPLAYED)
        wanted = bodies.wanted_minor(sent, stored, booked.hold, booked.plan)
        now_ms = await self._counter.desk.money.now_ms(booked.show_id)
        learned = learn_granted(checkout, wanted or None, now_ms)
        if isinstance(learned, GrantRefusal):
            raise _refused(learned, grantable_minor(checkout))
        refund = learned.checkout.refunds[-1]
        asked = RefundRequest(
            key, digest, refund.refund_id, sent.reason, acting.principal.account_id
        )
        saved = await requests.grant(checkout, learned.checkout, asked)
        if saved is None:
            return None
        view = bodies.view_of_refund(refund, saved, [asked])
        await self._counter.audit.note(acting, Action.REFUND_GRANTED, booked.booking_id, after=view)
        return json_response(view, 201)

    async def _booked(self, acting: Acting, request: Request) -> _Booked:
        """The booking that the address names, if its show is the tenant's."""
        named, desk = request.path_params["booking_id"], self._counter.desk
        if is_booking_id(named):
            booking_id = BookingId(named)
            show_id = show_id_of(booking_id)
            row = await desk.organisers.shows.find(acting.tenant_id, show_id)
            hold = await desk.money.claims.find_hold(hold_id_of(booking_id)) if row else None
            if row is not None and hold is not None and hold.booking is not None:
                plan = await desk.catalogue.load_plan(row.listing.plan_id)
                assert plan is not None, f"{row.listing.plan_id} is gone"
                return _Booked(booking_id, show_id, hold, plan)
        raise problem_of_rejection(Rejection.BOOKING_NOT_FOUND)

    async def _payment(self, booked: _Booked) -> StoredPayment:
        payments = self._counter.desk.money.payments_of(booked.show_id)
        stored = await payments.find_by_hold(hold_id_of(booked.booking_id))
        if stored is None or stored.payment.payment_id != booked.payment:
            raise Problem("payment_not_found", "The booking was not paid with a payment provider.")
        return stored


class _Booked(NamedTuple):
    """A booking of the tenant's own."""

    booking_id: BookingId
    show_id: ShowId
    hold: Hold
    plan: SeatingPlan

    @property
    def payment(self) -> str:
        """How it was paid."""
        assert self.hold.booking is not None
        return self.hold.booking.confirmed.payment


def _refused(refusal: GrantRefusal, left_minor: int) -> Problem:
    match refusal:
        case GrantRefusal.TOO_MUCH:
            detail = f"No more than {left_minor} is left to be paid back."
        case GrantRefusal.TOO_MANY:
            detail = "There are as many refunds as a payment may have."
        case GrantRefusal.NOT_EARNED:
            detail = "There is nothing (yet, or any more) that could be paid back."
    return Problem("refund_not_possible", detail)
