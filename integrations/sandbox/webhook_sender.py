"""Delivers signed webhooks at least once, unless a fault is planned.

Theory of operation

``send`` makes a row per event and endpoint, so a restart goes on where it was; the row goes when
the endpoint has answered 2xx. An endpoint that does not is asked again, after twice the time each
time, until the provider would give up. Between being due and being delivered a row is in the heap
or in one of at most ``_AT_ONCE_MAX`` tasks. Nothing is said about the order: providers do not
either.

Losses, duplicates and delays are decided when an event is made, from the seed, so a run is
repeated by its seed as far as its events come in the same order.
"""

from __future__ import annotations

import asyncio
import heapq
import hmac
import random
import time
from collections import Counter
from dataclasses import dataclass

import aiohttp

from integrations.sandbox.clock import SandboxClock
from integrations.sandbox.identifiers import random_letters
from integrations.sandbox.settings import Settings
from integrations.sandbox.state import Journal, Table

_AT_ONCE_MAX = 64
_RETRY_MS_MAX = 3_600_000
_TIMEOUT_S = {"stripe": 10.0, "razorpay": 5.0}
_GIVES_UP_MS = {"stripe": 3 * 86_400_000, "razorpay": 86_400_000}
_SLEEP_MS_MAX = 60_000


@dataclass(slots=True)
class WebhookEndpoint:
    """Where one provider's events go.

    Shapes:
        secrets: all of them sign, as while a secret is being changed; Razorpay has one.
        event_types: those that are wanted, ``*`` for all.
    """

    id: str
    provider: str
    url: str
    secrets: list[str]
    event_types: list[str]
    is_enabled: bool = True

    def wants(self, provider: str, event_type: str) -> bool:
        return (
            self.is_enabled
            and self.provider == provider
            and ("*" in self.event_types or event_type in self.event_types)
        )


@dataclass(slots=True)
class Delivery:
    """An event that an endpoint has not confirmed yet."""

    id: str
    endpoint: str
    event: str
    event_type: str
    body: str
    made_at_ms: int
    due_at_ms: int
    attempts: int = 0


@dataclass(slots=True)
class WebhookFaults:
    """What goes wrong with events.

    Shapes:
        drop_next: so many events are lost before any other fault is considered.
        loss_rate, duplicate_rate: shares of all deliveries.
        is_paused: nothing is sent until it is set back.

    Units:
        delay_max_ms: each delivery is late by chance, up to so much; this also changes the order.
    """

    drop_next: int = 0
    loss_rate: float = 0.0
    duplicate_rate: float = 0.0
    delay_max_ms: int = 0
    is_paused: bool = False


def stripe_signature(body: str, secrets: list[str], at_s: int) -> str:
    """The header ``Stripe-Signature``."""
    signed = f"{at_s}.{body}".encode()
    parts = [f"t={at_s}"]
    parts += [f"v1={hmac.new(key.encode(), signed, 'sha256').hexdigest()}" for key in secrets]
    return ",".join(parts)


def razorpay_signature(body: str, secret: str) -> str:
    """The header ``X-Razorpay-Signature``: the body only, so it is good for ever."""
    return hmac.new(secret.encode(), body.encode(), "sha256").hexdigest()


