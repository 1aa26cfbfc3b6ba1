"""What owners show to readers: only what is durable, only where somebody looks, the last of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from actors.seat_map_publisher import SHOWS_AT_ONCE_MAX, SeatMapPublisher
from actors.show_actor import ShowActor
from persistence.seat_map_cache import MemorySeatMapCache, Offer
from persistence.seat_map_image import SeatMapImage
from reservation.commands import BlockSeats, CancelBooking, ReleaseHold
from reservation.events import BookingConfirmed, SeatsHeld
from reservation.faults import Fenced
from reservation.ids import ShowId
from reservation.route import Segment
from reservation.show import Placement
from tests.support.house import (
    GENEROUS,
    ID,
    NEIGHBOUR,
    SHOW,
    MemoryHouse,
    ask,
    ask_all,
    clock_of,
    confirm,
    end_tickers,
    hold,
    make_show,
    turn,
    until,
)

QUICK_MS = 5


class SpiedCache(MemorySeatMapCache):
    """Remembers what was offered, and can be held back."""

    def __init__(self) -> None:
        # Never too old: a busy machine is not what is tested here.
        super().__init__(map_ttl_ms=600_000)
        self.offered: list[SeatMapImage] = []
        self.asked = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def wanted(self, show_ids: Sequence[ShowId]) -> set[ShowId] | None:
        self.asked += 1
        await self.gate.wait()
        return await super().wanted(show_ids)

    async def offer(self, offers: Sequence[Offer]) -> list[bool] | None:
        self.offered.extend(offer.image for offer in offers)
        return await super().offer(offers)


@pytest.fixture
def house() -> MemoryHouse:
    return MemoryHouse(SHOW, NEIGHBOUR)


@pytest.fixture
def cache() -> SpiedCache:
    return SpiedCache()


@pytest.fixture
async def publisher(cache: SpiedCache) -> AsyncIterator[SeatMapPublisher]:
    publisher = SeatMapPublisher(cache, publish_every_ms=QUICK_MS)
    yield publisher
    cache.gate.set()
    await publisher.close()
    await end_tickers()


@pytest.fixture
def actor(house: MemoryHouse, publisher: SeatMapPublisher) -> ShowActor:
    return start(house, publisher)


def start(
    house: MemoryHouse,
    publisher: SeatMapPublisher,
    placement: Placement = Placement.DEDICATED,
) -> ShowActor:
    return house.start_actor(publisher=publisher, placement=placement)


async def look(cache: SpiedCache, show_id: ShowId = ID) -> str | None:
    """The letters of the first ten seats."""
    found = (await cache.find(show_id, None)).image
    return None if found is None else found.statuses(Segment(0, 1), b"fhbx")[:10].decode()


async def sees(cache: SpiedCache, letters: str, show_id: ShowId = ID) -> None:
    async with asyncio.timeout(10):
        while await look(cache, show_id) != letters:  # noqa: ASYNC110 - nobody announces it.
            await asyncio.sleep(0.002)


async def test_whatever_happens_to_a_seat_readers_come_to_see_it(
    cache: SpiedCache, actor: ShowActor
) -> None:
    assert await look(cache) is None
    first = hold(ID, 0, 1)
    await ask(actor, ID, first)
    await sees(cache, "hhffffffff")
    booked = await ask(actor, ID, confirm(first))
    assert isinstance(booked, BookingConfirmed)
    await sees(cache, "bbffffffff")
    await ask(actor, ID, BlockSeats((9,), "camera"))
    await sees(cache, "bbfffffffx")
    second = hold(ID, 4)
    await ask(actor, ID, second)
    await ask(actor, ID, ReleaseHold(second.hold_id, second.customer_id))
    await sees(cache, "bbfffffffx")
    await ask(actor, ID, CancelBooking(booked.booking_id, booked.customer_id))
    await sees(cache, "fffffffffx")


async def test_a_hold_that_expires_is_seen_to_be_free(
    house: MemoryHouse, cache: SpiedCache, actor: ShowActor
) -> None:
    await look(cache)
    await ask(actor, ID, hold(ID, 3))
    await sees(cache, "fffhffffff")
    clock_of(house).advance(GENEROUS.hold_ttl_ms)
    actor.tick()
    await sees(cache, "ffffffffff")


async def test_what_is_not_durable_yet_is_not_shown(
    house: MemoryHouse, cache: SpiedCache, actor: ShowActor
) -> None:
    await look(cache)
    await ask(actor, ID, hold(ID, 0))
    await sees(cache, "hfffffffff")
    house.journals[0].gate.clear()
    waiting = asyncio.ensure_future(ask(actor, ID, hold(ID, 1)))
    await turn()
    await asyncio.sleep(5 * QUICK_MS / 1_000)
    assert await look(cache) == "hfffffffff"
    house.journals[0].gate.set()
    await waiting
    await sees(cache, "hhffffffff")


async def test_what_never_became_durable_is_never_shown(
    house: MemoryHouse, cache: SpiedCache, actor: ShowActor
) -> None:
    await look(cache)
    await ask(actor, ID, hold(ID, 0))
    await sees(cache, "hfffffffff")
    house.journals[0].gate.clear()
    losing = asyncio.ensure_future(ask(actor, ID, hold(ID, 1)))
    await turn()
    house.store.activate(SHOW)
    house.journals[0].gate.set()
    assert isinstance(await losing, Fenced)
    await asyncio.sleep(5 * QUICK_MS / 1_000)
    assert all(seen.codes[1] == 0 for seen in cache.offered)
    # It takes the show back, with all that was stored.
    await ask(actor, ID, hold(ID, 2))
    await sees(cache, "hfhfffffff")
    assert cache.offered[-1].epoch == 3


async def test_after_a_takeover_the_new_owner_s_map_stays(
    house: MemoryHouse, cache: SpiedCache, actor: ShowActor
) -> None:
    zombie = actor
    await look(cache)
    await ask(zombie, ID, hold(ID, 0))
    await sees(cache, "hfffffffff")
    cache.gate.clear()
    await ask(zombie, ID, hold(ID, 1))  # Its publication is held back.
    await turn()
    second = SeatMapPublisher(cache, publish_every_ms=QUICK_MS)
    owner = start(house, second)
    await ask(owner, ID, hold(ID, 2))
    cache.gate.set()
    await sees(cache, "hhhfffffff")
    assert isinstance(await ask(zombie, ID, hold(ID, 3)), Fenced)
    await asyncio.sleep(5 * QUICK_MS / 1_000)
    assert await look(cache) == "hhhfffffff"
    await second.close()


async def test_a_show_that_nobody_looks_at_is_not_published_until_somebody_does(
    cache: SpiedCache, actor: ShowActor
) -> None:
    await ask(actor, ID, hold(ID, 0))
    await until(lambda: cache.asked == 1)
    await asyncio.sleep(3 * QUICK_MS / 1_000)
    assert cache.offered == []
    assert cache.asked == 1, "nothing has changed since"
    assert await look(cache) is None
    await ask(actor, ID, hold(ID, 1))
    await sees(cache, "hhffffffff")


async def test_many_changes_become_few_images_and_the_last_one_is_among_them(
    cache: SpiedCache, actor: ShowActor
) -> None:
    await look(cache)
    cache.gate.clear()
    for seat in range(10):
        await ask(actor, ID, hold(ID, seat))
    cache.gate.set()
    await sees(cache, "hhhhhhhhhh")
    assert len(cache.offered) <= 2


async def test_commands_do_not_wait_for_a_cache_that_hangs(
    cache: SpiedCache, actor: ShowActor
) -> None:
    await look(cache)
    cache.gate.clear()
    for seat in range(5):
        assert isinstance(await ask(actor, ID, hold(ID, seat)), SeatsHeld)
    assert cache.offered == []


async def test_what_changed_while_the_cache_was_away_is_published_when_it_is_back(
    cache: SpiedCache, actor: ShowActor
) -> None:
    await look(cache)
    cache.is_away = True
    await ask(actor, ID, hold(ID, 0))
    await until(lambda: cache.asked >= 3)
    assert cache.offered == []
    cache.is_away = False
    await sees(cache, "hfffffffff")


async def test_a_pool_publishes_each_of_its_shows(
    cache: SpiedCache, publisher: SeatMapPublisher
) -> None:
    shows = [
        make_show(f"run {number}", placement=Placement.POOLED)
        for number in range(SHOWS_AT_ONCE_MAX + 20)
    ]
    pool = start(MemoryHouse(*shows), publisher, Placement.POOLED)
    for show in shows:
        await look(cache, show.show_id)
    await asyncio.gather(
        *(
            ask_all(pool, show.show_id, [hold(show.show_id, number % 10)])
            for number, show in enumerate(shows)
        )
    )
    for number, show in enumerate(shows):
        await sees(cache, "".join("fh"[seat == number % 10] for seat in range(10)), show.show_id)


async def test_a_show_that_left_memory_is_forgotten_and_published_again_when_it_is_back(
    house: MemoryHouse, cache: SpiedCache, actor: ShowActor, publisher: SeatMapPublisher
) -> None:
    await look(cache)
    await ask(actor, ID, hold(ID, 0))
    await sees(cache, "hfffffffff")
    clock_of(house).advance(GENEROUS.hold_ttl_ms)
    actor.tick()
    await turn()
    clock_of(house).advance(60_000)
    actor.tick()
    assert (await actor.status()).shows == []
    assert publisher._maps == {}
    await ask(actor, ID, hold(ID, 5))
    await sees(cache, "fffffhffff")


async def test_closing_publishes_what_has_changed_last(house: MemoryHouse) -> None:
    cache = SpiedCache()
    publisher = SeatMapPublisher(cache, publish_every_ms=60_000)
    actor = start(house, publisher)
    await look(cache)
    await ask(actor, ID, hold(ID, 0))
    await sees(cache, "hfffffffff")
    await ask(actor, ID, hold(ID, 1))
    await publisher.close()
    assert cache.offered[-1].codes[:2] == b"\1\1"
    assert cache.is_away
    await end_tickers()
