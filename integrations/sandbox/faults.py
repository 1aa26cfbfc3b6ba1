"""What goes wrong, when: scripted for the next calls, or by chance from a seed.

An operation is named ``stripe.payment_intents.create``; a plan may name many of them with ``*``.

    delay               answered, ``delay_ms`` late
    rate_limited        429; nothing happened
    error_before        500; nothing happened
    error_after         500, and it happened; the idempotency key replays the 500
    hang_before         silence for ``delay_ms``, or until the caller gives up; nothing happened
    hang_after          likewise, and it happened
    reset_before        the connection is reset; nothing happened
    reset_after         the connection is reset, and it happened
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase

HANG_MS = 60_000


class FaultKind(StrEnum):
    """See the module's docstring."""

    DELAY = "delay"
    RATE_LIMITED = "rate_limited"
    ERROR_BEFORE = "error_before"
    ERROR_AFTER = "error_after"
    HANG_BEFORE = "hang_before"
    HANG_AFTER = "hang_after"
    RESET_BEFORE = "reset_before"
    RESET_AFTER = "reset_after"


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong with one call."""

    kind: FaultKind
    delay_ms: int


@dataclass(slots=True)
class _Scripted:
    operation: str
    fault: Fault
    left: int


@dataclass(frozen=True, slots=True)
class _Chance:
    operation: str
    fault: Fault
    probability: float


class FaultPlan:
    """Decides for every call. What is scripted comes before what is left to chance."""

    def __init__(self) -> None:
        self.happened: Counter[str] = Counter()
        self._scripted: list[_Scripted] = []
        self._chances: list[_Chance] = []
        self._dice = random.Random(0)

    def script(self, operation: str, kind: FaultKind, times: int, delay_ms: int = HANG_MS) -> None:
        """Let the next ``times`` calls of the operation go wrong, after those scripted before."""
        self._scripted.append(_Scripted(operation, Fault(kind, delay_ms), times))

    def leave_to_chance(
        self, operation: str, kind: FaultKind, probability: float, delay_ms: int = HANG_MS
    ) -> None:
        """Let that share of the operation's calls go wrong."""
        self._chances.append(_Chance(operation, Fault(kind, delay_ms), probability))

    def seed(self, seed: int) -> None:
        self._dice = random.Random(seed)

    def clear(self) -> None:
        """Nothing goes wrong any more."""
        self._scripted.clear()
        self._chances.clear()

    def take(self, operation: str) -> Fault | None:
        """What goes wrong with this call; used up by being asked for."""
        fault = self._take_scripted(operation) or self._roll(operation)
        if fault is not None:
            self.happened[f"{operation} {fault.kind}"] += 1
        return fault

    def _take_scripted(self, operation: str) -> Fault | None:
        for scripted in self._scripted:
            if fnmatchcase(operation, scripted.operation):
                scripted.left -= 1
                if scripted.left == 0:
                    self._scripted.remove(scripted)
                return scripted.fault
        return None

    def _roll(self, operation: str) -> Fault | None:
        for chance in self._chances:
            applies = fnmatchcase(operation, chance.operation)
            if applies and self._dice.random() < chance.probability:
                return chance.fault
        return None
