"""What every rate limiter promises (``persistence/rate_limits.py``)."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest
from redis.asyncio import Redis

from persistence.embedded_valkey import EmbeddedValkey
from persistence.memory_rate_limits import MemoryRateLimiter
from persistence.rate_limits import Charge, RateLimit, RateLimiter, Verdict
from persistence.valkey_rate_limits import ValkeyRateLimiter

HOUR_MS = 3_600_000
PATIENT_MS = 10_000
"""That a busy machine is slow is not what is tested here."""

_numbers = itertools.count(1)


class ManualClock:
    """Seconds, which pass when a test says so."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


class World:
    """Limiters that count together, and their time."""

    def __init__(self, valkey: EmbeddedValkey | None) -> None:
        self.clock = ManualClock()
        self._valkey = valkey
        self._opened: list[RateLimiter] = []

    def open(self, **options: int) -> RateLimiter:
        """A limiter, as a process has it."""
        if self._valkey is None:
            limiter: RateLimiter = MemoryRateLimiter(clock=self.clock, **options)
        else:
            limiter = ValkeyRateLimiter(
                self._valkey.url, timeout_ms=PATIENT_MS, clock=self.clock, **options
            )
        self._opened.append(limiter)
        return limiter

    async def pass_time(self, ms: float) -> None:
        """Let time pass for everybody.

        The server's clock cannot be set; but to a jar it is the same if it is to be empty earlier.
        """
        self.clock.now_s += ms / 1_000
        if self._valkey is not None:
            async with Redis.from_url(self._valkey.url) as redis:
                async for key in redis.scan_iter("{limit}:*"):
                    if (empty_at_us := await redis.get(key)) is not None:
                        await redis.set(key, int(empty_at_us) - int(ms * 1_000), keepttl=True)

    async def close(self) -> None:
        for limiter in self._opened:
            await limiter.close()


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedValkey]:
    with EmbeddedValkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture(params=["memory", "valkey"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    world = World(None if request.param == "memory" else request.getfixturevalue("valkey"))
    yield world
    await world.close()


def limit(count: int, window_ms: int = HOUR_MS, *, is_exact: bool = False) -> RateLimit:
    """A limit of its own; by default so slow that nothing leaks out during a test."""
    return RateLimit(f"limit-{next(_numbers)}", count, window_ms, is_exact=is_exact)


async def allowed(limiter: RateLimiter, rule: RateLimit, key: str, times: int) -> int:
    """How many of so many requests, one after the other, are allowed."""
    return sum([(await limiter.take([Charge(rule, key)])).is_allowed for _ in range(times)])


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 17, 60])
@pytest.mark.parametrize("is_exact", [False, True])
async def test_exactly_as_many_as_the_limit_says_are_allowed_at_once(
    world: World, count: int, is_exact: bool
) -> None:
    rule = limit(count, is_exact=is_exact)
    assert await allowed(world.open(), rule, "ann", 2 * count + 5) == count


async def test_exactly_as_many_are_allowed_of_those_that_ask_at_the_same_time(
    world: World,
) -> None:
    limiter, rule = world.open(), limit(20)
    verdicts = await asyncio.gather(*(limiter.take([Charge(rule, "ann")]) for _ in range(50)))
    assert sum(verdict.is_allowed for verdict in verdicts) == 20


async def test_what_remains_is_counted_down_to_nothing(world: World) -> None:
    limiter, rule = world.open(), limit(9)
    verdicts = [await limiter.take([Charge(rule, "ann")]) for _ in range(9)]
    assert [verdict.remaining for verdict in verdicts] == [8, 7, 6, 5, 4, 3, 2, 1, 0]
    assert {(verdict.limit, verdict.retry_after_ms) for verdict in verdicts} == {(rule, 0)}


async def test_who_waits_as_long_as_he_was_told_is_allowed_once_more(world: World) -> None:
    limiter, rule = world.open(), limit(10)
    await allowed(limiter, rule, "ann", 10)
    for _ in range(3):
        refused = await limiter.take([Charge(rule, "ann")])
        assert not refused.is_allowed
        assert refused.limit is rule
        assert 0 < refused.retry_after_ms <= HOUR_MS / 10
        await world.pass_time(refused.retry_after_ms)
        assert await allowed(limiter, rule, "ann", 2) == 1


async def test_who_does_not_wait_long_enough_is_refused_again_and_pays_nothing_for_asking(
    world: World,
) -> None:
    limiter, rule = world.open(), limit(10)
    await allowed(limiter, rule, "ann", 10)
    first = await limiter.take([Charge(rule, "ann")])
    await world.pass_time(first.retry_after_ms / 2)
    assert await allowed(limiter, rule, "ann", 100) == 0
    second = await limiter.take([Charge(rule, "ann")])
    assert second.retry_after_ms <= first.retry_after_ms / 2 + 1
    await world.pass_time(second.retry_after_ms)
    assert await allowed(limiter, rule, "ann", 1) == 1


