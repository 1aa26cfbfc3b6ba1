"""Holds and bookings as clients see them: labels instead of indexes, instants instead of numbers.

What is written here must fit the models of ``booking_schemas``.
"""

from __future__ import annotations

from typing import Any

from persistence.payment_rows import StoredPayment
from reservation.events import BookingCancelled, BookingConfirmed, HoldExtended, SeatsHeld
from reservation.hold import Booking, Hold, HoldState
from reservation.ids import booking_id_of, show_id_of
from serve_app.api.instants import write_instant
from serve_app.api.payments.views import view_of_receipt
from serve_app.api.segments import stops_of
from serve_app.api.show_facts import ShowFacts

View = dict[str, Any]


def view_of_held(held: SeatsHeld, facts: ShowFacts) -> View:
    """A hold as it is in its first moment; a repeated request is answered with it again."""
    return _view_of_hold(held, facts, HoldState.HELD, held.expires_at_ms)


def view_of_hold(hold: Hold, facts: ShowFacts) -> View:
    """A hold as it is now."""
    view = _view_of_hold(hold.held, facts, hold.state, hold.expires_at_ms)
    if hold.booking is not None:
        view["booking_id"] = booking_id_of(hold.held.hold_id)
    return view


def _view_of_hold(held: SeatsHeld, facts: ShowFacts, state: HoldState, expires_at_ms: int) -> View:
    latest_at_ms = held.held_at_ms + facts.listing.policy.hold_life_ms_max
    view = _view_of_places(held, facts)
    view["state"] = state.value
    view["expires_at"] = write_instant(expires_at_ms)
    # A policy that was shortened since does not shorten a hold that exists.
    view["expires_at_latest"] = write_instant(max(latest_at_ms, expires_at_ms))
    return view


def view_of_extended(event: HoldExtended) -> View:
    """The new deadline of a hold."""
    return {
        "hold_id": event.hold_id,
        "show_id": show_id_of(event.hold_id),
        "state": HoldState.HELD.value,
        "expires_at": write_instant(event.expires_at_ms),
    }


def view_of_confirmed(event: BookingConfirmed, facts: ShowFacts) -> View:
    """A booking as confirming answers it."""
    return {
        "booking_id": event.booking_id,
        "hold_id": event.hold_id,
        "show_id": show_id_of(event.hold_id),
        "state": "confirmed",
        "payment": event.payment,
        "amount_minor": event.amount_minor,
        "currency": facts.listing.fares.currency,
        "confirmed_at": write_instant(event.at_ms),
    }


def view_of_cancelled(event: BookingCancelled) -> View:
    """A booking as cancelling answers it."""
    return {
        "booking_id": event.booking_id,
        "hold_id": event.hold_id,
        "show_id": show_id_of(event.hold_id),
        "state": "cancelled",
        "cancelled_at": write_instant(event.at_ms),
        "refund": event.refund.value,
    }


def view_of_booking(
    held: SeatsHeld, booking: Booking, facts: ShowFacts, paid: StoredPayment | None = None
) -> View:
    """A booking with its seats; ``paid`` is its payment, if it has one."""
    view = _view_of_places(held, facts)
    view["booking_id"] = booking.confirmed.booking_id
    view["state"] = booking.state.value
    view["payment"] = booking.confirmed.payment
    view["confirmed_at"] = write_instant(booking.confirmed.at_ms)
    if booking.cancelled_at_ms is not None:
        view["cancelled_at"] = write_instant(booking.cancelled_at_ms)
    if paid is not None:
        view["receipt"] = view_of_receipt(paid)
    return view


def _view_of_places(held: SeatsHeld, facts: ShowFacts) -> View:
    plan = facts.plan
    categories, category_of, labels = plan.categories, plan.category_of, plan.labels
    tiers = plan.admission_tiers
    view: View = {"hold_id": held.hold_id, "show_id": show_id_of(held.hold_id)}
    stops = stops_of(facts.route, held.segment)
    if stops is not None:
        view["from"], view["to"] = stops
    view["seats"] = [
        {
            "label": labels[index],
            "category": categories[category_of[index]].name,
            "amount_minor": amount_minor,
        }
        for index, amount_minor in zip(held.seat_indexes, held.seat_minor, strict=True)
    ]
    view["admissions"] = [
        {"tier": tiers[tier].code, "count": count, "amount_minor": count * each_minor}
        for tier, count, each_minor in held.admissions
    ]
    view["arrangement"] = held.arrangement.value
    view["amount_minor"] = held.amount_minor
    view["currency"] = facts.listing.fares.currency
    view["held_at"] = write_instant(held.held_at_ms)
    return view
