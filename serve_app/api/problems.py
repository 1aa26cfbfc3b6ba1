"""Bad news for HTTP clients: RFC 9457 problems, and the one table that gives each its status.

Every problem has a stable ``code``; clients decide by it and never by the texts. Its ``type``
is ``urn:housefull:problem:<code>``. What a problem is about stands in further members: ``errors``
(fields of a bad request), ``seats`` and ``tiers`` (what clashed), ``retry`` (what helps).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import orjson
from starlette.responses import Response

from reservation.faults import Fault, NotDone, Overloaded, ShowNotFound
from reservation.rejections import Rejection

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:housefull:problem:"

ERRORS_SHOWN_MAX = 20
"""A request with a thousand mistakes is not explained a thousand times."""

TEXT_SHOWN_MAX = 100
"""Characters of a client's own text that an answer repeats."""

SAME_KEY = "Repeat the request with the same Idempotency-Key to learn the outcome."
SAME_REQUEST = "Repeat the request to learn the outcome; repeating it is harmless."
MAY_WORK_LATER = "The same request may succeed later."


class Kind(NamedTuple):
    """One kind of problem."""

    status: int
    title: str


REJECTIONS: Mapping[Rejection, Kind] = {
    Rejection.SEAT_UNAVAILABLE: Kind(409, "A seat is taken"),
    Rejection.CAPACITY_UNAVAILABLE: Kind(409, "A tier has too few places left"),
    Rejection.NOT_ENOUGH_SEATS: Kind(409, "No seats satisfy the wish"),
    Rejection.ORPHAN_SEAT: Kind(409, "A single seat would be left over"),
    Rejection.COMPANION_ALONE: Kind(422, "A companion seat needs its accessible seat"),
    Rejection.EXISTS_WITH_DIFFERENT_REQUEST: Kind(422, "The key was used for another request"),
    Rejection.HOLD_NOT_FOUND: Kind(404, "No such hold"),
    Rejection.HOLD_EXPIRED: Kind(410, "The hold has expired"),
    Rejection.HOLD_RELEASED: Kind(410, "The hold was released"),
    Rejection.HOLD_ALREADY_CONFIRMED: Kind(409, "The hold is a booking already"),
    Rejection.EXTENSION_CAP_REACHED: Kind(409, "The hold cannot live longer"),
    Rejection.BOOKING_NOT_FOUND: Kind(404, "No such booking"),
    Rejection.BOOKING_CANCELLED: Kind(409, "The booking was cancelled"),
    Rejection.TOO_MANY_HOLDS: Kind(409, "Too many live holds on this show"),
    Rejection.TOO_MANY_SEATS: Kind(409, "Too many seats on this show"),
    Rejection.NOT_ON_SALE: Kind(409, "The show is not on sale now"),
    Rejection.TOO_MANY_SEATS_PER_HOLD: Kind(409, "Too many seats for one hold"),
    Rejection.SHOW_CANCELLED: Kind(410, "The show is cancelled"),
    Rejection.CHANNEL_NOT_FOUND: Kind(404, "The channel sells no seats of this show"),
    Rejection.SEAT_NOT_ALLOCATED: Kind(409, "The seat is not the channel's"),
    Rejection.SEAT_NOT_BLOCKED: Kind(409, "The seat is not blocked"),
}
"""The only place where a rejection gets its HTTP status. Its value is the problem's code."""

KINDS: Mapping[str, Kind] = {
    "invalid_request": Kind(422, "The request is not valid"),
    "invalid_header": Kind(400, "A header is not valid"),
    "invalid_target": Kind(400, "The address is not valid"),
    "malformed_json": Kind(400, "The body is not JSON"),
    "idempotency_key_missing": Kind(400, "The header Idempotency-Key is missing"),
    "token_missing": Kind(401, "An access token is missing"),
    "token_invalid": Kind(401, "The access token is not valid"),
    "role_not_allowed": Kind(403, "This is not for your account"),
    "payment_not_allowed": Kind(403, "You may not take this payment"),
    "not_found": Kind(404, "Nothing is here"),
    "show_not_found": Kind(404, "No such show"),
    "method_not_allowed": Kind(405, "This method is not for this address"),
    "body_too_slow": Kind(408, "The body took too long"),
    "body_too_large": Kind(413, "The body is too large"),
    "too_many_requests": Kind(429, "Too many requests"),
    "unsupported_media_type": Kind(415, "The body must be JSON"),
    "login_failed": Kind(401, "E-mail address and password do not belong together"),
    "account_disabled": Kind(403, "The account is disabled"),
    "refresh_token_invalid": Kind(401, "The refresh token is not valid now"),
    "session_not_found": Kind(404, "No such session"),
    "api_key_invalid": Kind(401, "The API key is not valid now"),
    "password_wrong": Kind(403, "The password is not right"),
    "email_not_verified": Kind(403, "The e-mail address is not confirmed yet"),
    "code_not_valid": Kind(410, "The code is not valid any more"),
    "account_not_found": Kind(404, "No such account"),
    "tenant_not_found": Kind(404, "No such tenant"),
    "api_key_not_found": Kind(404, "No such API key"),
    "too_many_api_keys": Kind(409, "The account has too many API keys"),
    "own_account": Kind(409, "This cannot be done to one's own account"),
    "http_error": Kind(400, "The request cannot be served"),
    "internal_error": Kind(500, "Something broke here"),
    "reference_not_found": Kind(422, "Something that is named is not there"),
    "plan_not_accepted": Kind(422, "The seating plan cannot be used as it is"),
    "archive_not_accepted": Kind(422, "The archive cannot be used"),
    "name_taken": Kind(409, "The name is in use"),
    "version_conflict": Kind(409, "It was changed in the meantime"),
    "in_use": Kind(409, "Something else needs it"),
    "plan_drops_sold_seats": Kind(409, "The plan drops seats that somebody has"),
    "show_is_cancelled": Kind(409, "The show is cancelled"),
    "channel_is_closed": Kind(409, "The channel is closed"),
    "import_is_over": Kind(409, "The import is over"),
    "refund_not_possible": Kind(409, "So much cannot be paid back"),
    "payment_not_found": Kind(404, "No such payment"),
    "payment_is_booked": Kind(409, "The payment has become a booking"),
    "hold_has_payment": Kind(409, "Another payment of the hold is under way"),
    "price_too_high": Kind(409, "More than any payment may be"),
    "provider_not_available": Kind(422, "The house takes no money with this provider"),
    "provider_refused": Kind(422, "The payment provider will not take this payment"),
    "promo_code_unknown": Kind(422, "No such promo code"),
    "promo_not_active": Kind(409, "The promo code is not in use"),
    "promo_not_yet_valid": Kind(409, "The promo code is not valid yet"),
    "promo_no_longer_valid": Kind(409, "The promo code is not valid any more"),
    "promo_for_other_shows": Kind(409, "The promo code is for other shows"),
    "promo_in_other_currency": Kind(409, "The promo code is in another currency"),
    "promo_for_other_categories": Kind(409, "The promo code is for other places"),
    "promo_used_up": Kind(409, "The promo code has been used up"),
    "promo_used_by_customer": Kind(409, "The promo code was used often enough"),
    "webhook_refused": Kind(400, "The webhook is not the provider's"),
    "overloaded": Kind(503, "Too many requests are waiting"),
    "not_done": Kind(503, "Not possible now; nothing happened"),
    "outcome_unknown": Kind(504, "It is not known whether it happened"),
    **{code.value: kind for code, kind in REJECTIONS.items()},
}
"""Every problem there is, by its code."""


