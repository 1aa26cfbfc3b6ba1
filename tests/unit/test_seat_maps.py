"""Reading seat maps: from whom, how fresh, and never backwards."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import pytest

from persistence.claim_reader import SeatMapSnapshot, ShowPosition
from persistence.seat_map_cache import Finding, MemorySeatMapCache, Offer
from persistence.seat_map_image import SeatMapImage, Shape, image_of
from reservation.faults import ShowUnavailable
from reservation.ids import ShowId, derive_show_id
from serve_app.api import seat_maps
from serve_app.api.seat_maps import SeatMaps

SHOW_ID = derive_show_id("read")
SHAPE = Shape(1, 1, 1)
EPOCH = 3


class Time:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s

    def pass_ms(self, duration_ms: float) -> None:
        self.now_s += duration_ms / 1_000


class Database:
    """One show, whose only counter is its sequence number. Answers after some turns."""

    def __init__(self) -> None:
        self.seq = 0
        self.positions = 0
        self.maps = 0
        self.is_away = False
        self.turns = 1

    async def seat_map_since(
        self, show_id: ShowId, seq: int
    ) -> tuple[ShowPosition, SeatMapSnapshot | None]:
        self.positions += 1
        position, snapshot = ShowPosition(EPOCH, self.seq), None
        if seq != self.seq:
            self.maps += 1
            snapshot = SeatMapSnapshot(self.seq, {}, {}, {}, {0: {0: self.seq}})
        await self._answer()
        return position, snapshot

    async def _answer(self) -> None:
        if self.is_away:
            raise ShowUnavailable("away")
        for _ in range(self.turns):
            await asyncio.sleep(0)


def image(seq: int, *, epoch: int = EPOCH, shape: Shape = SHAPE) -> SeatMapImage:
    admitted = [[seq] * shape.leg_count for _ in range(shape.tier_count)]
    return image_of(SHOW_ID, epoch, seq, shape, shape.no_states(), admitted)


class SlowCache(MemorySeatMapCache):
    """Answers after some turns, and what it answers may be old by then."""

    turns = 0

    async def find(self, show_id: ShowId, have: SeatMapImage | None) -> Finding:
        before = self.turns
        for _ in range(before):
            await asyncio.sleep(0)
        finding = await super().find(show_id, have)
        for _ in range(before):
            await asyncio.sleep(0)
        return finding


async def _next_turn(_: float) -> None:
    # The clock is the test's, so nothing is gained by waiting for a real one.
    await asyncio.sleep(0)


class House:
    """A database, a cache, and any number of processes that read."""

    def __init__(self) -> None:
        self.time = Time()
        self.database = Database()
        self.cache = SlowCache(clock=self.time)
        self.readers: list[SeatMaps] = []

    def open_reader(self, *, has_cache: bool = True) -> SeatMaps:
        cache = self.cache if has_cache else None
        self.readers.append(SeatMaps(self.database, cache, clock=self.time, sleep=_next_turn))
        return self.readers[-1]

    async def publish(self, *, age_ms: float = 0.0) -> None:
        """As the owner does after a commit."""
        known_at_s = self.time.now_s - age_ms / 1_000
        await self.cache.offer([Offer(image(self.database.seq), known_at_s)])


async def read(reader: SeatMaps, *, at_least: int = 0) -> int:
    found = await reader.read(SHOW_ID, SHAPE, at_least=at_least)
    assert found.admitted == (found.seq,), "a version has one content"
    return found.seq


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.fixture
async def house() -> AsyncIterator[House]:
    house = House()
    yield house
    for reader in house.readers:
        await reader.close()


# -- from whom ------------------------------------------------------------------------------------


async def test_a_copy_is_used_for_a_moment_without_asking_anybody(house: House) -> None:
    reader = house.open_reader()
    house.database.seq = 5
    assert await read(reader) == 5
    await settle()
    house.cache.is_away = house.database.is_away = True
    house.time.pass_ms(99)
    assert await read(reader) == 5


async def test_an_older_copy_is_renewed_by_the_cache_and_the_database_is_left_alone(
    house: House,
) -> None:
    reader = house.open_reader()
    await read(reader)
    house.database.is_away = True
    for seq in range(1, 20):
        house.time.pass_ms(100)
        house.database.seq = seq
        await house.publish()
        assert await read(reader) == seq
    assert (house.database.positions, house.database.maps) == (1, 1)


async def test_what_one_process_read_from_the_database_the_others_find_in_the_cache(
    house: House,
) -> None:
    house.database.seq = 5
    assert await read(house.open_reader()) == 5
    await settle()
    for _ in range(5):
        assert await read(house.open_reader()) == 5
    assert house.database.maps == 1


async def test_of_many_processes_that_find_nothing_one_asks_the_database(house: House) -> None:
    readers = [house.open_reader() for _ in range(8)]
    house.database.seq = 5
    found = await asyncio.gather(*(read(reader) for reader in readers for _ in range(5)))
    assert set(found) == {5}
    assert house.database.maps == 1


async def test_when_the_one_that_should_fill_never_does_the_others_ask_the_database(
    house: House,
) -> None:
    crashed = await house.cache.find(SHOW_ID, None)
    assert crashed.should_fill
    house.database.seq = 5
    assert await read(house.open_reader()) == 5


async def test_a_quiet_show_is_renewed_behind_its_readers_with_a_cheap_question(
    house: House,
) -> None:
    readers = [house.open_reader() for _ in range(3)]
    house.database.seq = 5
    for _ in range(50):
        for reader in readers:
            assert await read(reader) == 5
        await settle()
        house.time.pass_ms(100)
    assert house.database.maps == 1
    assert house.database.positions <= 1 + 5 * 2, "more than twice a second"


async def test_while_a_renewal_fails_the_copy_serves_for_as_long_as_it_is_true(
    house: House,
) -> None:
    reader = house.open_reader()
    house.database.seq = 5
    await read(reader)
    await settle()
    house.database.is_away = True
    house.time.pass_ms(999)
    assert await read(reader) == 5
    await settle()
    house.time.pass_ms(2)
    with pytest.raises(ShowUnavailable):
        await read(reader)
    house.database.is_away = False
    assert await read(reader) == 5


async def test_without_a_cache_every_map_is_as_fresh_as_the_database(house: House) -> None:
    reader = house.open_reader(has_cache=False)
    for seq in (0, 1, 2, 2, 9):
        house.database.seq = seq
        assert await read(reader) == seq
    assert (house.database.positions, house.database.maps) == (5, 4)


async def test_a_cache_that_is_away_costs_the_database_ten_questions_a_second(
    house: House,
) -> None:
    reader = house.open_reader()
    house.cache.is_away = True
    for number in range(1_000):
        house.database.seq = number // 100
        newest = await asyncio.gather(*(read(reader) for _ in range(5)))
        assert min(newest) >= max(0, number - 100) // 100
        house.time.pass_ms(1)
    assert house.database.positions <= 10
    house.cache.is_away = False
    house.time.pass_ms(100)
    assert await read(reader) == 9


async def test_of_a_storm_of_readers_one_in_a_hundred_reaches_the_database_at_most(
    house: House,
) -> None:
    readers = [house.open_reader() for _ in range(2)]
    for number in range(10_000):
        if number % 100 == 0:
            house.database.seq += 1
            await house.publish()
        await read(readers[number % 2])
        house.time.pass_ms(1)
    assert house.database.positions + house.database.maps <= 100
    assert await read(readers[0]) == 100


async def test_a_cache_that_is_slow_is_not_waited_for_by_those_who_have_a_map(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = house.open_reader()
    house.database.seq = 5
    assert await read(reader) == 5
    await settle()
    answers = asyncio.Event()
    find = house.cache.find

    async def slow(show_id: ShowId, have: SeatMapImage | None) -> Finding:
        await answers.wait()
        return await find(show_id, have)

    monkeypatch.setattr(house.cache, "find", slow)
    house.time.pass_ms(200)
    house.database.seq = 6
    await house.publish()
    assert [await read(reader) for _ in range(3)] == [5, 5, 5]
    house.time.pass_ms(801)
    waiting = asyncio.create_task(read(reader))
    await settle()
    assert not waiting.done(), "its copy is too old now"
    answers.set()
    assert await waiting == 6


async def test_an_image_of_another_shape_is_not_used(house: House) -> None:
    house.database.seq = 5
    wrong = image(900, shape=Shape(2, 1, 1))
    await house.cache.offer([Offer(wrong, house.time.now_s)])
    assert await read(house.open_reader()) == 5


# -- how fresh ------------------------------------------------------------------------------------


async def test_a_copy_is_never_used_for_longer_than_a_second_after_it_was_true(
    house: House,
) -> None:
    reader = house.open_reader()
    house.database.seq = 1
    await house.publish(age_ms=950)
    house.database.is_away = True  # Otherwise it would be renewed at once.
    assert await read(reader) == 1
    await settle()
    house.database.is_away = False
    house.database.seq = 2
    house.time.pass_ms(60)  # The copy was fetched less than 100 ms ago.
    assert await read(reader) == 2


async def test_a_query_that_takes_long_is_not_taken_for_newer_than_its_beginning(
    house: House,
) -> None:
    reader, other = house.open_reader(), house.open_reader()
    house.database.turns = 10
    slow = asyncio.create_task(read(reader))
    while not house.database.maps:  # noqa: ASYNC110 - the query tells nobody that it began.
        await asyncio.sleep(0)
    house.time.pass_ms(2_000)
    house.database.seq = 7
    assert await slow == 0
    await settle()
    assert await read(other) == 7, "the old image came too late for the cache"
    assert await read(reader) == 7


# -- never backwards ------------------------------------------------------------------------------


async def test_an_older_image_in_the_cache_does_not_replace_a_newer_copy(house: House) -> None:
    reader = house.open_reader()
    house.cache.is_away = True
    house.database.seq = 12
    assert await read(reader) == 12
    await settle()
    house.cache.is_away = False
    house.time.pass_ms(100)
    await house.cache.offer([Offer(image(10), house.time.now_s - 0.5)])
    assert await read(reader) == 12


async def test_a_client_that_shows_its_version_is_never_given_an_older_one(house: House) -> None:
    one, other = house.open_reader(), house.open_reader()
    house.database.seq = 10
    assert await read(one) == 10
    await settle()
    house.time.pass_ms(60)
    assert await read(other) == 10
    house.database.seq = 12
    await house.publish()
    house.time.pass_ms(50)
    assert await read(one) == 12
    assert await read(other) == 10, "its copy is young, and this client shows nothing"
    assert await read(other, at_least=12) == 12


async def test_a_client_that_shows_a_version_that_no_cache_has_is_answered_by_the_database(
    house: House,
) -> None:
    reader = house.open_reader()
    house.database.seq = 10
    await read(reader)
    await settle()
    house.database.seq = 12
    house.time.pass_ms(100)
    assert await read(reader, at_least=12) == 12


async def test_a_client_that_makes_a_version_up_costs_a_bounded_number_of_queries(
    house: House,
) -> None:
    reader = house.open_reader()
    house.database.seq = 10
    await read(reader)
    house.time.pass_ms(200)
    before = house.database.positions
    found = await asyncio.gather(*(read(reader, at_least=10**18) for _ in range(200)))
    assert set(found) == {10}
    assert house.database.positions - before <= 3


async def test_a_database_that_was_restored_from_a_backup_is_followed(house: House) -> None:
    reader = house.open_reader()
    house.database.seq = 50
    assert await read(reader) == 50
    await settle()
    house.database.seq = 40
    house.time.pass_ms(1_001)
    assert await read(reader) == 40
    await settle()
    house.time.pass_ms(100)
    assert await read(reader) == 40


async def test_closing_stops_what_goes_on_behind_the_readers(house: House) -> None:
    reader = house.open_reader()
    await read(reader)
    await settle()
    house.time.pass_ms(900)
    house.database.turns = 10**9
    assert await read(reader) == 0
    await reader.close()
    assert not [task for task in asyncio.all_tasks() if "_renew" in repr(task.get_coro())]


class Life:
    """Readers, an owner and a cache with all their troubles, by chance."""

    def __init__(self, house: House, seed: int) -> None:
        self.house = house
        self.rng = random.Random(seed)
        self.processes = [house.open_reader() for _ in range(3)]
        self.commits: list[tuple[float, int]] = [(0.0, 0)]
        self.ended: dict[int, list[int]] = {number: [] for number in range(3)}
        self.reading: set[asyncio.Task[None]] = set()

    def committed_before(self, at_s: float) -> int:
        return max(seq for when_s, seq in self.commits if when_s <= at_s)

    async def one_read(self, number: int, at_least: int) -> None:
        floor = max(self.ended[number], default=0)
        must_show = self.committed_before(self.house.time.now_s - seat_maps.TRUE_FOR_S)
        seq = await read(self.processes[number], at_least=at_least)
        assert seq >= must_show, "staler than a second"
        assert seq >= floor, "older than what this process said before"
        assert seq >= at_least, "older than what the client had"
        self.ended[number].append(seq)

    async def step(self) -> None:
        rng, house = self.rng, self.house
        house.database.turns = rng.choice((1, 1, 5, 40))
        house.cache.turns = rng.choice((0, 0, 3, 30))
        choice = rng.random()
        if choice < 0.15:
            house.database.seq += 1
            self.commits.append((house.time.now_s, house.database.seq))
        elif choice < 0.25:
            # The owner offers what was true a while ago, perhaps long ago: it was suspended.
            age_s = rng.choice((0.0, 0.05, 0.3, 0.9, 5.0))
            at_s = house.time.now_s - age_s
            old = image(self.committed_before(at_s))
            await house.cache.offer([Offer(old, at_s)])
        elif choice < 0.28:
            house.cache.is_away = not house.cache.is_away
        elif choice < 0.40:
            house.time.pass_ms(rng.choice((1, 10, 60, 100, 250, 700, 1_500)))
        else:
            number = rng.randrange(3)
            known = [seq for seqs in self.ended.values() for seq in seqs]
            at_least = rng.choice((0, 0, 0, max(known, default=0)))
            self.reading.add(asyncio.create_task(self.one_read(number, at_least)))
        for _ in range(rng.choice((0, 1, 30))):
            await asyncio.sleep(0)
        if rng.random() < 0.2:
            await self.finish()

    async def finish(self) -> None:
        await asyncio.gather(*self.reading)
        self.reading.clear()


@pytest.mark.parametrize("seed", range(30))
async def test_no_reader_ever_sees_more_than_a_second_back_or_time_run_backwards(
    house: House, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if seed % 2:
        monkeypatch.setattr(seat_maps, "PATIENCE_S", 0.0)
    life = Life(house, seed)
    for _ in range(300):
        await life.step()
    await life.finish()
    assert sum(map(len, life.ended.values())) > 100
    assert house.database.seq > 10
