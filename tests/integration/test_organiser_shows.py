"""A tenant's own shows on a real database: drafts, changes, states and revised plans."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from persistence.catalogue import Catalogue, PutCounts, ShowSearch
from persistence.organiser_rows import Page, Place, PutOutcome
from persistence.organiser_shows import OrganiserShows, ShowChange, ShowFilter, ShowRow
from persistence.plan_codec import plan_id_of
from persistence.series import SeriesDraft
from persistence.venues import VenueDraft
from reservation.fares import CategoryFare, FareTable, FareWindow
from reservation.ids import ShowId, TenantId, derive_show_id
from reservation.listing import ShowKind, ShowListing
from reservation.organiser_ids import ObjectKind, SeriesId, VenueId, tenant_source_key
from reservation.plan_revision import Revision, revise
from reservation.seating_plan import Category, Run, SeatingPlan, SeatRow
from reservation.show import OrphanRule, SalesPolicy, ShowState
from tests.conftest import House
from tests.support.catalogue_house import (
    COACH_ID,
    DAY_MS,
    HALL,
    HALL_ID,
    MONDAY_MS,
    make_run,
    make_show,
    titles,
)
from tests.support.two_tenants import (
    NOBODY,
    OURS,
    THEIRS,
    OrganiserStores,
    made,
    open_organiser_stores,
)

TWO = (CategoryFare(1), CategoryFare(2))
LEGS = (CategoryFare(1, (1, 1, 1)), CategoryFare(2))


@pytest.fixture
async def house(empty_house: House) -> AsyncIterator[OrganiserStores]:
    async with open_organiser_stores(*empty_house) as house:
        yield house


@pytest.fixture
def shows(house: OrganiserStores) -> OrganiserShows:
    return house.organisers.shows


def show(
    key: str, title: str = "Rusalka", *, tenant: TenantId = OURS, day: int = 0, **change: Any
) -> ShowListing:
    source_key = tenant_source_key(tenant, key)
    listing = make_show(source_key, title, day=day)
    return replace(listing, tenant_id=tenant, **change)


def draft(key: str, **change: Any) -> ShowListing:
    return show(key, status=ShowState.DRAFT, **change)


# --- made once, found by its tenant


async def test_a_show_is_made_once_however_often_it_is_asked_for(shows: OrganiserShows) -> None:
    listing = draft("1", description="Opera \U0001f3ad")
    first = await shows.create(listing)
    assert first.outcome is PutOutcome.CREATED
    assert first.row is not None
    assert first.row.listing == listing
    assert await shows.create(listing) == (PutOutcome.REPEATED, first.row)
    other = replace(listing, title="Jenufa")
    assert await shows.create(other) == (PutOutcome.ID_TAKEN, None)
    # A change since does not make the first request another one.
    await shows.update(OURS, listing.show_id, ShowChange(title="Jenufa"))
    again = await shows.create(listing)
    assert again.outcome is PutOutcome.REPEATED
    assert again.row is not None
    assert again.row.listing.title == "Jenufa"


async def test_a_tenant_sees_nothing_of_another_ones_shows(shows: OrganiserShows) -> None:
    theirs = show("1", tenant=THEIRS)
    assert (await shows.create(theirs)).outcome is PutOutcome.CREATED
    show_id = theirs.show_id
    missing = (PutOutcome.NOT_FOUND, None)
    for tenant in (OURS, NOBODY, TenantId("a\0")):
        assert await shows.find(tenant, show_id) is None
        assert await shows.update(tenant, show_id, ShowChange(title="Mine")) == missing
        assert await shows.set_status(tenant, show_id, ShowState.CANCELLED) == missing
        assert await shows.change_plan(tenant, show_id, HALL_ID, HALL_ID) == missing
    assert await shows.list(OURS) == Page((), None)
    found = await shows.find(THEIRS, show_id)
    assert found is not None
    assert found.listing == theirs
    for unknown in ("", "shw_0000000000000000", "a\0b", "\ud800"):
        assert await shows.find(OURS, ShowId(unknown)) is None


async def test_two_tenants_may_use_the_same_key_for_their_shows(shows: OrganiserShows) -> None:
    ours, theirs = show("gtfs:1"), show("gtfs:1", tenant=THEIRS)
    assert ours.show_id != theirs.show_id
    assert (await shows.create(ours)).outcome is PutOutcome.CREATED
    assert (await shows.create(theirs)).outcome is PutOutcome.CREATED


async def test_a_show_refers_only_to_what_its_tenant_has(
    house: OrganiserStores, shows: OrganiserShows
) -> None:
    venue_id = VenueId(made(ObjectKind.VENUE, "1", THEIRS))
    series_id = SeriesId(made(ObjectKind.SERIES, "1", THEIRS))
    await house.organisers.venues.create(THEIRS, venue_id, VenueDraft("A", "", "UTC"))
    await house.organisers.series.create(THEIRS, series_id, SeriesDraft("A"))
    missing = (PutOutcome.REFERENCE_NOT_FOUND, None)
    for change in (
        {"venue_id": venue_id},
        {"series_id": series_id},
        {"plan_id": "pln_" + "0" * 20},
        {"series_id": SeriesId("\ud800")},
    ):
        assert await shows.create(show("1", **change)) == missing
    assert await shows.create(show("1", tenant=NOBODY)) == missing
    theirs = show("1", tenant=THEIRS, venue_id=venue_id, series_id=series_id)
    assert (await shows.create(theirs)).outcome is PutOutcome.CREATED
    listing = show("2")
    await shows.create(listing)
    put = await shows.update(OURS, listing.show_id, ShowChange(series_id=series_id))
    assert put == missing


async def test_an_import_can_neither_take_a_show_nor_publish_or_revive_it(
    house: OrganiserStores, shows: OrganiserShows
) -> None:
    listing = draft("1")
    await shows.create(listing)
    # Somebody else imports something under the very same source key.
    for thief in (replace(listing, tenant_id=THEIRS), replace(listing, tenant_id=NOBODY)):
        counts = await house.catalogue.put_shows([replace(thief, title="Stolen")])
        (refused,) = counts.refused
        assert refused.reason.startswith("tenant_id: ")
    published = replace(listing, title="New", status=ShowState.ON_SALE, description="Other")
    assert await house.catalogue.put_shows([published]) == PutCounts(
        0, 1, 0, updated_ids=(listing.show_id,)
    )
    row = await shows.find(OURS, listing.show_id)
    assert row is not None
    assert row.listing == replace(listing, title="New")
    assert row.version == 2
    await shows.set_status(OURS, listing.show_id, ShowState.CANCELLED)
    await house.catalogue.put_shows([replace(published, title="Newer")])
    row = await shows.find(OURS, listing.show_id)
    assert row is not None
    assert row.listing.status is ShowState.CANCELLED


async def test_many_shows_are_made_and_those_that_cannot_be_are_named(
    shows: OrganiserShows,
) -> None:
    before = show("1")
    await shows.create(before)
    other = show("2")
    await shows.create(replace(other, title="Another"))
    listings = [
        before,
        other,
        show("3"),
        show("4", plan_id="pln_" + "0" * 20),
        replace(show("5"), title="a\0"),
        show("6"),
    ]
    counts = await shows.create_many(listings)
    assert (counts.created, counts.unchanged) == (2, 1)
    assert {refused.source_key: refused.reason.partition(":")[0] for refused in counts.refused} == {
        other.source_key: "source_key",
        listings[3].source_key: "plan_id",
        listings[4].source_key: "title",
    }
    assert (await shows.create_many(listings)).created == 0
    with pytest.raises(ValueError, match=r"^shows: "):
        await shows.create_many([before] * 1001)


async def test_the_same_shows_made_twice_at_once_are_made_once(shows: OrganiserShows) -> None:
    listings = [show(f"{number}", day=number) for number in range(40)]
    counts = await asyncio.gather(
        *(shows.create_many(order) for order in (listings, listings[::-1], listings))
    )
    assert sum(each.created for each in counts) == 40
    assert sum(each.unchanged for each in counts) == 80
    assert all(not each.refused for each in counts)


# --- what others see


async def test_a_draft_is_seen_by_its_organiser_only_and_sells_nothing(
    house: OrganiserStores, shows: OrganiserShows
) -> None:
    listing = draft("1", policy=SalesPolicy(on_sale_until_at_ms=MONDAY_MS))
    await shows.create(listing)
    catalogue = house.catalogue
    assert await catalogue.find_listing(listing.show_id) is None
    assert await titles(catalogue) == []
    assert await titles(catalogue, text="rusalka") == []
    loaded = await catalogue.load_show(listing.show_id)
    assert loaded is not None
    assert (loaded.policy.on_sale_from_at_ms or 0) > MONDAY_MS * 1000
    put = await shows.set_status(OURS, listing.show_id, ShowState.ON_SALE)
    assert put.outcome is PutOutcome.UPDATED
    assert await catalogue.find_listing(listing.show_id) == replace(
        listing, status=ShowState.ON_SALE
    )
    assert await titles(catalogue) == ["Rusalka"]
    loaded = await catalogue.load_show(listing.show_id)
    assert loaded is not None
    assert loaded.policy == listing.policy


@pytest.mark.parametrize(
    ("before", "after", "outcome"),
    [
        (ShowState.DRAFT, ShowState.DRAFT, PutOutcome.REPEATED),
        (ShowState.DRAFT, ShowState.ON_SALE, PutOutcome.UPDATED),
        (ShowState.DRAFT, ShowState.CANCELLED, PutOutcome.UPDATED),
        (ShowState.ON_SALE, ShowState.DRAFT, PutOutcome.STALE),
        (ShowState.ON_SALE, ShowState.ON_SALE, PutOutcome.REPEATED),
        (ShowState.ON_SALE, ShowState.CANCELLED, PutOutcome.UPDATED),
        (ShowState.CANCELLED, ShowState.DRAFT, PutOutcome.STALE),
        (ShowState.CANCELLED, ShowState.ON_SALE, PutOutcome.STALE),
        (ShowState.CANCELLED, ShowState.CANCELLED, PutOutcome.REPEATED),
    ],
)
async def test_a_show_goes_from_draft_over_sale_to_cancelled_and_never_back(
    shows: OrganiserShows, before: ShowState, after: ShowState, outcome: PutOutcome
) -> None:
    listing = show("1", status=before)
    await shows.create(listing)
    put = await shows.set_status(OURS, listing.show_id, after)
    assert put.outcome is outcome
    row = await shows.find(OURS, listing.show_id)
    assert row is not None
    moved = outcome is PutOutcome.UPDATED
    assert row.listing.status is (after if moved else before)
    assert row.version == 1 + moved


async def test_a_cancelled_show_is_not_searched_but_can_be_looked_at(
    house: OrganiserStores, shows: OrganiserShows
) -> None:
    listing = show("1")
    await shows.create(listing)
    await shows.set_status(OURS, listing.show_id, ShowState.CANCELLED)
    assert await titles(house.catalogue) == []
    found = await house.catalogue.find_listing(listing.show_id)
    assert found is not None
    assert found.status is ShowState.CANCELLED


# --- changed


async def test_what_is_changed_is_changed_and_the_rest_stays(
    house: OrganiserStores, shows: OrganiserShows
) -> None:
    listing = show("1")
    await shows.create(listing)
    fares = FareTable("EUR", TWO, (FareWindow(MONDAY_MS, (CategoryFare(8), CategoryFare(9))),))
    policy = SalesPolicy(orphan_rule=OrphanRule.OFF)
    change = ShowChange(
        title="Její pastorkyňa",
        description="By Leoš Janáček",
        venue="Mahen",
        starts_at_ms=listing.starts_at_ms + DAY_MS,
        ends_at_ms=listing.ends_at_ms + DAY_MS,
        fares=fares,
        policy=policy,
    )
    put = await shows.update(OURS, listing.show_id, change, expected_version=1)
    assert put.row is not None
    assert put.row.version == 2
    expected = replace(
        listing,
        title="Její pastorkyňa",
        description="By Leoš Janáček",
        venue="Mahen",
        starts_at_ms=listing.starts_at_ms + DAY_MS,
        ends_at_ms=listing.ends_at_ms + DAY_MS,
        service_day_at_ms=listing.starts_at_ms + DAY_MS,
        fares=fares,
        policy=policy,
    )
    assert put.row.listing == expected
    assert await house.catalogue.find_listing(listing.show_id) == expected
    assert await titles(house.catalogue, text="jeji mahen") == ["Její pastorkyňa"]
    assert await titles(house.catalogue, text="rusalka") == []
    repeated = await shows.update(OURS, listing.show_id, change)
    assert (repeated.outcome, repeated.row) == (PutOutcome.REPEATED, put.row)
    stale = await shows.update(OURS, listing.show_id, ShowChange(title="X"), expected_version=1)
    assert stale == (PutOutcome.STALE, None)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (ShowChange(title="a\0"), "title"),
        (ShowChange(title="x" * 501), "title"),
        (ShowChange(description="x" * 10_001), "description"),
        (ShowChange(venue="\ud800"), "venue"),
        (ShowChange(ends_at_ms=0), "ends_at_ms"),
        (ShowChange(starts_at_ms=1 << 60), "starts_at_ms"),
        (ShowChange(fares=FareTable("EUR", (CategoryFare(1),))), "fares"),
        (ShowChange(fares=FareTable("EUR", TWO, (FareWindow(1 << 70, TWO),))), "fares"),
        (ShowChange(fares=FareTable("EUR", TWO, (FareWindow(1, LEGS),))), "fares"),
        (ShowChange(fares=FareTable("USD", (CategoryFare(1), CategoryFare(1)))), "fares"),
    ],
)
async def test_a_change_that_cannot_be_is_refused_by_its_field(
    shows: OrganiserShows, change: ShowChange, field: str
) -> None:
    listing = show("1")
    await shows.create(listing)
    with pytest.raises(ValueError, match=f"^{field}: "):
        await shows.update(OURS, listing.show_id, change)
    row = await shows.find(OURS, listing.show_id)
    assert row is not None
    assert (row.listing, row.version) == (listing, 1)


async def test_the_currency_of_a_draft_may_still_change(shows: OrganiserShows) -> None:
    listing = draft("1")
    await shows.create(listing)
    dollars = FareTable("USD", (CategoryFare(1), CategoryFare(1)))
    put = await shows.update(OURS, listing.show_id, ShowChange(fares=dollars))
    assert put.row is not None
    assert put.row.listing.fares == dollars


async def test_the_times_of_a_run_are_those_of_its_timetable(shows: OrganiserShows) -> None:
    run = replace(make_run(tenant_source_key(OURS, "gtfs:1")), tenant_id=OURS)
    await shows.create(run)
    with pytest.raises(ValueError, match=r"^starts_at_ms: "):
        await shows.update(OURS, run.show_id, ShowChange(starts_at_ms=run.starts_at_ms + 1))
    put = await shows.update(OURS, run.show_id, ShowChange(title="Express"))
    assert put.row is not None
    assert put.row.listing == replace(run, title="Express")


async def test_of_two_changes_of_the_same_version_one_wins(shows: OrganiserShows) -> None:
    listing = show("1")
    await shows.create(listing)
    puts = await asyncio.gather(
        *(
            shows.update(OURS, listing.show_id, ShowChange(title=f"Title {number}"), 1)
            for number in range(5)
        )
    )
    outcomes = sorted(put.outcome.value for put in puts)
    assert outcomes == ["stale"] * 4 + ["updated"]


# --- listed


async def test_shows_are_listed_by_their_start_and_filtered(
    house: OrganiserStores, shows: OrganiserShows
) -> None:
    series_id = SeriesId(made(ObjectKind.SERIES, "1"))
    await house.organisers.series.create(OURS, series_id, SeriesDraft("Rusalka"))
    listings = [
        show(
            f"{day}",
            f"Night {day}",
            day=day,
            status=list(ShowState)[day % 3],
            series_id=series_id if day % 2 else None,
        )
        for day in range(9)
    ]
    run = replace(make_run(tenant_source_key(OURS, "run"), day=20), tenant_id=OURS)
    await shows.create_many([*listings, run, show("theirs", tenant=THEIRS)])
    everything = [*listings, run]

    async def pages(wanted: ShowFilter, limit: int) -> list[ShowListing]:
        rows: list[ShowRow] = []
        after: Place | None = None
        while True:
            page = await shows.list(OURS, wanted, limit, after)
            rows += page.items
            if page.next is None:
                return [row.listing for row in rows]
            assert len(page.items) == limit
            after = page.next

    assert await pages(ShowFilter(), 3) == everything
    assert await pages(ShowFilter(status=ShowState.DRAFT), 2) == listings[::3]
    assert await pages(ShowFilter(series_id=series_id), 1) == listings[1::2]
    assert await pages(ShowFilter(kind=ShowKind.TRAIN), 5) == [run]
    assert await pages(ShowFilter(text="nig 4"), 5) == [listings[4]]
    assert await pages(ShowFilter(text="!?"), 5) == []
    assert await pages(ShowFilter(text=" "), 5) == everything
    bounds = ShowFilter(
        starts_from_ms=listings[2].starts_at_ms, starts_before_ms=listings[5].starts_at_ms
    )
    assert await pages(bounds, 2) == listings[2:5]
    assert await pages(ShowFilter(series_id=SeriesId("a\0")), 5) == []
    mistakes: tuple[dict[str, Any], ...] = (
        {"limit": 0},
        {"limit": 101},
        {"after": Place(1 << 61, "")},
        {"after": Place(0, "a\0")},
        {"wanted": ShowFilter(text="\ud800")},
        {"wanted": ShowFilter(starts_before_ms=1 << 61)},
    )
    for wrong in mistakes:
        with pytest.raises(ValueError, match=r"^(limit|after|text|starts_before_ms): "):
            await shows.list(OURS, **wrong)


# --- revised plans


def drawn(name: str, labels: list[str]) -> SeatingPlan:
    """The hall's plan with these seats in one row."""
    count = len(labels)
    typecode = HALL.x.typecode
    column = type(HALL.x)(typecode, range(count))
    return replace(
        HALL,
        name=name,
        category_of=type(HALL.category_of)("H", [index % 2 for index in range(count)]),
        traits=bytes(count),
        x=column,
        y=column,
        rank=column,
        rows=(SeatRow("S", "1", 0, count),),
        runs=(Run(0, count, 0),),
        labels=tuple(labels),
    )


