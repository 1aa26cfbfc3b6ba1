"""Deciding what becomes of a hold that exists: extended, released, confirmed, cancelled."""

from __future__ import annotations

from collections.abc import Mapping

from reservation.commands import CancelBooking, ConfirmHold, ExtendHold, ReleaseHold
from reservation.events import BookingCancelled, BookingConfirmed, HoldExtended, HoldReleased
from reservation.hold import REFUSAL_OF_ENDED_HOLD, BookingState, Hold, HoldState
from reservation.ids import CustomerId, HoldId, booking_id_of, hold_id_of
from reservation.outcome import Outcome, Repeated
from reservation.rejections import Rejected, Rejection
from reservation.show import SalesPolicy


class Settling:
    """Reads the holds of one show and changes nothing. A stranger's hold is not there."""

    def __init__(self, policy: SalesPolicy, holds: Mapping[HoldId, Hold]) -> None:
        self._policy = policy
        self._holds = holds

    def decide_extend(self, command: ExtendHold, now_ms: int) -> Outcome:
        """See ``ExtendHold``."""
        hold = self._live_hold(command.hold_id, command.customer_id, now_ms)
        if isinstance(hold, Rejected):
            return hold
        policy = self._policy
        cap_at_ms = hold.held.held_at_ms + policy.hold_life_ms_max
        if hold.expires_at_ms >= cap_at_ms:
            return Rejected(Rejection.EXTENSION_CAP_REACHED)
        expires_at_ms = min(now_ms + policy.hold_ttl_ms, cap_at_ms)
        if expires_at_ms <= hold.expires_at_ms:
            return Repeated(HoldExtended(command.hold_id, hold.expires_at_ms))
        return HoldExtended(command.hold_id, expires_at_ms)

    def decide_release(self, command: ReleaseHold, now_ms: int) -> Outcome:
        """See ``ReleaseHold``."""
        hold = self._own_hold(command.hold_id, command.customer_id)
        if hold is not None and hold.state is HoldState.RELEASED:
            assert hold.ended_at_ms is not None
            return Repeated(HoldReleased(command.hold_id, hold.ended_at_ms))
        live = self._live_hold(command.hold_id, command.customer_id, now_ms)
        return live if isinstance(live, Rejected) else HoldReleased(command.hold_id, now_ms)

    def decide_confirm(self, command: ConfirmHold, now_ms: int) -> Outcome:
        """See ``ConfirmHold``."""
        hold = self._own_hold(command.hold_id, command.customer_id)
        if hold is not None and hold.booking is not None:
            if hold.booking.state is BookingState.CANCELLED:
                return Rejected(Rejection.BOOKING_CANCELLED)
            if hold.booking.confirmed.payment != command.payment:
                return Rejected(Rejection.EXISTS_WITH_DIFFERENT_REQUEST)
            return Repeated(hold.booking.confirmed)
        live = self._live_hold(command.hold_id, command.customer_id, now_ms)
        if isinstance(live, Rejected):
            return live
        return BookingConfirmed(
            command.hold_id,
            booking_id_of(command.hold_id),
            command.customer_id,
            command.payment,
            live.held.amount_minor,
            now_ms,
        )

    def decide_cancel(self, command: CancelBooking, now_ms: int) -> Outcome:
        """See ``CancelBooking``."""
        hold = self._own_hold(hold_id_of(command.booking_id), command.customer_id)
        if hold is None or hold.booking is None:
            return Rejected(Rejection.BOOKING_NOT_FOUND)
        booking, hold_id = hold.booking, hold_id_of(command.booking_id)
        if booking.cancelled_at_ms is not None:
            return Repeated(
                BookingCancelled(
                    hold_id, command.booking_id, booking.cancelled_at_ms, booking.refund_terms
                )
            )
        return BookingCancelled(hold_id, command.booking_id, now_ms, command.refund)

    def _own_hold(self, hold_id: HoldId, customer_id: CustomerId) -> Hold | None:
        """The hold, if it is this customer's; somebody else's does not exist for them."""
        hold = self._holds.get(hold_id)
        return hold if hold is not None and hold.held.customer_id == customer_id else None

    def _live_hold(self, hold_id: HoldId, customer_id: CustomerId, now_ms: int) -> Hold | Rejected:
        hold = self._own_hold(hold_id, customer_id)
        if hold is None:
            return Rejected(Rejection.HOLD_NOT_FOUND)
        if hold.state is not HoldState.HELD:
            return Rejected(REFUSAL_OF_ENDED_HOLD[hold.state])
        if hold.expires_at_ms <= now_ms:
            return Rejected(Rejection.HOLD_EXPIRED)
        return hold