class WebhookSender:
    """See the module's docstring."""

    def __init__(self, clock: SandboxClock, settings: Settings, journal: Journal) -> None:
        self.faults = WebhookFaults()
        self.counts: Counter[str] = Counter()
        self.endpoints = Table("webhook_endpoint", WebhookEndpoint, journal)
        self._clock = clock
        self._settings = settings
        self._journal = journal
        self._waiting = Table("delivery", Delivery, journal)
        self._heap: list[tuple[int, str]] = []
        self._under_way: set[asyncio.Task[None]] = set()
        self._woken = asyncio.Event()
        self._dice = random.Random(0)

    def opened(self) -> None:
        """Take up what was read from the file."""
        self._heap = [(row.due_at_ms, row.id) for row in self._waiting]
        heapq.heapify(self._heap)

    def seed(self, seed: int) -> None:
        self._dice = random.Random(seed)

    def wake(self) -> None:
        """Something is due, or the faults have changed."""
        self._woken.set()

    @property
    def waiting(self) -> int:
        """How many deliveries are not confirmed."""
        return len(self._waiting)

    def wanted_by(self, provider: str, event_type: str) -> int:
        """How many endpoints want such an event."""
        return sum(endpoint.wants(provider, event_type) for endpoint in self.endpoints)

    def send(self, provider: str, event: str, event_type: str, body: str) -> None:
        """Deliver an event to whoever wants it."""
        for endpoint in self.endpoints:
            if endpoint.wants(provider, event_type):
                self._plan(endpoint, event, event_type, body)

    def _plan(self, endpoint: WebhookEndpoint, event: str, event_type: str, body: str) -> None:
        faults, copies = self.faults, 1
        if faults.drop_next > 0:
            faults.drop_next -= 1
            copies = 0
        elif faults.loss_rate and self._dice.random() < faults.loss_rate:
            copies = 0
        elif faults.duplicate_rate and self._dice.random() < faults.duplicate_rate:
            copies = 2
        self.counts[f"{endpoint.provider}.planned"] += 1
        if copies == 0:
            self.counts[f"{endpoint.provider}.dropped"] += 1
        elif copies == 2:
            self.counts[f"{endpoint.provider}.duplicated"] += 1
        for _ in range(copies):
            now_ms = self._clock.now_ms()
            delay_ms = self._dice.randint(0, faults.delay_max_ms) if faults.delay_max_ms else 0
            row = Delivery(
                random_letters(16), endpoint.id, event, event_type, body, now_ms, now_ms + delay_ms
            )
            self._waiting.save(row)
            heapq.heappush(self._heap, (row.due_at_ms, row.id))
        self._woken.set()

    async def run(self) -> None:
        """Deliver, for ever."""
        async with aiohttp.ClientSession() as session:
            try:
                while True:
                    self._woken.clear()
                    self._start_due(session)
                    wait_ms = _SLEEP_MS_MAX
                    has_room = len(self._under_way) < _AT_ONCE_MAX
                    if self._heap and has_room and not self.faults.is_paused:
                        wait_ms = min(wait_ms, self._heap[0][0] - self._clock.now_ms())
                    try:
                        await asyncio.wait_for(self._woken.wait(), max(wait_ms, 1) / 1_000)
                    except TimeoutError:
                        continue
            finally:
                for task in self._under_way:
                    task.cancel()

    def _start_due(self, session: aiohttp.ClientSession) -> None:
        while (
            self._heap
            and self._heap[0][0] <= self._clock.now_ms()
            and len(self._under_way) < _AT_ONCE_MAX
            and not self.faults.is_paused
        ):
            _, row_id = heapq.heappop(self._heap)
            row = self._waiting.find(row_id)
            if row is None:
                continue
            task = asyncio.create_task(self._deliver(session, row))
            self._under_way.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        self._woken.set()

    async def _deliver(self, session: aiohttp.ClientSession, row: Delivery) -> None:
        endpoint = self.endpoints.find(row.endpoint)
        if endpoint is None or not endpoint.is_enabled:
            self._waiting.remove(row.id)
            self._journal.commit()
            return
        row.attempts += 1
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S[endpoint.provider])
        try:
            async with session.post(
                endpoint.url,
                data=row.body.encode(),
                headers=_headers(endpoint, row),
                timeout=timeout,
                allow_redirects=False,
            ) as response:
                is_confirmed = 200 <= response.status < 300
        except (aiohttp.ClientError, TimeoutError, ValueError):
            is_confirmed = False
        if is_confirmed:
            self.counts[f"{endpoint.provider}.delivered"] += 1
            self._waiting.remove(row.id)
        else:
            self.counts[f"{endpoint.provider}.refused"] += 1
            self._try_later(endpoint, row)
        self._journal.commit()

    def _try_later(self, endpoint: WebhookEndpoint, row: Delivery) -> None:
        now_ms = self._clock.now_ms()
        if now_ms - row.made_at_ms > _GIVES_UP_MS[endpoint.provider]:
            self.counts[f"{endpoint.provider}.given_up"] += 1
            self._waiting.remove(row.id)
            if endpoint.provider == "razorpay":
                endpoint.is_enabled = False
                self.endpoints.save(endpoint)
            return
        delay_ms = self._settings.webhook_retry_ms * 2 ** min(row.attempts - 1, 20)
        row.due_at_ms = now_ms + min(delay_ms, _RETRY_MS_MAX)
        self._waiting.save(row)
        heapq.heappush(self._heap, (row.due_at_ms, row.id))


def _headers(endpoint: WebhookEndpoint, row: Delivery) -> dict[str, str]:
    headers = {"Content-Type": "application/json; charset=utf-8"}
    if endpoint.provider == "stripe":
        # The system's time, not the sandbox's: whoever checks it has no other.
        signature = stripe_signature(row.body, endpoint.secrets, int(time.time()))
        headers |= {"User-Agent": "Stripe/1.0 (sandbox)", "Stripe-Signature": signature}
    else:
        signature = razorpay_signature(row.body, endpoint.secrets[0])
        headers |= {
            "User-Agent": "Razorpay-Webhook/v1 (sandbox)",
            "X-Razorpay-Signature": signature,
        }
        headers["X-Razorpay-Event-Id"] = row.event
    return headers
