"""Everything the Stripe side works with: its tables, its events, and what they hang together by."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson
from stripe._api_version import _ApiVersion

from integrations.sandbox.clock import SandboxClock
from integrations.sandbox.due_actions import DueActions
from integrations.sandbox.identifiers import stripe_id
from integrations.sandbox.ledger import Ledger
from integrations.sandbox.settings import Settings
from integrations.sandbox.state import Journal, Table
from integrations.sandbox.stripe_objects import Charge, Intent, Method, Refund, Session
from integrations.sandbox.webhook_sender import WebhookSender

API_VERSION = _ApiVersion.CURRENT
EVENTS_KEPT_MAX = 50_000


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, with the object as it was then, as the text that is delivered."""

    id: str
    type: str
    created: int
    subject: str
    body: str


class StripeStore:
    """One account's objects.

    ``request`` is the id and the idempotency key of the call that is being answered, for events.
    """

    def __init__(
        self,
        clock: SandboxClock,
        settings: Settings,
        journal: Journal,
        ledger: Ledger,
        due: DueActions,
        webhooks: WebhookSender,
    ) -> None:
        self.clock = clock
        self.settings = settings
        self.ledger = ledger
        self.due = due
        self.intents = Table("stripe_intent", Intent, journal)
        self.charges = Table("stripe_charge", Charge, journal)
        self.refunds = Table("stripe_refund", Refund, journal)
        self.methods = Table("stripe_method", Method, journal)
        self.sessions = Table("stripe_session", Session, journal)
        self.events = Table("stripe_event", Event, journal)
        self.request: tuple[str | None, str | None] = (None, None)
        self.public_url: Callable[[], str] = lambda: ""
        self._webhooks = webhooks
        self._by_metadata: dict[tuple[str, str], list[str]] = defaultdict(list)

    def opened(self) -> None:
        """Make the index of what was read from the file."""
        for intent in self.intents:
            self.index(intent)
        # Their pages are where the sandbox is now, which may be another port than before.
        for session in self.sessions:
            session.url = self.page_of(session.id)

    def page_of(self, session_id: str) -> str:
        """Where a session is paid."""
        return f"{self.public_url()}/checkout/{session_id}"

    def index(self, intent: Intent) -> None:
        """Let the intent be found by its metadata."""
        for pair in intent.metadata.items():
            ids = self._by_metadata[pair]
            if not ids or ids[-1] != intent.id:
                ids.append(intent.id)

    def with_metadata(self, key: str, value: str) -> list[str]:
        """Ids of intents that had this once, the oldest first."""
        return list(dict.fromkeys(self._by_metadata.get((key, value), ())))

    def rendered(self, object_id: str) -> dict[str, Any] | None:
        """Any object by its id."""
        tables: dict[str, Table[Any]] = {
            "pi": self.intents,
            "ch": self.charges,
            "re": self.refunds,
            "pm": self.methods,
            "cs": self.sessions,
        }
        table = tables.get(object_id.partition("_")[0])
        row = None if table is None else table.find(object_id)
        return None if row is None else row.rendered()

    def emit(
        self, event_type: str, shown: dict[str, Any], before: dict[str, Any] | None = None
    ) -> None:
        """Say that something happened.

        Args:
            before: ``previous_attributes``, for events about changes.
        """
        event_id, now_s = stripe_id("evt"), self.clock.now_s()
        data: dict[str, Any] = {"object": shown}
        if before is not None:
            data["previous_attributes"] = before
        body = orjson.dumps(
            {
                "id": event_id,
                "object": "event",
                "api_version": API_VERSION,
                "created": now_s,
                "data": data,
                "livemode": False,
                "pending_webhooks": self._webhooks.wanted_by("stripe", event_type),
                "request": {"id": self.request[0], "idempotency_key": self.request[1]},
                "type": event_type,
            }
        ).decode()
        self.events.save(Event(event_id, event_type, now_s, str(shown["id"]), body))
        if len(self.events) > EVENTS_KEPT_MAX * 1.1:
            self.events.forget_oldest(len(self.events) - EVENTS_KEPT_MAX)
        self._webhooks.send("stripe", event_id, event_type, body)
