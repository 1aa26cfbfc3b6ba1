"""What became of a change in the store, as a problem or as the row that is now there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from persistence.organiser_rows import Place, Put, PutOutcome
from reservation.rejections import Rejection
from serve_app.api.api_document import header
from serve_app.api.cursors import read_cursor, write_cursor
from serve_app.api.edge import json_response
from serve_app.api.organiser.fields import PageQuery
from serve_app.api.problems import Problem, bad_field, problem_of_rejection

_Row = TypeVar("_Row")

REPLAYED = {"Idempotent-Replayed": "true"}
CREATION = (
    "malformed_json",
    "invalid_request",
    "unsupported_media_type",
    "idempotency_key_missing",
    Rejection.EXISTS_WITH_DIFFERENT_REQUEST.value,
    "name_taken",
    "reference_not_found",
    "not_done",
    "outcome_unknown",
)
"""The problems that creating something can end in."""

CHANGE = (
    "malformed_json",
    "invalid_request",
    "unsupported_media_type",
    "name_taken",
    "version_conflict",
    "reference_not_found",
    "not_done",
    "outcome_unknown",
)
"""The problems that changing something can end in."""

READING = ("invalid_request", "not_done")

CREATION_KEY = header(
    "Idempotency-Key",
    "Names what is created; a UUID is a good choice. Repeating the request creates nothing more.",
    {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
    required=True,
)
REPLAYED_HEADER = {
    "Idempotent-Replayed": {
        "description": "`true` when this was done before.",
        "schema": {"type": "string", "enum": ["true"]},
    }
}


def accepted(put: Put[_Row], what: str) -> _Row:
    """The row that is there after this change.

    ``what`` names the kind of thing for people: ``venue``.

    Raises:
        Problem: nothing was changed.
    """
    if put.row is not None and put.outcome in _DONE:
        return put.row
    raise problem_of(put.outcome, what)


def problem_of(outcome: PutOutcome, what: str) -> Problem:
    """Why nothing was changed."""
    match outcome:
        case PutOutcome.ID_TAKEN:
            return problem_of_rejection(Rejection.EXISTS_WITH_DIFFERENT_REQUEST)
        case PutOutcome.NAME_TAKEN:
            return Problem("name_taken", f"There is another {what} with this name.")
        case PutOutcome.STALE:
            return Problem("version_conflict", f"The {what} was changed since it was read.")
        case PutOutcome.REFERENCE_NOT_FOUND:
            return Problem(
                "reference_not_found", "A venue, plan, series or show that is named is not there."
            )
        case _:
            return missing(what)


def missing(what: str) -> Problem:
    """The problem of something that is not there, or is somebody else's: nobody can tell which."""
    if what == "show":
        return Problem("show_not_found", "There is no show with this id.")
    return Problem("not_found", f"There is no {what} with this id.")


def created(
    request: Request, put: Put[_Row], view: Mapping[str, Any], collection: str, object_id: str
) -> Response:
    """The answer to a creation; a repetition is answered like the first time, and says so."""
    headers = {"Location": f"{request.scope.get('root_path', '')}/{collection}/{object_id}"}
    if put.outcome is PutOutcome.REPEATED:
        headers |= REPLAYED
    return json_response(view, 201, headers)


def place_of(query: PageQuery) -> Place | None:
    """Where the list goes on.

    Raises:
        Problem: ``invalid_request`` naming ``cursor``.
    """
    if query.cursor is None:
        return None
    at_ms, object_id = read_cursor(query.cursor)
    return Place(at_ms, object_id)


def view_of_page(name: str, items: list[dict[str, Any]], next_: Place | None) -> dict[str, Any]:
    """One page of a list, as clients get it."""
    view: dict[str, Any] = {name: items}
    if next_ is not None:
        view["next"] = write_cursor(next_.at_ms, next_.id)
    return view


def bad_text(error: ValueError, fields: Mapping[str, str] | None = None) -> Problem:
    """A text or number that the store does not take; its message begins with the field."""
    field, _, reason = str(error).partition(": ")
    return bad_field((fields or {}).get(field, field), reason or str(error))


_DONE = frozenset({PutOutcome.CREATED, PutOutcome.REPEATED, PutOutcome.UPDATED})
