"""Idempotency keys: what is remembered, and for how long."""

from __future__ import annotations

from integrations.sandbox.clock import SandboxClock
from integrations.sandbox.http_call import Answer, Call
from integrations.sandbox.idempotency import IdempotencyKeys, KeyTaken, SavedAnswer
from integrations.sandbox.state import Journal

DAY_MS = 24 * 3_600_000


def call(body: bytes) -> Call:
    return Call("POST", "/v1/refunds", {}, {}, "", body)


def test_an_answer_is_found_for_the_same_call_only_and_for_a_day() -> None:
    clock = SandboxClock()
    keys = IdempotencyKeys("keys", clock, Journal(None))
    keys.save("a", call(b"amount=1"), Answer(500, b"{}"), "req_1")
    found = keys.find("a", call(b"amount=1"))
    assert isinstance(found, SavedAnswer)
    assert (found.status, found.body, found.request_id) == (500, "{}", "req_1")
    assert keys.find("a", call(b"amount=2")) is KeyTaken.OTHER_PARAMETERS
    assert keys.find("b", call(b"amount=1")) is None
    clock.advance(DAY_MS)
    assert keys.find("a", call(b"amount=2")) is None


def test_old_keys_are_let_go() -> None:
    clock = SandboxClock()
    journal = Journal(None)
    keys = IdempotencyKeys("keys", clock, journal)
    for number in range(3):
        keys.save(f"old {number}", call(b""), Answer(200, b"{}"), "req")
    clock.advance(DAY_MS)
    keys.save("new", call(b""), Answer(200, b"{}"), "req")
    assert [row.id for row in journal.tables["keys"]] == ["new"]


def test_a_key_is_held_by_one_call() -> None:
    keys = IdempotencyKeys("keys", SandboxClock(), Journal(None))
    with keys.at_work("a") as is_first, keys.at_work("a") as is_second:
        assert (is_first, is_second) == (True, False)
        assert keys.is_at_work("a")
    assert not keys.is_at_work("a")
    with keys.at_work(None) as is_first, keys.at_work(None) as is_second:
        assert (is_first, is_second) == (True, True)
