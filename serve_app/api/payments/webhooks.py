"""Webhooks: what payment providers tell the house, believed only when it is theirs.

Anybody may send something here, so what it costs is bounded: the body in bytes and time, and how
many are verified and written down at once. Limits of accounts and addresses are not for these: a
provider has few addresses, and sends for all customers together.

A provider waits a few seconds for its answer and sends again what was not taken. So nothing is done
here but verifying and writing down; and what comes twice, or never, is no harm (see
``integrations.payments.payment_gateway`` and the payment actor).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from actors.checkouts import Checkouts
from integrations.payments.payment_gateway import NoticeRefused
from integrations.payments.signed_body import MAX_BODY_BYTES
from serve_app.api.body_guard import body_of, read_large_body
from serve_app.api.edge import json_response
from serve_app.api.problems import Problem

log = logging.getLogger(__name__)

AT_ONCE_MAX = 64
READ_DEADLINE_MS = 3_000
TAKE_TIMEOUT_S = 4.0
"""Below the five seconds that Razorpay waits."""

_RETRY_AFTER_S = 5
_TAKEN = {"status": "ok"}


def is_webhook(scope: Scope) -> bool:
    """Whether a request is a provider's; its route reads the body by itself."""
    path: str = scope["path"]
    return scope["method"] == "POST" and path.removeprefix(scope.get("root_path", "")).startswith(
        "/webhooks/"
    )


class WebhookRoutes:
    """The handlers. Belongs to one event loop."""

    def __init__(self, checkouts: Callable[[], Checkouts]) -> None:
        self._checkouts = checkouts
        self._under_way = 0

    async def stripe_webhook(self, request: Request) -> Response:
        return await self._take("stripe", request)

    async def razorpay_webhook(self, request: Request) -> Response:
        return await self._take("razorpay", request)

    async def _take(self, provider: str, request: Request) -> Response:
        checkouts = self._checkouts()
        await read_large_body(request, bytes_max=MAX_BODY_BYTES, deadline_ms=READ_DEADLINE_MS)
        with self._place():
            try:
                async with asyncio.timeout(TAKE_TIMEOUT_S):
                    await checkouts.take_notice(provider, body_of(request.scope), request.headers)
            except NoticeRefused as refused:
                # What exactly is wrong helps only those who make some.
                log.warning("a webhook of %s was refused: %s", provider, refused)
                raise Problem("webhook_refused", "It is not to be believed.") from None
            except TimeoutError:
                raise _busy("not_done", "The database takes too long.") from None
        return json_response(_TAKEN)

    @contextmanager
    def _place(self) -> Iterator[None]:
        if self._under_way >= AT_ONCE_MAX:
            raise _busy("overloaded", "Too many webhooks at once.")
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1


def _busy(code: str, detail: str) -> Problem:
    return Problem(
        code,
        f"{detail} Send it again.",
        members={"retry": f"Repeat the request after {_RETRY_AFTER_S} s."},
        headers={"Retry-After": str(_RETRY_AFTER_S)},
    )