async def stored(catalogue: Catalogue, plan: SeatingPlan) -> str:
    plan_id = plan_id_of(plan)
    await catalogue.put_plan(plan_id, plan, {}, {})
    return plan_id


def revision_of(old: SeatingPlan, new: SeatingPlan) -> Revision:
    revision = revise(old, new)
    assert isinstance(revision, Revision)
    return revision


async def test_a_show_gets_a_revised_plan_and_an_actor_loads_it(
    house: OrganiserStores, shows: OrganiserShows
) -> None:
    listing = show("1")
    await shows.create(listing)
    labels = [*HALL.labels[:3], "S-1-new", *HALL.labels[4:]]
    plan = revision_of(HALL, drawn("Hall 2", labels)).plan
    assert plan.order is not None
    plan_id = await stored(house.catalogue, plan)
    put = await shows.change_plan(OURS, listing.show_id, HALL_ID, plan_id)
    assert put.row is not None
    assert (put.outcome, put.row.listing.plan_id, put.row.version) == (
        PutOutcome.UPDATED,
        plan_id,
        2,
    )
    again = await shows.change_plan(OURS, listing.show_id, HALL_ID, plan_id)
    assert again == (PutOutcome.REPEATED, put.row)
    assert await house.catalogue.load_plan(plan_id) == plan
    loaded = await house.catalogue.load_show(listing.show_id)
    assert loaded is not None
    assert loaded.plan == replace(plan, labels=())
    assert loaded.plan.gone == {3}
    # The plan that the caller started from is not the show's any more.
    assert await shows.change_plan(OURS, listing.show_id, COACH_ID, HALL_ID) == (
        PutOutcome.STALE,
        None,
    )