class FieldError(NamedTuple):
    """One mistake in a request: ``seats[3]``, ``limit`` or the name of a header, and why."""

    field: str
    reason: str


class Problem(Exception):
    """Ends a request with a problem.

    ``members`` are further members of the problem; ``headers`` go into the response.
    """

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        status: int | None = None,
        members: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(code, detail)
        kind = KINDS[code]
        self.code = code
        self.title = kind.title
        self.status = status or kind.status
        self.detail = detail
        self.members = members or {}
        self.headers = headers or {}

    def body(self) -> bytes:
        """The problem as JSON."""
        return orjson.dumps(
            {
                "type": TYPE_PREFIX + self.code,
                "title": self.title,
                "status": self.status,
                "detail": self.detail,
                "code": self.code,
                **self.members,
            }
        )

    def response(self) -> Response:
        """The problem as a response."""
        headers = {"Cache-Control": "no-store", **self.headers}
        return Response(self.body(), self.status, headers, MEDIA_TYPE)


def bad_request(errors: Sequence[FieldError], code: str = "invalid_request") -> Problem:
    """The problem that says what is wrong with the fields of a request."""
    shown = [
        {"field": shorten(error.field), "reason": error.reason}
        for error in errors[:ERRORS_SHOWN_MAX]
    ]
    detail = "; ".join(f"{error['field']}: {error['reason']}" for error in shown[:3])
    if len(errors) > 3:
        detail += f"; and {len(errors) - 3} more"
    return Problem(code, detail, members={"errors": shown})


def bad_field(field: str, reason: str, code: str = "invalid_request") -> Problem:
    """The problem of a single field."""
    return bad_request([FieldError(field, reason)], code)


def shorten(text: str) -> str:
    """A client's own text, short and valid enough to be said back.

    Example:
        >>> shorten("A" * 200) == "A" * 100 + "…"
        True
    """
    if not text.isascii():
        text = text.encode(errors="replace").decode()
    return text if len(text) <= TEXT_SHOWN_MAX else text[:TEXT_SHOWN_MAX] + "…"


def problem_of_rejection(
    code: Rejection, *, seats: Sequence[str] = (), tiers: Sequence[str] = ()
) -> Problem:
    """A rejection as a problem; ``seats`` are labels and ``tiers`` codes that it is about."""
    members: dict[str, object] = {}
    if seats:
        members["seats"] = list(seats)
    if tiers:
        members["tiers"] = list(tiers)
    if code.is_transient:
        members["retry"] = MAY_WORK_LATER
    things = ", ".join((*seats, *tiers))
    title = REJECTIONS[code].title
    return Problem(code.value, f"{title}: {things}." if things else f"{title}.", members=members)


def problem_of_fault(fault: Fault, *, has_key: bool = False) -> Problem:
    """A fault as a problem. ``has_key`` says that the request carries an idempotency key.

    What the fault itself says is for the log: it may name actors and databases.
    """
    if isinstance(fault, ShowNotFound):
        return Problem("show_not_found", "There is no show with this id.")
    if isinstance(fault, NotDone):
        seconds = max(1, -(-fault.retry_after_ms // 1_000))
        code = "overloaded" if isinstance(fault, Overloaded) else "not_done"
        return Problem(
            code,
            "Nothing happened. Ask again in a moment.",
            members={"retry": f"Repeat the request after {seconds} s."},
            headers={"Retry-After": str(seconds)},
        )
    return Problem(
        "outcome_unknown",
        "No answer came in time; the request may or may not have been carried out.",
        members={"retry": SAME_KEY if has_key else SAME_REQUEST},
    )


def response_to(error: Problem | Fault) -> Response:
    """The response to a request that ended like this."""
    if isinstance(error, Fault):
        log.warning("fault: %r", error)
        error = problem_of_fault(error)
    return error.response()
