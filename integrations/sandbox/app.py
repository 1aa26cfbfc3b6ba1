"""The whole sandbox as one ASGI application.

    /stripe/v1/…        Stripe's API            /stripe/checkout/…, /stripe/challenge/…   its pages
    /razorpay/v1/…      Razorpay's API
    /sandbox/…          the control plane

Calls must name this machine as their host, so no page of the Internet can talk to the sandbox by
a name that it makes point here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import orjson
from starlette.routing import Match, Route

from integrations.sandbox.clock import SandboxClock
from integrations.sandbox.control_plane import ControlPlane
from integrations.sandbox.due_actions import DueActions
from integrations.sandbox.faults import FaultPlan
from integrations.sandbox.http_call import Answer, Receive, Scope, Send, send_answer
from integrations.sandbox.idempotency import IdempotencyKeys
from integrations.sandbox.ledger import Ledger
from integrations.sandbox.razorpay_api import RazorpayApi, RazorpayDesk
from integrations.sandbox.razorpay_errors import RazorpayRefusal
from integrations.sandbox.razorpay_store import RazorpayStore
from integrations.sandbox.settings import Keys, Settings
from integrations.sandbox.state import Journal, Table
from integrations.sandbox.stripe_api import StripeApi
from integrations.sandbox.stripe_call import StripeDesk
from integrations.sandbox.stripe_errors import StripeRefusal
from integrations.sandbox.stripe_pages import StripePages
from integrations.sandbox.stripe_store import StripeStore
from integrations.sandbox.webhook_sender import WebhookSender

_HOSTS = frozenset({"127.0.0.1", "localhost", "[::1]", "sandbox.invalid"})
_PREFLIGHT = Answer(
    204,
    b"",
    (
        ("Access-Control-Allow-Origin", "*"),
        ("Access-Control-Allow-Methods", "GET, POST"),
        ("Access-Control-Allow-Headers", "Authorization, Content-Type, Stripe-Version"),
        ("Access-Control-Max-Age", "300"),
    ),
)


class Sandbox:
    """Puts the parts together; an ASGI application with a lifespan.

    Args:
        url: under which it is reached, without a slash at the end.
        state_directory: where it remembers things; nothing is written without one.
    """

    def __init__(
        self,
        url: str = "http://sandbox.invalid",
        state_directory: Path | None = None,
        keys: Keys | None = None,
    ) -> None:
        self.url = url
        keys = keys or Keys()
        self.clock = SandboxClock()
        self.settings = Settings()
        self.faults = FaultPlan()
        self.journal = Journal(state_directory)
        self.kept_settings = Table("settings", Settings, self.journal)
        self.ledger = Ledger(self.clock, self.journal)
        self.due = DueActions(self.clock, self.journal)
        self.webhooks = WebhookSender(self.clock, self.settings, self.journal)
        common = (
            self.clock,
            self.settings,
            self.journal,
            self.ledger,
            self.due,
            self.webhooks,
        )
        self.stripe_store = StripeStore(*common)
        self.stripe_store.public_url = lambda: f"{self.url}/stripe"
        stripe_keys = IdempotencyKeys("stripe_key", self.clock, self.journal)
        desk = StripeDesk(self.stripe_store, self.journal, keys, stripe_keys)
        self.stripe = StripeApi(desk, self.faults)
        self.pages = StripePages(self.stripe, self.journal)
        self.razorpay_store = RazorpayStore(*common)
        razorpay_keys = IdempotencyKeys("razorpay_key", self.clock, self.journal)
        razorpay_desk = RazorpayDesk(self.razorpay_store, self.journal, keys, razorpay_keys)
        self.razorpay = RazorpayApi(razorpay_desk, self.faults)
        stripe_paths = [*self.stripe.operations(), *self.pages.operations()]
        self._routes = {
            "stripe": _routes("/stripe", stripe_paths),
            "razorpay": _routes("/razorpay", self.razorpay.operations()),
            "sandbox": _routes("", ControlPlane(self).operations()),
        }
        self._tasks: list[asyncio.Task[None]] = []

    def open(self) -> None:
        """Take up what was there before."""
        self.journal.open()
        kept = self.kept_settings.find(self.settings.id)
        if kept is not None:
            for field in fields(Settings):
                setattr(self.settings, field.name, getattr(kept, field.name))
            self.clock.advance(kept.clock_ahead_ms)
        self.ledger.opened()
        self.due.opened()
        self.webhooks.opened()
        self.stripe_store.opened()

    def advance_clock(self, by_ms: int) -> None:
        """Let time pass, and happen what it brings."""
        self.clock.advance(by_ms)
        self.settings.clock_ahead_ms = self.clock.ahead_ms
        self.kept_settings.save(self.settings)
        self.due.do_due()
        self.webhooks.wake()

    async def start(self) -> None:
        """Open, and do from now on what happens by itself."""
        self.open()
        self._tasks = [
            asyncio.create_task(self.due.run()),
            asyncio.create_task(self.webhooks.run()),
        ]

    async def stop(self) -> None:
        """End everything; what was not delivered is kept, if anything is."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.journal.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self._live(receive, send)
        if scope["type"] != "http":
            return None
        if not _names_this_machine(scope):
            return await send_answer(Answer(421, b'{"error":"not this machine"}'), send)
        room = scope["path"].split("/", 2)[1]
        if scope["method"] == "OPTIONS" and room == "stripe":
            return await send_answer(_PREFLIGHT, send)
        for route in self._routes.get(room, ()):
            match, inner = route.matches(scope)
            if match is Match.FULL:
                scope["path_params"] = inner["path_params"]
                return await route.app(scope, receive, send)
        return await send_answer(_not_found(room, scope), send)

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await self.start()
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                with contextlib.suppress(asyncio.CancelledError):
                    await self.stop()
                await send({"type": "lifespan.shutdown.complete"})
                return


def _routes(prefix: str, operations: Sequence[tuple[str, str, Any]]) -> list[Route]:
    return [
        Route(f"{prefix}{path}", endpoint, methods=[method])
        for method, path, endpoint in operations
    ]


def _names_this_machine(scope: Scope) -> bool:
    for name, value in scope["headers"]:
        if name == b"host":
            host = value.decode("latin-1")
            return host in _HOSTS or host.rpartition(":")[0] in _HOSTS
    return False


def _not_found(room: str, scope: Scope) -> Answer:
    if room == "razorpay":
        body = RazorpayRefusal("The requested URL was not found on the server.").body()
        return Answer(400, orjson.dumps(body))
    refusal = StripeRefusal(
        404,
        "invalid_request_error",
        f"Unrecognized request URL ({scope['method']}: {scope['path']}). Please see "
        "https://stripe.com/docs or we can help at https://support.stripe.com/.",
    )
    return Answer(404, orjson.dumps(refusal.body("req_none")))