async def test_a_plan_that_gives_a_seat_another_index_is_refused(
    house: OrganiserStores, shows: OrganiserShows
) -> None:
    listing = show("1")
    await shows.create(listing)
    for plan in (
        drawn("Reversed", list(HALL.labels[::-1])),
        drawn("Smaller", list(HALL.labels[:3])),
        drawn("Shifted", ["S-1-new", *HALL.labels]),
    ):
        plan_id = await stored(house.catalogue, plan)
        with pytest.raises(ValueError, match=r"^plan_id: not a revision"):
            await shows.change_plan(OURS, listing.show_id, HALL_ID, plan_id)
    missing = await shows.change_plan(OURS, listing.show_id, HALL_ID, "pln_" + "0" * 20)
    assert missing == (PutOutcome.REFERENCE_NOT_FOUND, None)
    row = await shows.find(OURS, listing.show_id)
    assert row is not None
    assert (row.listing, row.version) == (listing, 1)


async def test_a_new_category_needs_a_fare(house: OrganiserStores, shows: OrganiserShows) -> None:
    listing = show("1")
    await shows.create(listing)
    wider = replace(HALL, categories=(*HALL.categories, Category("Box")))
    plan_id = await stored(house.catalogue, revision_of(HALL, wider).plan)
    with pytest.raises(ValueError, match=r"^fares: 2 fares for the 3 categories"):
        await shows.change_plan(OURS, listing.show_id, HALL_ID, plan_id)
    fares = FareTable("EUR", tuple(map(CategoryFare, (900, 500, 3000))))
    dollars = FareTable("USD", fares.fares)
    with pytest.raises(ValueError, match=r"^fares: what is sold already was sold in EUR"):
        await shows.change_plan(OURS, listing.show_id, HALL_ID, plan_id, dollars)
    put = await shows.change_plan(OURS, listing.show_id, HALL_ID, plan_id, fares)
    assert put.row is not None
    assert put.row.listing.fares == fares


