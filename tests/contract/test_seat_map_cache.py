"""What every seat-map cache promises (``persistence/seat_map_cache.py``)."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from persistence.embedded_valkey import EmbeddedValkey
from persistence.seat_map_cache import MemorySeatMapCache, Offer, SeatMapCache
from persistence.seat_map_image import SeatMapImage, Shape, image_of
from persistence.valkey_seat_map_cache import ValkeySeatMapCache
from reservation.ids import ShowId, derive_show_id
from reservation.route import Segment

SHAPE = Shape(4, 1, 1)
LONG_MS = 60_000
SHORT_MS = 150

_numbers = itertools.count(1)

OpenCache = Callable[..., SeatMapCache]


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedValkey]:
    with EmbeddedValkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture(params=["memory", "valkey"])
async def open_cache(request: pytest.FixtureRequest) -> AsyncIterator[OpenCache]:
    """Opens one cache, as a process has it. Those on Valkey share what they keep."""
    opened: list[SeatMapCache] = []

    def open_one(*, map_ttl_ms: int = LONG_MS, fill_ms: int = LONG_MS) -> SeatMapCache:
        if request.param == "memory":
            cache: SeatMapCache = MemorySeatMapCache(map_ttl_ms=map_ttl_ms, fill_ms=fill_ms)
        else:
            url = request.getfixturevalue("valkey").url
            # Patient: that a busy machine is slow is not what is tested here.
            cache = ValkeySeatMapCache(
                url, timeout_ms=5_000, map_ttl_ms=map_ttl_ms, fill_ms=fill_ms
            )
        opened.append(cache)
        return cache

    yield open_one
    for cache in opened:
        await cache.close()


@pytest.fixture
def show_id() -> ShowId:
    return derive_show_id(f"cached {next(_numbers)}")


def image(show_id: ShowId, epoch: int, seq: int) -> SeatMapImage:
    """Its first tier says which version it is."""
    states = bytearray([0, 1, 2, 4])
    return image_of(show_id, epoch, seq, SHAPE, states, [[_mark(epoch, seq)]])


def _mark(epoch: int, seq: int) -> int:
    return (1_000 * epoch + seq) % 2**32


async def offer(cache: SeatMapCache, *images: SeatMapImage, age_s: float = 0.0) -> list[bool]:
    known_at_s = time.monotonic() - age_s
    kept = await cache.offer([Offer(image, known_at_s) for image in images])
    assert kept is not None
    return kept


async def version(cache: SeatMapCache, show_id: ShowId) -> tuple[int, int] | None:
    finding = await cache.find(show_id, None)
    assert not finding.is_away
    found = finding.image
    if found is None:
        return None
    assert found.admitted == (_mark(found.epoch, found.seq),)
    return found.epoch, found.seq


async def test_what_was_offered_is_found_whole(open_cache: OpenCache, show_id: ShowId) -> None:
    cache = open_cache()
    assert await version(cache, show_id) is None
    before_s = time.monotonic()
    assert await offer(cache, image(show_id, 1, 1)) == [True]
    finding = await cache.find(show_id, None)
    assert finding.image == image(show_id, 1, 1)
    assert finding.image.statuses(Segment(0, 1), b"fhbx") == b"fhbx"
    # Never thought younger than it is; the time of an answer's way makes it older.
    assert before_s - 0.5 <= finding.known_at_s <= time.monotonic()


async def test_shows_do_not_mix(open_cache: OpenCache, show_id: ShowId) -> None:
    cache = open_cache()
    other = derive_show_id(f"neighbour of {show_id}")
    assert await offer(cache, image(show_id, 1, 1), image(other, 2, 7)) == [True, True]
    assert await version(cache, show_id) == (1, 1)
    assert await version(cache, other) == (2, 7)


@pytest.mark.parametrize(
    ("first", "second", "is_kept"),
    [
        ((1, 5), (1, 6), True),
        ((1, 5), (1, 4), False),
        ((2, 5), (1, 6), False),
        ((1, 5), (2, 5), True),
        ((9, 9), (10, 10), True),
        ((10, 10), (9, 99), False),
        ((3, 2**40), (3, 2**40 - 1), False),
        ((2**33, 1), (2**33 - 1, 2), False),
    ],
)
async def test_the_newer_epoch_and_then_the_higher_sequence_number_wins(
    open_cache: OpenCache,
    show_id: ShowId,
    first: tuple[int, int],
    second: tuple[int, int],
    is_kept: bool,
) -> None:
    cache = open_cache()
    assert await offer(cache, image(show_id, *first)) == [True]
    assert await offer(cache, image(show_id, *second)) == [is_kept]
    assert await version(cache, show_id) == (second if is_kept else first)


async def test_of_racing_writers_the_newest_version_stays(
    open_cache: OpenCache, show_id: ShowId
) -> None:
    cache = open_cache()
    versions = [(epoch, 10 * epoch + seq) for epoch in range(1, 6) for seq in range(10)]
    random.Random(7).shuffle(versions)
    found: list[tuple[int, int]] = []

    async def look() -> None:
        for _ in versions:
            now = await version(cache, show_id)
            found.extend([now] if now else [])
            await asyncio.sleep(0)

    await asyncio.gather(look(), *(offer(cache, image(show_id, *v)) for v in versions))
    assert await version(cache, show_id) == max(versions)
    assert found == sorted(found), "a reader must never see an older version after a newer one"


async def test_an_owner_that_was_replaced_cannot_bring_its_map_back(
    open_cache: OpenCache, show_id: ShowId
) -> None:
    cache = open_cache()
    await offer(cache, image(show_id, 4, 90))
    await offer(cache, image(show_id, 5, 101))
    # What a zombie would say, even if it had sold on in its memory.
    assert await offer(cache, image(show_id, 4, 150)) == [False]
    assert await version(cache, show_id) == (5, 101)


async def test_an_image_that_comes_too_late_is_refused_also_where_nothing_is(
    open_cache: OpenCache, show_id: ShowId
) -> None:
    cache = open_cache(map_ttl_ms=1_000)
    assert await offer(cache, image(show_id, 4, 90), age_s=80.0) == [False]
    assert await offer(cache, image(show_id, 4, 90), age_s=1.001) == [False]
    assert await version(cache, show_id) is None


async def test_an_image_is_not_found_after_its_time_counted_from_when_it_was_true(
    open_cache: OpenCache, show_id: ShowId
) -> None:
    cache = open_cache(map_ttl_ms=LONG_MS)
    assert await offer(cache, image(show_id, 1, 1), age_s=59.0) == [True]
    finding = await cache.find(show_id, None)
    if finding.image is not None:  # A machine may well stop for a second.
        assert time.monotonic() - finding.known_at_s >= 59.0
    await asyncio.sleep(1.05)
    assert await version(cache, show_id) is None


async def test_offering_the_same_version_again_prolongs_it_and_never_shortens_it(
    open_cache: OpenCache, show_id: ShowId
) -> None:
    cache = open_cache()
    await offer(cache, image(show_id, 1, 1), age_s=30.0)
    old = await cache.find(show_id, None)
    assert await offer(cache, image(show_id, 1, 1)) == [True]
    renewed = await cache.find(show_id, None)
    assert renewed.known_at_s > old.known_at_s + 25.0
    assert await offer(cache, image(show_id, 1, 1), age_s=30.0) == [True]
    assert (await cache.find(show_id, None)).known_at_s >= renewed.known_at_s - 5.0


async def test_a_newer_version_may_have_been_true_for_less_long(
    open_cache: OpenCache, show_id: ShowId
) -> None:
    cache = open_cache()
    await offer(cache, image(show_id, 1, 1))
    assert await offer(cache, image(show_id, 1, 2), age_s=30.0) == [True]
    finding = await cache.find(show_id, None)
    assert finding.image == image(show_id, 1, 2)
    assert time.monotonic() - finding.known_at_s >= 30.0


async def test_whoever_has_the_newest_gets_it_back(open_cache: OpenCache, show_id: ShowId) -> None:
    cache = open_cache()
    have = image(show_id, 1, 1)
    await offer(cache, have)
    assert (await cache.find(show_id, have)).image is have
    await offer(cache, image(show_id, 1, 2))
    assert (await cache.find(show_id, have)).image == image(show_id, 1, 2)


async def test_one_of_those_who_find_nothing_is_told_to_fill(
    open_cache: OpenCache, show_id: ShowId
) -> None:
    cache = open_cache()
    findings = await asyncio.gather(*(cache.find(show_id, None) for _ in range(20)))
    assert [finding.image for finding in findings] == [None] * 20
    assert sum(finding.should_fill for finding in findings) == 1


async def test_one_who_was_told_to_fill_and_crashed_is_followed_by_another(
    open_cache: OpenCache, show_id: ShowId
) -> None:
    cache = open_cache(fill_ms=50)
    assert (await cache.find(show_id, None)).should_fill
    await asyncio.sleep(0.1)
    assert (await cache.find(show_id, None)).should_fill


async def test_an_image_that_ends_soon_is_found_and_one_is_told_to_renew_it(
    open_cache: OpenCache, show_id: ShowId
) -> None:
    cache = open_cache(map_ttl_ms=LONG_MS)
    await offer(cache, image(show_id, 1, 1))
    assert not (await cache.find(show_id, None)).should_fill
    brief = open_cache(map_ttl_ms=SHORT_MS)
    await offer(brief, image(show_id, 1, 2))
    assert (await brief.find(show_id, None)).should_fill
    assert not (await brief.find(show_id, None)).should_fill
    await offer(brief, image(show_id, 1, 3))
    assert (await brief.find(show_id, None)).should_fill, "the renewal was done"


async def test_shows_that_somebody_looked_for_are_wanted(
    open_cache: OpenCache, show_id: ShowId
) -> None:
    cache = open_cache()
    other = derive_show_id(f"nobody's {show_id}")
    assert await cache.wanted([show_id, other]) == set()
    await cache.find(show_id, None)
    assert await cache.wanted([other, show_id]) == {show_id}
    assert await cache.wanted([]) == set()


async def test_after_closing_the_cache_is_away(open_cache: OpenCache, show_id: ShowId) -> None:
    cache = open_cache()
    await offer(cache, image(show_id, 1, 1))
    await cache.close()
    assert (await cache.find(show_id, None)).is_away
    assert await cache.offer([Offer(image(show_id, 1, 2), time.monotonic())]) is None
    assert await cache.wanted([show_id]) is None


# -- on Valkey alone ------------------------------------------------------------------------------


async def test_two_processes_see_each_other_s_images(
    valkey: EmbeddedValkey, show_id: ShowId
) -> None:
    one, other = ValkeySeatMapCache(valkey.url), ValkeySeatMapCache(valkey.url)
    await offer(one, image(show_id, 1, 1))
    assert await version(other, show_id) == (1, 1)
    assert await other.wanted([show_id]) == {show_id}
    await one.close()
    await other.close()
