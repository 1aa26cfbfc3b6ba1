"""The line in which logins wait, before they are anywhere near those who buy.

A login waits for a password to be hashed, which takes turns on purpose. Two hundred that come in
one moment would be two hundred connections to a replica and two hundred tasks in it, to learn
that most of them have to wait and the rest to come again. HAProxy knows both by itself.

The account application keeps a line of its own (``password_hasher``), for all that is hashed and
for houses without HAProxy; with this one before it, logins do not fill it.
"""

from __future__ import annotations

from serve_app.access.password_hasher import WAIT_MAX_S, WAITING_MAX, TooManyPasswords
from serve_app.api.account.document import LOG_IN
from serve_app.api.problems import problem_of_fault
from serve_app.gateway.answers import as_directive, as_rule
from serve_app.house.haproxy_binary import WaitingLine

AT_ONCE = 8
"""With each account process: enough for the next hash never to wait for its password."""

RETRY_AFTER_MS = 5_000
"""In about this time half of a full line has had its turn, on a busy machine of two cores."""


def login_line(route_prefix: str) -> WaitingLine:
    """The line of the account application under ``route_prefix``."""
    problem = problem_of_fault(
        TooManyPasswords("too many logins wait", retry_after_ms=RETRY_AFTER_MS)
    )
    return WaitingLine(
        route_prefix=route_prefix,
        path=route_prefix + LOG_IN.path,
        at_once=AT_ONCE,
        waiting_max=WAITING_MAX,
        wait_s=int(WAIT_MAX_S),
        too_many=as_rule(problem),
        too_late=as_directive(problem),
    )