async def test_the_database_itself_refuses_a_smaller_plan(
    house: OrganiserStores, shows: OrganiserShows
) -> None:
    listing = show("1")
    await shows.create(listing)
    async with house.pool.acquire() as connection:
        outcome = await connection.fetchval(
            "SELECT change_show_plan($1, $2, $3, $4, 'EUR', '[]')",
            OURS,
            listing.show_id,
            HALL_ID,
            COACH_ID,
        )
    assert outcome == "reference_not_found"


async def test_of_two_revisions_of_the_same_plan_one_wins(
    house: OrganiserStores, shows: OrganiserShows
) -> None:
    listing = show("1")
    await shows.create(listing)
    plan_ids = [
        await stored(
            house.catalogue,
            revision_of(HALL, drawn(f"Hall {number}", [*HALL.labels, f"new-{number}"])).plan,
        )
        for number in range(4)
    ]
    puts = await asyncio.gather(
        *(shows.change_plan(OURS, listing.show_id, HALL_ID, plan_id) for plan_id in plan_ids)
    )
    assert sorted(put.outcome.value for put in puts) == ["stale"] * 3 + ["updated"]


async def test_an_import_that_still_has_the_old_plan_is_told_so(
    house: OrganiserStores, shows: OrganiserShows
) -> None:
    listing = show("1")
    await shows.create(listing)
    plan = revision_of(HALL, drawn("Hall 2", [*HALL.labels, "new"])).plan
    plan_id = await stored(house.catalogue, plan)
    await shows.change_plan(OURS, listing.show_id, HALL_ID, plan_id)
    (refused,) = (await house.catalogue.put_shows([listing])).refused
    assert refused.reason == f"plan_id: the show is sold with plan {plan_id} already"


async def test_what_the_command_line_imports_is_the_houses(house: OrganiserStores) -> None:
    listing = make_show("theatre:1")
    assert (await house.catalogue.put_shows([listing])).created == 1
    assert await house.organisers.shows.find(listing.tenant_id, listing.show_id) is not None
    assert await house.organisers.shows.find(OURS, listing.show_id) is None
    page = await house.catalogue.search(ShowSearch())
    assert [item.show_id for item in page.items] == [derive_show_id("theatre:1")]
