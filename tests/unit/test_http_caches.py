"""What the applications remember: listings, shared queries, kept bodies."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace

import pytest

from persistence.catalogue import Listed
from reservation.fares import CategoryFare, FareTable
from reservation.faults import ShowNotFound, ShowUnavailable
from reservation.ids import ShowId, derive_show_id
from reservation.listing import ShowKind, ShowListing
from reservation.route import Route
from reservation.seating_plan import SeatingPlan
from reservation.show import Placement
from serve_app.api import show_facts
from serve_app.api.kept_bytes import KeptBody, KeptBytes
from serve_app.api.shared_reads import SharedReads
from serve_app.api.show_facts import ShowFactsCache
from tests.support.plans import build_plan

SHOW_ID = derive_show_id("s")
LISTING = ShowListing(
    SHOW_ID,
    "s",
    ShowKind.PERFORMANCE,
    "Lear",
    "House",
    0,
    1,
    0,
    "UTC",
    "pln",
    None,
    FareTable("EUR", (CategoryFare(1),)),
    Placement.DEDICATED,
)


class FakeCatalogue:
    """One show; counts how often it is asked, and fails when told to."""

    def __init__(self) -> None:
        self.listing: ShowListing | None = LISTING
        self.shows = {SHOW_ID}
        self.asked = 0
        self.asked_for: list[list[ShowId]] = []
        self.is_away = False

    async def renew_listings(self, known: Mapping[ShowId, int | None]) -> dict[ShowId, Listed]:
        self.asked += 1
        self.asked_for.append(list(known))
        await asyncio.sleep(0)
        if self.is_away:
            raise ShowUnavailable("away")
        now = {
            show_id: Listed(replace(self.listing, show_id=show_id), id(self.listing))
            for show_id in self.shows
            if self.listing is not None
        }
        nothing = Listed(None, None)
        return {
            show_id: now.get(show_id, nothing)
            for show_id, version in known.items()
            if now.get(show_id, nothing).version != version
        }

    async def load_plan(self, plan_id: str) -> SeatingPlan | None:
        return build_plan([("S", "1", 2, ())])

    async def load_route(self, route_id: str) -> Route | None:
        raise AssertionError("the show has no route")


@pytest.fixture
def catalogue() -> FakeCatalogue:
    return FakeCatalogue()


@pytest.fixture
def cache(catalogue: FakeCatalogue, monkeypatch: pytest.MonkeyPatch) -> ShowFactsCache:
    monkeypatch.setattr(show_facts, "RENEWAL_PAUSE_S", 0)
    return ShowFactsCache(catalogue)


def age(cache: ShowFactsCache, seconds: float) -> None:
    """Make everything that is known so much older."""
    for show_id, known in cache._known.items():
        cache._known[show_id] = known._replace(read_at_s=known.read_at_s - seconds)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_many_who_ask_at_once_cost_one_query(
    cache: ShowFactsCache, catalogue: FakeCatalogue
) -> None:
    found = await asyncio.gather(*(cache.facts(SHOW_ID) for _ in range(100)))
    assert catalogue.asked == 1
    assert {facts.listing.title for facts in found} == {"Lear"}
    await cache.facts(SHOW_ID)
    assert catalogue.asked == 1


async def test_an_older_listing_is_used_once_more_while_it_is_renewed(
    cache: ShowFactsCache, catalogue: FakeCatalogue
) -> None:
    await cache.facts(SHOW_ID)
    catalogue.listing = replace(LISTING, title="Macbeth")
    age(cache, show_facts.FRESH_S + 1)
    assert (await cache.facts(SHOW_ID)).listing.title == "Lear"
    await settle()
    assert (await cache.facts(SHOW_ID)).listing.title == "Macbeth"


async def test_shows_that_have_grown_old_are_asked_for_together(
    cache: ShowFactsCache, catalogue: FakeCatalogue
) -> None:
    shows = [derive_show_id(str(number)) for number in range(50)]
    catalogue.shows.update(shows)
    for show_id in shows:
        await cache.facts(show_id)
    age(cache, show_facts.FRESH_S + 1)
    before = catalogue.asked
    for _ in range(2):
        for show_id in shows:
            await cache.facts(show_id)
    await settle()
    assert catalogue.asked_for[before:] == [shows]
    for show_id in shows:
        await cache.facts(show_id)
    assert catalogue.asked == before + 1, "what has not changed is as good as new"


async def test_a_show_that_was_taken_away_is_noticed(
    cache: ShowFactsCache, catalogue: FakeCatalogue
) -> None:
    await cache.facts(SHOW_ID)
    catalogue.listing = None
    age(cache, show_facts.FRESH_S + 1)
    await cache.facts(SHOW_ID)
    await settle()
    with pytest.raises(ShowNotFound):
        await cache.facts(SHOW_ID)


async def test_a_database_that_is_away_does_not_make_a_known_show_unknown(
    cache: ShowFactsCache, catalogue: FakeCatalogue
) -> None:
    await cache.facts(SHOW_ID)
    catalogue.is_away = True
    age(cache, show_facts.FRESH_S + 1)
    assert (await cache.facts(SHOW_ID)).listing.title == "Lear"
    await settle()
    age(cache, show_facts.USABLE_S)
    with pytest.raises(ShowUnavailable):
        await cache.facts(SHOW_ID)
    catalogue.is_away = False
    assert (await cache.facts(SHOW_ID)).listing.title == "Lear"


async def test_a_show_that_does_not_exist_is_asked_for_once_a_second(
    cache: ShowFactsCache, catalogue: FakeCatalogue
) -> None:
    nothing = derive_show_id("nothing")
    for _ in range(10):
        with pytest.raises(ShowNotFound):
            await cache.facts(nothing)
    assert catalogue.asked == 1
    age(cache, show_facts.UNKNOWN_S)
    with pytest.raises(ShowNotFound):
        await cache.facts(nothing)
    assert catalogue.asked == 2


async def test_listings_are_bounded(
    cache: ShowFactsCache, catalogue: FakeCatalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(show_facts, "LISTINGS_MAX", 3)
    await cache.facts(SHOW_ID)
    for number in range(5):
        with pytest.raises(ShowNotFound):
            await cache.facts(derive_show_id(str(number)))
    assert len(cache._known) == 3
    await cache.facts(SHOW_ID)
    assert catalogue.asked == 7


async def test_one_who_hangs_up_does_not_take_the_answer_from_the_others(
    cache: ShowFactsCache,
) -> None:
    first = asyncio.create_task(cache.facts(SHOW_ID))
    second = asyncio.create_task(cache.facts(SHOW_ID))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).listing.title == "Lear"


class Reads:
    """A read that can be held back, and says which query answered."""

    def __init__(self) -> None:
        self.begun = 0
        self.gate = asyncio.Event()

    async def __call__(self, key: str) -> int:
        self.begun += 1
        number = self.begun
        await self.gate.wait()
        return number


async def test_a_query_that_is_under_way_is_not_joined_because_it_may_be_too_old() -> None:
    reads = Reads()
    shared = SharedReads[str, int](reads)
    early = asyncio.create_task(shared.get("k"))
    await settle()
    assert reads.begun == 1
    late = [asyncio.create_task(shared.get("k")) for _ in range(50)]
    await settle()
    assert reads.begun == 1, "the second query waits for the first one"
    reads.gate.set()
    assert await early == 1
    assert set(await asyncio.gather(*late)) == {2}
    assert await shared.get("k") == 3


async def test_different_keys_do_not_wait_for_each_other() -> None:
    reads = Reads()
    shared = SharedReads[str, int](reads)
    tasks = [asyncio.create_task(shared.get(key)) for key in "abc"]
    await settle()
    assert reads.begun == 3
    reads.gate.set()
    await asyncio.gather(*tasks)


async def test_a_failure_reaches_those_who_share_it_and_nobody_later() -> None:
    failures = [ShowUnavailable("once")]

    async def read(key: str) -> str:
        await asyncio.sleep(0)
        if failures:
            raise failures.pop()
        return key

    shared = SharedReads[str, str](read)
    first = await asyncio.gather(shared.get("k"), shared.get("k"), return_exceptions=True)
    assert isinstance(first[0], ShowUnavailable)
    assert first[1] == "k"
    assert await shared.get("k") == "k"


async def test_a_reader_who_hangs_up_does_not_stop_the_query_of_the_others() -> None:
    reads = Reads()
    shared = SharedReads[str, int](reads)
    first = asyncio.create_task(shared.get("k"))
    await settle()
    second, third = (asyncio.create_task(shared.get("k")) for _ in range(2))
    await settle()
    first.cancel()
    second.cancel()
    await settle()
    reads.gate.set()
    assert await third == 2


def kept(size: int) -> KeptBody:
    return KeptBody("tag", b"x" * size, 0.0)


def test_bodies_are_kept_up_to_their_size_and_the_unused_go_first() -> None:
    bodies = KeptBytes[str, KeptBody](100)
    bodies.keep("a", kept(40))
    bodies.keep("b", kept(40))
    assert bodies.find("a") is not None
    bodies.keep("c", kept(40))
    assert bodies.find("b") is None
    assert bodies.find("a") is not None
    bodies.keep("c", kept(60))
    assert (bodies.find("a"), bodies.find("c")) != (None, None)
    bodies.keep("d", kept(101))
    assert bodies.find("d") is None
    bodies.keep("c", kept(101))
    assert bodies.find("c") is None, "an older body must not be taken for the newer one"
