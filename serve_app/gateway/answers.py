"""What the gateway says itself, when it does not let a request through or nobody answers it.

The same problems as those of the applications, so that a client needs one way to read them. A
request that is no HTTP at all gets HAProxy's own words; no client that can read problems sends it.
"""

from __future__ import annotations

from serve_app.api.problems import MAY_WORK_LATER, MEDIA_TYPE, SAME_KEY, Problem
from serve_app.gateway.config import ADDRESS_BYTES_MAX, HEAD_BYTES_MAX

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")

HEAD_TOO_LARGE = Problem(
    "http_error",
    f"The header fields of a request may have {HEAD_BYTES_MAX} bytes together.",
    status=431,
)
ADDRESS_TOO_LONG = Problem(
    "http_error", f"An address may have {ADDRESS_BYTES_MAX} bytes.", status=414
)
"""These two need a rule each: HAProxy's table of errors has no such status."""

_OUTCOME_UNKNOWN = "The house did not answer; the request may or may not have been carried out."
_RETRY_S = 2


def served_answers() -> list[Problem]:
    """What clients are told instead of what Serve says in plain text about its own troubles.

    Serve does not tell apart whether a request had reached a replica.
    """
    return [
        Problem("not_found", "There is nothing at this address."),
        Problem("outcome_unknown", _OUTCOME_UNKNOWN, status=500, members={"retry": SAME_KEY}),
        Problem("outcome_unknown", _OUTCOME_UNKNOWN, status=503, members={"retry": SAME_KEY}),
    ]


def own_answers(retry_after_s: int) -> list[Problem]:
    """All of them, one for each status.

    Args:
        retry_after_s: when an address that has used up its requests is admitted again for sure.
    """
    return [
        Problem("http_error", "The request is not valid HTTP, or its address is not.", status=400),
        Problem("http_error", "This is not for you.", status=403),
        Problem("not_found", "There is nothing at this address."),
        Problem(
            "method_not_allowed",
            "No address here knows this method.",
            headers={"Allow": ", ".join(METHODS)},
        ),
        Problem("body_too_slow", "The request was not complete in time."),
        Problem("body_too_large", "The body is larger than this address takes."),
        Problem(
            "too_many_requests",
            "Too many requests came from this address.",
            members={"retry": f"Repeat the request after {retry_after_s} s."},
            headers={"Retry-After": str(retry_after_s)},
        ),
        Problem("internal_error", "This is our mistake."),
        Problem("outcome_unknown", _OUTCOME_UNKNOWN, status=502, members={"retry": SAME_KEY}),
        Problem(
            "not_done",
            "The house does not take requests now. Nothing happened.",
            members={"retry": MAY_WORK_LATER},
            headers={"Retry-After": str(_RETRY_S)},
        ),
        Problem("outcome_unknown", _OUTCOME_UNKNOWN, members={"retry": SAME_KEY}),
    ]


def as_directive(problem: Problem) -> str:
    """The line of a ``defaults`` section that gives HAProxy these words."""
    return f"http-error status {problem.status} {_content(problem)}"


def as_rule(problem: Problem) -> str:
    """The rule that answers so; a condition may follow."""
    return f"http-request return status {problem.status} {_content(problem)}"


def as_replacement(problem: Problem) -> str:
    """The rule that answers so in the place of somebody who answered with the same status.

    The applications say everything as problems; only what is none is replaced.
    """
    return (
        f"http-response return status {problem.status} {_content(problem)} "
        f"if {{ status {problem.status} }} !{{ res.hdr(content-type) -m beg {MEDIA_TYPE} }}"
    )


def _content(problem: Problem) -> str:
    body = problem.body().decode()
    assert "'" not in body, "the text stands between these"
    headers = {"Cache-Control": "no-store", **problem.headers}
    shown = " ".join(f"hdr {name} '{value}'" for name, value in headers.items())
    return f"content-type {MEDIA_TYPE} string '{body}' {shown}"