async def test_after_the_whole_window_the_whole_limit_is_there_again_and_not_more(
    world: World,
) -> None:
    limiter, rule = world.open(), limit(8)
    for _ in range(3):
        assert await allowed(limiter, rule, "ann", 20) == 8
        await world.pass_time(2 * HOUR_MS)


async def test_slow_and_steady_is_never_refused(world: World) -> None:
    limiter, rule = world.open(), limit(8)
    for _ in range(40):
        assert await allowed(limiter, rule, "ann", 1) == 1
        await world.pass_time(HOUR_MS / 8 + 1)


async def test_faster_than_the_limit_gets_what_the_limit_leaks_and_no_more(world: World) -> None:
    limiter, rule = world.open(), limit(12)
    got = 0
    for _ in range(120):
        got += await allowed(limiter, rule, "ann", 1)
        await world.pass_time(HOUR_MS / 48)
    # 120 quarter-intervals are 30 intervals.
    assert 12 + 29 <= got <= 12 + 31


async def test_keys_and_limits_do_not_mix(world: World) -> None:
    limiter, one, other = world.open(), limit(3), limit(2)
    assert await allowed(limiter, one, "ann", 9) == 3
    assert await allowed(limiter, one, "bob", 9) == 3
    assert await allowed(limiter, other, "ann", 9) == 2


async def test_a_request_is_charged_to_all_its_keys_or_to_none(world: World) -> None:
    limiter, account, address = world.open(), limit(10), limit(3)
    both = [Charge(account, "ann"), Charge(address, "10.0.0.1")]
    verdicts = [await limiter.take(both) for _ in range(8)]
    assert [verdict.is_allowed for verdict in verdicts] == [True] * 3 + [False] * 5
    assert {verdict.limit for verdict in verdicts} == {address}
    assert await allowed(limiter, account, "ann", 20) == 7


async def test_of_two_refusals_the_longer_wait_is_told(world: World) -> None:
    limiter, slow, fast = world.open(), limit(1, 24 * HOUR_MS), limit(1, HOUR_MS)
    both = [Charge(fast, "ann"), Charge(slow, "ann")]
    assert (await limiter.take(both)).is_allowed
    refused = await limiter.take(both)
    assert refused.limit is slow
    assert refused.retry_after_ms > 2 * HOUR_MS


async def test_without_keys_everybody_is_welcome(world: World) -> None:
    assert await world.open().take([]) == Verdict(True, None, 0, 0)


@pytest.mark.parametrize("key", ["", "ž" * 200, "a:b{c}", "\u2028", "\x00"])
async def test_any_text_is_a_key(world: World, key: str) -> None:
    assert await allowed(world.open(), limit(3, is_exact=True), key, 5) == 3


async def test_only_so_many_keys_are_remembered_and_the_busy_ones_are(world: World) -> None:
    limiter, rule = world.open(keys_max=50), limit(4)
    assert await allowed(limiter, rule, "ann", 4) == 4
    for number in range(200):
        assert await allowed(limiter, rule, f"passer-by {number}", 1) == 1
        assert await allowed(limiter, rule, "ann", 1) == 0
    assert isinstance(limiter, MemoryRateLimiter | ValkeyRateLimiter)
    assert len(limiter) <= 50


async def test_after_closing_a_limiter_still_answers(world: World) -> None:
    limiter, rule = world.open(), limit(5)
    assert await allowed(limiter, rule, "ann", 2) == 2
    await limiter.close()
    assert await allowed(limiter, rule, "ann", 9) == 3


@pytest.mark.parametrize(("count", "window_ms"), [(0, 1_000), (-1, 1_000), (1_001, 1)])
def test_a_limit_that_cannot_be_kept_is_refused(count: int, window_ms: int) -> None:
    with pytest.raises(ValueError, match=r"^count: "):
        RateLimit("x", count, window_ms)


# -- several processes on one Valkey --------------------------------------------------------------


@pytest.fixture
async def together(valkey: EmbeddedValkey) -> AsyncIterator[World]:
    world = World(valkey)
    yield world
    await world.close()


@pytest.mark.parametrize("replicas", [2, 3, 5])
@pytest.mark.parametrize("is_exact", [False, True])
async def test_several_allow_the_limit_and_at_most_their_free_allowances_more(
    together: World, replicas: int, is_exact: bool
) -> None:
    limiters, rule = [together.open() for _ in range(replicas)], limit(40, is_exact=is_exact)
    got = 0
    for _ in range(100):
        for limiter in limiters:
            got += await allowed(limiter, rule, "ann", 1)
    assert 40 <= got <= 40 + replicas * rule.free_count
    if is_exact:
        assert got == 40


