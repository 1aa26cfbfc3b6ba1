"""Clients of a real house over HTTP that speak like refs: commands in, outcomes and faults out.

2xx                                the event, or ``Repeated`` when the answer says so
4xx                                ``Rejected``
503 of the house's own             ``NotDone``
504, every other 5xx, no answer    ``OutcomeUnknown``
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from itertools import count
from typing import Any

import httpx

from reservation.access import HOUSE_TENANT, Principal, Role
from reservation.commands import (
    CancelBooking,
    Command,
    ConfirmHold,
    ExtendHold,
    HoldSeats,
    ReleaseHold,
    digest_request,
)
from reservation.events import (
    Arrangement,
    BookingCancelled,
    BookingConfirmed,
    Event,
    HoldExtended,
    HoldReleased,
    SeatsHeld,
)
from reservation.faults import NotDone, OutcomeUnknown
from reservation.ids import (
    AccountId,
    BookingId,
    CustomerId,
    HoldId,
    SessionId,
    ShowId,
    derive_hold_id,
    hold_id_of,
)
from reservation.rejections import Rejected, Rejection
from reservation.route import Route
from reservation.seat_map import Outcome, Repeated
from reservation.seating_plan import SeatingPlan
from tests.support.access import Tokens, account_named
from tests.support.recorded_history import UNTOLD_AT_MS

ANSWER_TIMEOUT_S = 20.0
BOOKING = "/api/booking"

_numbers = count(1)


class HttpClients:
    """Any number of clients over shared connections. ``url`` may change while they work."""

    def __init__(
        self, client: httpx.AsyncClient, url: str, plan: SeatingPlan, tokens: Tokens
    ) -> None:
        self.url = url
        self._tokens = tokens
        self._client = client
        self._plan = plan
        self._keys: dict[HoldId, str] = {}
        self.plain_failures = 0

    def make_hold(self, show_id: ShowId, *seat_indexes: int, customer: str = "ann") -> HoldSeats:
        """A new command, as the house itself will make it of the request."""
        customer_id, key = CustomerId(account_named(customer)), f"key-{next(_numbers)}"
        hold_id = derive_hold_id(show_id, customer_id, key)
        self._keys[hold_id] = key
        segment = Route().whole
        digest = digest_request("named", seat_indexes, (), False, tuple(segment))
        return HoldSeats(hold_id, customer_id, segment, seat_indexes, (), False, digest)

    async def ask(self, show_id: ShowId, command: Command) -> Outcome:
        """Ask as a ref would.

        Raises:
            NotDone, OutcomeUnknown: see the module's docstring.
        """
        method, path, body = self._request(show_id, command)
        headers = {"Authorization": self._tokens.bearer(_principal_of(command))}
        if isinstance(command, HoldSeats):
            headers["Idempotency-Key"] = self._keys[command.hold_id]
        try:
            answer = await self._client.request(method, self.url + path, json=body, headers=headers)
        except httpx.HTTPError as error:
            self.plain_failures += 1
            raise OutcomeUnknown(repr(error)) from error
        return self._outcome(command, answer)

    def _request(self, show_id: ShowId, command: Command) -> tuple[str, str, object]:
        match command:
            case HoldSeats():
                seats = list(self._plan.labels_of(command.seat_indexes))
                return "POST", f"{BOOKING}/shows/{show_id}/holds", {"seats": seats}
            case ConfirmHold():
                path = f"{BOOKING}/holds/{command.hold_id}/confirm"
                return "POST", path, {"payment": command.payment}
            case ReleaseHold():
                return "DELETE", f"{BOOKING}/holds/{command.hold_id}", None
            case ExtendHold():
                return "POST", f"{BOOKING}/holds/{command.hold_id}/extend", None
            case CancelBooking():
                return "POST", f"{BOOKING}/bookings/{command.booking_id}/cancel", None
        raise AssertionError(f"no route for {command}")

    def _outcome(self, command: Command, answer: httpx.Response) -> Outcome:
        if answer.is_success:
            event = self._event(command, answer.json() if answer.content else {})
            is_repeated = answer.headers.get("idempotent-replayed") == "true"
            return Repeated(event) if is_repeated else event
        if answer.headers.get("content-type") != "application/problem+json":
            self.plain_failures += 1
            raise OutcomeUnknown(f"{answer.status_code} {answer.text[:100]!r}")
        problem = answer.json()
        code = problem["code"]
        if answer.status_code < 500:
            seats = tuple(sorted(self._index(label) for label in problem.get("seats", [])))
            return Rejected(Rejection(code), seats)
        if code in ("not_done", "overloaded"):
            raise NotDone(problem["detail"])
        raise OutcomeUnknown(problem["detail"])

    def _event(self, command: Command, view: dict[str, Any]) -> Event:
        match command:
            case HoldSeats():
                return self._held(command, view)
            case ConfirmHold():
                return BookingConfirmed(
                    command.hold_id,
                    BookingId(view["booking_id"]),
                    command.customer_id,
                    view["payment"],
                    view["amount_minor"],
                    _ms(view["confirmed_at"]),
                )
            case ReleaseHold():
                return HoldReleased(command.hold_id, UNTOLD_AT_MS)
            case ExtendHold():
                return HoldExtended(command.hold_id, _ms(view["expires_at"]))
            case CancelBooking():
                booking_id = command.booking_id
                return BookingCancelled(
                    hold_id_of(booking_id), booking_id, _ms(view["cancelled_at"])
                )
        raise AssertionError(f"no event for {command}")

    def _held(self, command: HoldSeats, view: dict[str, Any]) -> SeatsHeld:
        assert view["hold_id"] == command.hold_id
        seats = sorted((self._index(seat["label"]), seat["amount_minor"]) for seat in view["seats"])
        return SeatsHeld(
            command.hold_id,
            command.customer_id,
            command.segment,
            tuple(index for index, _ in seats),
            tuple(amount_minor for _, amount_minor in seats),
            (),
            Arrangement(view["arrangement"]),
            _ms(view["held_at"]),
            _ms(view["expires_at"]),
            command.request_digest,
        )

    def _index(self, label: str) -> int:
        index = self._plan.index_of(label)
        assert index is not None, label
        return index


@asynccontextmanager
async def http_clients(url: str, plan: SeatingPlan, tokens: Tokens) -> AsyncIterator[HttpClients]:
    """Clients of the house at this address, for shows of this plan, with tokens that it accepts."""
    limits = httpx.Limits(max_connections=1_000, max_keepalive_connections=100)
    async with httpx.AsyncClient(
        timeout=ANSWER_TIMEOUT_S, limits=limits, trust_env=False
    ) as client:
        yield HttpClients(client, url, plan, tokens)


def _principal_of(command: Command) -> Principal:
    """Who sends this. Money is taken by the box office, where the customer stands."""
    customer_id: CustomerId = getattr(command, "customer_id")  # noqa: B009 - most kinds have it.
    is_confirming = isinstance(command, ConfirmHold)
    return Principal(
        AccountId(customer_id),
        Role.BOX_OFFICE if is_confirming else Role.CUSTOMER,
        HOUSE_TENANT if is_confirming else None,
        SessionId("ses_" + customer_id[4:]),
    )


def _ms(instant: str) -> int:
    return round(datetime.fromisoformat(instant).timestamp() * 1_000)
