"""Problems: one status per code, nothing forgotten, nothing said that should not be."""

from __future__ import annotations

import json

import pytest

from reservation import faults
from reservation.faults import Fault, NotDone, OutcomeUnknown, Overloaded, ShowNotFound
from reservation.rejections import Rejection
from serve_app.api.problems import (
    ERRORS_SHOWN_MAX,
    KINDS,
    REJECTIONS,
    FieldError,
    Problem,
    bad_request,
    problem_of_fault,
    problem_of_rejection,
    shorten,
)

STATUSES = {
    "seat_unavailable": 409,
    "capacity_unavailable": 409,
    "not_enough_seats": 409,
    "orphan_seat": 409,
    "companion_alone": 422,
    "exists_with_different_request": 422,
    "hold_not_found": 404,
    "hold_expired": 410,
    "hold_released": 410,
    "hold_already_confirmed": 409,
    "extension_cap_reached": 409,
    "booking_not_found": 404,
    "booking_cancelled": 409,
    "too_many_holds": 409,
    "too_many_seats": 409,
    "not_on_sale": 409,
    "too_many_seats_per_hold": 409,
    "show_cancelled": 410,
    "channel_not_found": 404,
    "seat_not_allocated": 409,
    "seat_not_blocked": 409,
}


def test_every_rejection_has_the_status_that_clients_rely_on() -> None:
    assert {code.value: kind.status for code, kind in REJECTIONS.items()} == STATUSES
    assert set(REJECTIONS) == set(Rejection)
    for rejection in Rejection:
        assert problem_of_rejection(rejection).status == STATUSES[rejection.value]


def test_every_code_has_a_status_of_an_error_and_a_title() -> None:
    for code, kind in KINDS.items():
        assert 400 <= kind.status <= 599, code
        assert kind.title
        assert not kind.title.endswith(".")


def test_a_problem_has_the_members_of_rfc_9457() -> None:
    problem = problem_of_rejection(Rejection.SEAT_UNAVAILABLE, seats=["A-1", "A-2"])
    assert json.loads(problem.body()) == {
        "type": "urn:housefull:problem:seat_unavailable",
        "title": "A seat is taken",
        "status": 409,
        "detail": "A seat is taken: A-1, A-2.",
        "code": "seat_unavailable",
        "seats": ["A-1", "A-2"],
        "retry": "The same request may succeed later.",
    }
    response = problem.response()
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["cache-control"] == "no-store"


def test_only_rejections_that_may_pass_advise_to_try_again() -> None:
    for rejection in Rejection:
        body = json.loads(problem_of_rejection(rejection).body())
        assert ("retry" in body) == rejection.is_transient


@pytest.mark.parametrize(
    ("fault", "status", "code", "retry_after"),
    [
        (ShowNotFound("no show"), 404, "show_not_found", None),
        (Overloaded("full", retry_after_ms=1), 503, "overloaded", "1"),
        (NotDone("no", retry_after_ms=1_001), 503, "not_done", "2"),
        (OutcomeUnknown("?"), 504, "outcome_unknown", None),
    ],
)
def test_a_fault_says_whether_it_may_have_happened(
    fault: Fault, status: int, code: str, retry_after: str | None
) -> None:
    problem = problem_of_fault(fault)
    assert (problem.status, problem.code) == (status, code)
    assert problem.headers.get("Retry-After") == retry_after


def test_every_fault_there_is_becomes_a_problem_without_its_own_words() -> None:
    kinds = [
        kind for kind in vars(faults).values() if isinstance(kind, type) and issubclass(kind, Fault)
    ]
    assert len(kinds) > 5
    for kind in kinds:
        problem = problem_of_fault(kind("postgresql://secret"))
        assert problem.status in (404, 503, 504)
        assert b"secret" not in problem.body()


def test_an_unknown_outcome_with_a_key_advises_to_keep_the_key() -> None:
    with_key = problem_of_fault(OutcomeUnknown("?"), has_key=True)
    assert "same Idempotency-Key" in str(with_key.members["retry"])


def test_a_thousand_mistakes_are_not_explained_a_thousand_times() -> None:
    problem = bad_request([FieldError(f"seats[{n}]" * 50, "no") for n in range(1_000)])
    body = json.loads(problem.body())
    assert len(body["errors"]) == ERRORS_SHOWN_MAX
    assert body["detail"].endswith("and 997 more")
    assert len(problem.body()) < 10_000


def test_a_clients_own_text_is_said_back_short_and_valid() -> None:
    assert shorten("é" * 101) == "é" * 100 + "…"
    assert shorten("\ud800") == "?"


def test_a_problem_can_be_raised_with_headers() -> None:
    problem = Problem("token_missing", "Who?", headers={"WWW-Authenticate": "Bearer"})
    assert problem.response().headers["www-authenticate"] == "Bearer"