@pytest.mark.parametrize("pattern", ["round", "one after the other", "together"])
async def test_over_a_long_time_several_allow_no_more_than_the_limit_leaks(
    together: World, pattern: str
) -> None:
    limiters, rule = [together.open() for _ in range(3)], limit(20)
    got = 0
    steps = 60
    for step in range(steps):
        if pattern == "round":
            askers: list[RateLimiter] = [limiters[step % 3]] * 6
        elif pattern == "one after the other":
            askers = [limiters[step * 3 // steps]] * 6
        else:
            askers = [*limiters, *limiters]
        verdicts = await asyncio.gather(*(asker.take([Charge(rule, "ann")]) for asker in askers))
        got += sum(verdict.is_allowed for verdict in verdicts)
        await together.pass_time(HOUR_MS / 20)
    assert got <= 20 + 3 * rule.free_count + steps
    assert got >= steps, "at least what leaks out is allowed"


async def test_what_one_process_allowed_another_one_knows_soon(together: World) -> None:
    one, other, rule = together.open(), together.open(), limit(40)
    assert await allowed(one, rule, "ann", 60) == 40
    assert await allowed(other, rule, "ann", 60) <= rule.free_count
    assert await allowed(other, rule, "ann", 60) == 0


async def test_drops_that_are_told_late_are_not_taken_for_a_burst(together: World) -> None:
    limiter, other, rule = together.open(), together.open(), limit(40)
    for _ in range(rule.free_count):
        assert await allowed(limiter, rule, "ann", 1) == 1
        assert await allowed(other, rule, "ann", 1) == 1
        await together.pass_time(HOUR_MS / 4)
    # 20 were allowed in hours, and nothing of them was told yet.
    assert isinstance(limiter, ValkeyRateLimiter)
    assert limiter.calls == 0
    assert await allowed(limiter, rule, "ann", 50) == 40


async def calls_of(limiter: RateLimiter, ask: Callable[[], Awaitable[object]]) -> int:
    """How often the server is asked while somebody does something."""
    assert isinstance(limiter, ValkeyRateLimiter)
    before = limiter.calls
    await ask()
    return limiter.calls - before


async def test_who_asks_little_is_not_asked_about_at_the_server(together: World) -> None:
    limiter, rule = together.open(), limit(60)
    assert await calls_of(limiter, lambda: allowed(limiter, rule, "ann", 15)) == 0
    assert await calls_of(limiter, lambda: allowed(limiter, rule, "ann", 16)) == 1


async def test_a_refused_key_is_refused_without_asking_until_its_time(together: World) -> None:
    limiter, rule = together.open(), limit(4, is_exact=True)
    await allowed(limiter, rule, "ann", 5)
    assert await calls_of(limiter, lambda: allowed(limiter, rule, "ann", 1_000)) == 0
    await together.pass_time(HOUR_MS / 4)
    assert await calls_of(limiter, lambda: allowed(limiter, rule, "ann", 1)) == 1


async def test_questions_of_one_turn_are_one_call(together: World) -> None:
    limiter, rule = together.open(), limit(5, is_exact=True)

    async def crowd() -> None:
        await asyncio.gather(
            *(limiter.take([Charge(rule, f"customer {number}")]) for number in range(80))
        )

    await limiter.take([Charge(rule, "first")])
    assert await calls_of(limiter, crowd) <= 2


async def test_what_somebody_else_put_there_is_no_obstacle(
    together: World, valkey: EmbeddedValkey
) -> None:
    limiter, rule = together.open(), limit(3, is_exact=True)
    async with Redis.from_url(valkey.url) as redis:
        await redis.lpush(f"{{limit}}:1:{rule.name}:ann", "no jar")
        await redis.set(f"{{limit}}:1:{rule.name}:bob", "no number")
        # As if the server's clock had been set back by a year.
        await redis.set(f"{{limit}}:1:{rule.name}:eve", 2**52)
    assert await allowed(limiter, rule, "ann", 5) == 3
    assert await allowed(limiter, rule, "bob", 5) == 3
    refused = await limiter.take([Charge(rule, "eve")])
    assert not refused.is_allowed
    assert refused.retry_after_ms <= 17 * HOUR_MS


async def test_jars_end_by_themselves(together: World, valkey: EmbeddedValkey) -> None:
    limiter, rule = together.open(), limit(3, 60_000, is_exact=True)
    await allowed(limiter, rule, "ann", 3)
    async with Redis.from_url(valkey.url) as redis:
        assert 60_000 < await redis.pttl(f"{{limit}}:1:{rule.name}:ann") <= 120_001
