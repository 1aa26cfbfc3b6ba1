"""Idempotency keys: one key, one effect, one answer, for 24 hours.

Stripe saves the answer of the first call with a key once the operation has begun, also a 500; calls
that were refused for their parameters leave no trace. A call whose key is still at work gets 409.
Razorpay does likewise for refunds.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from integrations.sandbox.clock import SandboxClock
from integrations.sandbox.http_call import Answer, Call
from integrations.sandbox.state import Journal, Table

KEPT_S = 24 * 3_600


@dataclass(slots=True)
class SavedAnswer:
    """What was answered to the first call with a key.

    Shapes:
        fingerprint: of the method, the path and the parameters.
        request_id: the id of that first call.
    """

    id: str
    fingerprint: str
    request_id: str
    status: int
    body: str
    created: int


class KeyTaken(Enum):
    """Why a key cannot be used for this call."""

    OTHER_PARAMETERS = "other_parameters"


def fingerprint_of(call: Call) -> str:
    """Equal for calls that ask for the same."""
    asked = call.method.encode() + b" " + call.path.encode() + b"\n" + call.body
    return hashlib.sha256(asked).hexdigest()


class IdempotencyKeys:
    """The keys of one provider."""

    def __init__(self, name: str, clock: SandboxClock, journal: Journal) -> None:
        self._clock = clock
        self._saved = Table(name, SavedAnswer, journal)
        self._at_work: set[str] = set()

    def find(self, key: str, call: Call) -> SavedAnswer | KeyTaken | None:
        """What was answered before; None for a key that is new, or forgotten."""
        saved = self._saved.find(key)
        if saved is None or saved.created + KEPT_S <= self._clock.now_s():
            return None
        if saved.fingerprint != fingerprint_of(call):
            return KeyTaken.OTHER_PARAMETERS
        return saved

    def save(self, key: str, call: Call, answer: Answer, request_id: str) -> None:
        """Answer so from now on."""
        self._forget_old()
        fingerprint, now_s = fingerprint_of(call), self._clock.now_s()
        self._saved.save(
            SavedAnswer(key, fingerprint, request_id, answer.status, answer.body.decode(), now_s)
        )

    @contextlib.contextmanager
    def at_work(self, key: str | None) -> Iterator[bool]:
        """Hold the key while its first call is being answered; False when somebody holds it."""
        if key is None:
            yield True
            return
        if key in self._at_work:
            yield False
            return
        self._at_work.add(key)
        try:
            yield True
        finally:
            self._at_work.discard(key)

    def is_at_work(self, key: str) -> bool:
        return key in self._at_work

    def _forget_old(self) -> None:
        latest = self._clock.now_s() - KEPT_S
        old = itertools.takewhile(lambda saved: saved.created <= latest, self._saved)
        self._saved.forget_oldest(sum(1 for _ in old))
