"""Venues, plans, series, promo codes and channels on a real database, as an organiser's role."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import asyncpg
import pytest

from persistence.channels import ChannelDraft, Channels
from persistence.organiser_rows import Page, Place, Put, PutOutcome
from persistence.series import SeriesDraft
from persistence.sessions import open_pool
from persistence.venue_plans import VenuePlanDraft
from persistence.venues import VenueDraft
from reservation.fares import CategoryFare, FareTable, FareWindow
from reservation.faults import ShowUnavailable
from reservation.ids import ChannelId, ShowId, TenantId
from reservation.organiser_ids import (
    ObjectKind,
    PromoCodeId,
    SeriesId,
    VenueId,
    VenuePlanId,
    is_object_id,
)
from reservation.promo_codes import AmountOff, PercentageOff, PromoTerms
from reservation.show import OrphanRule, SalesPolicy
from tests.conftest import House
from tests.support.catalogue_house import COACH_ID, HALL_ID
from tests.support.two_tenants import (
    ACCOUNT,
    NOBODY,
    OURS,
    THEIRS,
    OrganiserStores,
    made,
    open_organiser_stores,
)

Store = Any
FREE = (CategoryFare(0),)
Make = Callable[[OrganiserStores, TenantId, str, str], Awaitable[Put[Any]]]


@pytest.fixture
async def house(empty_house: House) -> AsyncIterator[OrganiserStores]:
    async with open_organiser_stores(*empty_house) as house:
        yield house


def venue(name: str, zone: str = "Europe/Prague") -> VenueDraft:
    return VenueDraft(name, "Main Street 1", zone)


def key_of(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


# --- what is the same of all of them


async def _make_venue(house: OrganiserStores, tenant: TenantId, row_id: str, name: str) -> Put[Any]:
    return await house.organisers.venues.create(tenant, VenueId(row_id), venue(name))


async def _make_plan(house: OrganiserStores, tenant: TenantId, row_id: str, name: str) -> Put[Any]:
    return await house.organisers.venue_plans.create(
        tenant, VenuePlanId(row_id), VenuePlanDraft(name), HALL_ID, ACCOUNT
    )


async def _make_series(
    house: OrganiserStores, tenant: TenantId, row_id: str, name: str
) -> Put[Any]:
    return await house.organisers.series.create(tenant, SeriesId(row_id), SeriesDraft(name))


async def _make_promo(house: OrganiserStores, tenant: TenantId, row_id: str, name: str) -> Put[Any]:
    terms = PromoTerms(name, PercentageOff(1000))
    return await house.organisers.promo_codes.create(tenant, PromoCodeId(row_id), terms)


async def _make_channel(
    house: OrganiserStores, tenant: TenantId, row_id: str, name: str
) -> Put[Any]:
    return await house.organisers.channels.create(
        tenant, ChannelId(row_id), ChannelDraft(name), key_of(f"{tenant} {row_id}")
    )


async def _make_job(house: OrganiserStores, tenant: TenantId, row_id: str, name: str) -> Put[Any]:
    return await house.organisers.import_jobs.create(
        tenant,
        row_id,  # type: ignore[arg-type]
        ACCOUNT,
        {"from_date": "2026-12-01"},
        name,
    )


KINDS: list[tuple[str, ObjectKind, str, Make]] = [
    ("venues", ObjectKind.VENUE, "venue_id", _make_venue),
    ("venue_plans", ObjectKind.VENUE_PLAN, "venue_plan_id", _make_plan),
    ("series", ObjectKind.SERIES, "series_id", _make_series),
    ("promo_codes", ObjectKind.PROMO_CODE, "promo_code_id", _make_promo),
    ("channels", ObjectKind.CHANNEL, "channel_id", _make_channel),
    ("import_jobs", ObjectKind.IMPORT_JOB, "import_job_id", _make_job),
]
NAMED = [kind for kind in KINDS if kind[0] not in ("series", "import_jobs")]


def each_of(kinds: list[tuple[str, ObjectKind, str, Make]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        ("store", "kind", "column", "make"), kinds, ids=[kind[0] for kind in kinds]
    )


@each_of(KINDS)
async def test_what_is_made_is_found_and_a_repeated_request_makes_it_once(
    house: OrganiserStores, store: str, kind: ObjectKind, column: str, make: Make
) -> None:
    row_id = made(kind, "request-1")
    assert is_object_id(kind, row_id)
    first = await make(house, OURS, row_id, "NAME-1")
    assert first.outcome is PutOutcome.CREATED
    assert first.row is not None
    assert (getattr(first.row, column), first.row.tenant_id) == (row_id, OURS)
    assert first.row.version == 1
    rows: Store = getattr(house.organisers, store)
    assert await rows.find(OURS, row_id) == first.row
    assert await make(house, OURS, row_id, "NAME-1") == (PutOutcome.REPEATED, first.row)
    assert await make(house, OURS, row_id, "NAME-2") == (PutOutcome.ID_TAKEN, None)
    assert (await rows.list(OURS)).items == (first.row,)


@each_of(KINDS)
async def test_a_tenant_sees_nothing_of_another_one(
    house: OrganiserStores, store: str, kind: ObjectKind, column: str, make: Make
) -> None:
    row_id = made(kind, "request-1", THEIRS)
    assert (await make(house, THEIRS, row_id, "NAME-1")).outcome is PutOutcome.CREATED
    rows: Store = getattr(house.organisers, store)
    for tenant in (OURS, NOBODY, TenantId("a\0b"), TenantId("")):
        assert await rows.find(tenant, row_id) is None
    assert await rows.list(OURS) == Page((), None)
    assert await rows.list(NOBODY) == Page((), None)
    # Not even that the id is taken can be used to look at it.
    assert await make(house, OURS, row_id, "NAME-1") == (PutOutcome.ID_TAKEN, None)
    assert (await rows.list(THEIRS)).items[0].tenant_id == THEIRS


@each_of(KINDS)
async def test_nothing_is_made_for_a_tenant_that_is_not_there(
    house: OrganiserStores, store: str, kind: ObjectKind, column: str, make: Make
) -> None:
    put = await make(house, NOBODY, made(kind, "1", NOBODY), "NAME-1")
    assert put == (PutOutcome.REFERENCE_NOT_FOUND, None)


@each_of(KINDS)
async def test_lists_are_paged_from_the_newest_on(
    house: OrganiserStores, store: str, kind: ObjectKind, column: str, make: Make
) -> None:
    ids = [made(kind, f"request-{number}") for number in range(7)]
    for number, row_id in enumerate(ids):
        await make(house, OURS, row_id, f"NAME-{number}")
        await make(house, THEIRS, made(kind, f"{number}", THEIRS), f"NAME-{number}")
    rows: Store = getattr(house.organisers, store)
    found: list[Any] = []
    after: Place | None = None
    for _ in range(4):
        page = await rows.list(OURS, limit=2, after=after)
        found += page.items
        after = page.next
    assert after is None
    assert {getattr(row, column) for row in found} == set(ids)
    assert len(found) == 7
    ages = [(row.created_at_ms, getattr(row, column)) for row in found]
    assert ages == sorted(ages, reverse=True)
    for wrong in ({"limit": 0}, {"limit": 101}, {"after": Place(1 << 63, "")}):
        with pytest.raises(ValueError, match=r"^(limit|after): "):
            await rows.list(OURS, **wrong)


@each_of(KINDS)
async def test_an_id_that_cannot_be_one_is_not_there(
    house: OrganiserStores, store: str, kind: ObjectKind, column: str, make: Make
) -> None:
    rows: Store = getattr(house.organisers, store)
    for unknown in ("", "a\0b", "\ud800", "x" * 500, made(kind, "never")):
        assert await rows.find(OURS, unknown) is None


@each_of(NAMED)
async def test_names_differ_within_a_tenant_whatever_their_case(
    house: OrganiserStores, store: str, kind: ObjectKind, column: str, make: Make
) -> None:
    first = await make(house, OURS, made(kind, "1"), "SUMMER-26")
    assert first.outcome is PutOutcome.CREATED
    again = await make(house, OURS, made(kind, "2"), "summer-26")
    assert again == (PutOutcome.NAME_TAKEN, None)
    theirs = await make(house, THEIRS, made(kind, "1", THEIRS), "summer-26")
    assert theirs.outcome is PutOutcome.CREATED


@each_of(KINDS)
async def test_the_same_request_many_times_at_once_makes_one_row(
    house: OrganiserStores, store: str, kind: ObjectKind, column: str, make: Make
) -> None:
    puts = await asyncio.gather(*(make(house, OURS, made(kind, "1"), "NAME-1") for _ in range(12)))
    outcomes = [put.outcome for put in puts]
    assert outcomes.count(PutOutcome.CREATED) == 1
    assert outcomes.count(PutOutcome.REPEATED) == 11


# --- venues


async def test_a_venue_is_changed_by_who_knows_its_version(house: OrganiserStores) -> None:
    venues, venue_id = house.organisers.venues, VenueId(made(ObjectKind.VENUE, "1"))
    await venues.create(OURS, venue_id, venue("Big House"))
    put = await venues.update(OURS, venue_id, venue("Grand House"), expected_version=1)
    assert put.outcome is PutOutcome.UPDATED
    assert put.row is not None
    assert (put.row.name, put.row.version) == ("Grand House", 2)
    stale = await venues.update(OURS, venue_id, venue("Small House"), expected_version=1)
    assert stale == (PutOutcome.STALE, None)
    assert (await venues.update(OURS, venue_id, venue("Small House"))).outcome is PutOutcome.UPDATED
    foreign = await venues.update(THEIRS, venue_id, venue("Mine now"))
    assert foreign == (PutOutcome.NOT_FOUND, None)
    assert await venues.update(OURS, VenueId("a\0"), venue("X")) == (PutOutcome.NOT_FOUND, None)


async def test_a_venue_cannot_take_the_name_of_another_one(house: OrganiserStores) -> None:
    venues = house.organisers.venues
    for name in ("One", "Two"):
        await venues.create(OURS, VenueId(made(ObjectKind.VENUE, name)), venue(name))
    put = await venues.update(OURS, VenueId(made(ObjectKind.VENUE, "One")), venue("TWO"))
    assert put == (PutOutcome.NAME_TAKEN, None)


@pytest.mark.parametrize(
    ("draft", "field"),
    [
        (venue(""), "name"),
        (venue("  "), "name"),
        (venue("x" * 201), "name"),
        (venue("a\0b"), "name"),
        (venue("\ud800"), "name"),
        (venue("A", "Europe/Nowhere"), "time_zone"),
        (venue("A", "../etc/passwd"), "time_zone"),
        (venue("A", ""), "time_zone"),
        (VenueDraft("A", "x" * 2001, "UTC"), "address"),
    ],
)
async def test_a_venue_that_cannot_be_is_refused_by_its_field(
    house: OrganiserStores, draft: VenueDraft, field: str
) -> None:
    venue_id = VenueId(made(ObjectKind.VENUE, "1"))
    with pytest.raises(ValueError, match=f"^{field}: "):
        await house.organisers.venues.create(OURS, venue_id, draft)


async def test_a_venue_goes_when_nothing_refers_to_it(house: OrganiserStores) -> None:
    venues, plans = house.organisers.venues, house.organisers.venue_plans
    used, unused = (VenueId(made(ObjectKind.VENUE, name)) for name in ("used", "unused"))
    await venues.create(OURS, used, venue("Used"))
    await venues.create(OURS, unused, venue("Unused"))
    plan_id = VenuePlanId(made(ObjectKind.VENUE_PLAN, "1"))
    await plans.create(OURS, plan_id, VenuePlanDraft("Hall", used), HALL_ID, ACCOUNT)
    assert await venues.delete(THEIRS, unused) == (PutOutcome.NOT_FOUND, None)
    assert await venues.delete(OURS, used) == (PutOutcome.IN_USE, None)
    assert await venues.delete(OURS, unused) == (PutOutcome.DELETED, None)
    assert await venues.delete(OURS, unused) == (PutOutcome.NOT_FOUND, None)
    assert await venues.delete(OURS, VenueId("a\0")) == (PutOutcome.NOT_FOUND, None)


# --- named plans


async def test_a_plan_has_numbered_versions_whose_content_never_changes(
    house: OrganiserStores,
) -> None:
    plans, plan_id = house.organisers.venue_plans, VenuePlanId(made(ObjectKind.VENUE_PLAN, "1"))
    await plans.create(OURS, plan_id, VenuePlanDraft("Hall"), HALL_ID, ACCOUNT)
    repeated = await plans.add_version(OURS, plan_id, HALL_ID, ACCOUNT)
    assert repeated.outcome is PutOutcome.REPEATED
    second = await plans.add_version(OURS, plan_id, COACH_ID, ACCOUNT, expected_version=1)
    assert second.row is not None
    assert (second.outcome, second.row.plan_id, second.row.version_count) == (
        PutOutcome.UPDATED,
        COACH_ID,
        2,
    )
    assert (second.row.seat_count, second.row.category_count) == (4, 2)
    renamed = await plans.update(OURS, plan_id, VenuePlanDraft("Coach"), expected_version=2)
    assert renamed.row is not None
    assert renamed.row == replace(
        second.row, name="Coach", version=3, updated_at_ms=renamed.row.updated_at_ms
    )
    assert await plans.find(OURS, plan_id) == renamed.row
    assert (await plans.list(OURS)).items == (renamed.row,)
    assert (await plans.add_version(OURS, plan_id, HALL_ID, ACCOUNT, 1)).outcome is PutOutcome.STALE
    assert (await plans.add_version(OURS, plan_id, HALL_ID, ACCOUNT, 3)).outcome is (
        PutOutcome.UPDATED
    )
    page = await plans.list_versions(OURS, plan_id, limit=2)
    assert [(version.number, version.plan_id) for version in page.items] == [
        (3, HALL_ID),
        (2, COACH_ID),
    ]
    page = await plans.list_versions(OURS, plan_id, limit=2, after=page.next)
    assert [(each.number, each.seat_count, each.created_by) for each in page.items] == [
        (1, 6, ACCOUNT)
    ]
    assert page.next is None
    found = await plans.find_version(OURS, plan_id, 2)
    assert found is not None
    assert (found.plan_id, found.seat_count, found.category_count) == (COACH_ID, 4, 2)
    for number in (0, 4, -1, 2**40):
        assert await plans.find_version(OURS, plan_id, number) is None


async def test_versions_of_a_plan_are_its_tenants_only(house: OrganiserStores) -> None:
    plans, plan_id = house.organisers.venue_plans, VenuePlanId(made(ObjectKind.VENUE_PLAN, "1"))
    await plans.create(OURS, plan_id, VenuePlanDraft("Hall"), HALL_ID, ACCOUNT)
    assert await plans.list_versions(THEIRS, plan_id) == Page((), None)
    assert await plans.find_version(THEIRS, plan_id, 1) is None
    assert await plans.add_version(THEIRS, plan_id, COACH_ID, ACCOUNT) == (
        PutOutcome.NOT_FOUND,
        None,
    )
    assert await plans.update(THEIRS, plan_id, VenuePlanDraft("Mine")) == (
        PutOutcome.NOT_FOUND,
        None,
    )
    assert await plans.owns_plan(OURS, HALL_ID)
    assert not await plans.owns_plan(THEIRS, HALL_ID)
    assert not await plans.owns_plan(OURS, COACH_ID)
    assert not await plans.owns_plan(OURS, "a\0b")


async def test_a_drawing_is_a_tenants_own_until_another_one_has_it_too(
    house: OrganiserStores,
) -> None:
    plans = house.organisers.venue_plans
    assert await plans.owns_plan_alone(OURS, HALL_ID)
    ours, theirs = (
        VenuePlanId(made(ObjectKind.VENUE_PLAN, "1", tenant)) for tenant in (OURS, THEIRS)
    )
    await plans.create(OURS, ours, VenuePlanDraft("Hall"), HALL_ID, ACCOUNT)
    assert await plans.owns_plan_alone(OURS, HALL_ID)
    assert not await plans.owns_plan_alone(THEIRS, HALL_ID)
    await plans.create(THEIRS, theirs, VenuePlanDraft("Hall"), HALL_ID, ACCOUNT)
    assert not await plans.owns_plan_alone(OURS, HALL_ID)
    draft = SeriesDraft("Rusalka", plan_id=COACH_ID)
    await house.organisers.series.create(
        THEIRS, SeriesId(made(ObjectKind.SERIES, "1", THEIRS)), draft
    )
    assert not await plans.owns_plan_alone(OURS, COACH_ID)
    assert not await plans.owns_plan_alone(OURS, "a\0b")


async def test_a_plan_refers_only_to_what_its_tenant_has(house: OrganiserStores) -> None:
    venues, plans = house.organisers.venues, house.organisers.venue_plans
    theirs = VenueId(made(ObjectKind.VENUE, "1", THEIRS))
    await venues.create(THEIRS, theirs, venue("Theirs"))
    plan_id = VenuePlanId(made(ObjectKind.VENUE_PLAN, "1"))
    missing = PutOutcome.REFERENCE_NOT_FOUND
    for draft, content in (
        (VenuePlanDraft("A", theirs), HALL_ID),
        (VenuePlanDraft("A"), "pln_" + "0" * 20),
        (VenuePlanDraft("A"), "a\0b"),
    ):
        put = await plans.create(OURS, plan_id, draft, content, ACCOUNT)
        assert put == (missing, None)
    assert (await plans.create(OURS, plan_id, VenuePlanDraft("A"), HALL_ID, ACCOUNT)).row
    put = await plans.update(OURS, plan_id, VenuePlanDraft("A", theirs))
    assert put == (missing, None)
    put = await plans.add_version(OURS, plan_id, "pln_" + "0" * 20, ACCOUNT)
    assert put == (missing, None)
    with pytest.raises(ValueError, match=r"^venue_id: "):
        await plans.update(OURS, plan_id, VenuePlanDraft("A", VenueId("a\0")))


async def test_two_who_add_a_version_at_once_get_two_numbers(house: OrganiserStores) -> None:
    plans, plan_id = house.organisers.venue_plans, VenuePlanId(made(ObjectKind.VENUE_PLAN, "1"))
    await plans.create(OURS, plan_id, VenuePlanDraft("Hall"), HALL_ID, ACCOUNT)
    for _ in range(5):
        await asyncio.gather(
            plans.add_version(OURS, plan_id, COACH_ID, ACCOUNT),
            plans.add_version(OURS, plan_id, HALL_ID, ACCOUNT),
        )
    versions = (await plans.list_versions(OURS, plan_id)).items
    assert [each.number for each in versions] == list(range(len(versions), 0, -1))


# --- series


async def test_a_series_keeps_everything_that_its_shows_start_from(house: OrganiserStores) -> None:
    series, venue_id = house.organisers.series, VenueId(made(ObjectKind.VENUE, "1"))
    await house.organisers.venues.create(OURS, venue_id, venue("Big House"))
    draft = SeriesDraft(
        "Rusalka",
        "A lyric fairy tale \U0001f3ad",
        venue_id,
        HALL_ID,
        3 * 3_600_000,
        FareTable(
            "CZK",
            (CategoryFare(90000), CategoryFare(50000)),
            (FareWindow(1_790_000_000_000, (CategoryFare(99000), CategoryFare(55000))),),
        ),
        SalesPolicy(orphan_rule=OrphanRule.STRICT, seats_per_customer_max=6),
    )
    series_id = SeriesId(made(ObjectKind.SERIES, "1"))
    put = await series.create(OURS, series_id, draft)
    assert put.row is not None
    assert put.row.draft == draft
    assert (await series.create(OURS, series_id, draft)).outcome is PutOutcome.REPEATED
    bare = SeriesDraft("Rusalka")
    changed = await series.update(OURS, series_id, bare, expected_version=1)
    assert changed.row is not None
    assert (changed.row.draft, changed.row.version) == (bare, 2)
    assert await series.update(THEIRS, series_id, bare) == (PutOutcome.NOT_FOUND, None)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"title": ""}, "title"),
        ({"title": "a\0"}, "title"),
        ({"description": "x" * 10_001}, "description"),
        ({"duration_ms": -1}, "duration_ms"),
        ({"duration_ms": 10**12}, "duration_ms"),
        ({"fares": FareTable("EUR", FREE, (FareWindow(1 << 70, FREE),))}, "fares"),
        ({"venue_id": "\ud800"}, "venue_id"),
        ({"plan_id": "a\0b"}, "plan_id"),
    ],
)
async def test_a_series_that_cannot_be_is_refused_by_its_field(
    house: OrganiserStores, change: dict[str, Any], field: str
) -> None:
    draft = SeriesDraft("Rusalka")._replace(**change)
    with pytest.raises(ValueError, match=f"^{field}: "):
        await house.organisers.series.create(OURS, SeriesId(made(ObjectKind.SERIES, "1")), draft)


async def test_a_series_refers_only_to_what_its_tenant_has(house: OrganiserStores) -> None:
    theirs = VenueId(made(ObjectKind.VENUE, "1", THEIRS))
    await house.organisers.venues.create(THEIRS, theirs, venue("Theirs"))
    for draft in (
        SeriesDraft("Rusalka", venue_id=theirs),
        SeriesDraft("Rusalka", plan_id="pln_" + "0" * 20),
    ):
        put = await house.organisers.series.create(
            OURS, SeriesId(made(ObjectKind.SERIES, "1")), draft
        )
        assert put == (PutOutcome.REFERENCE_NOT_FOUND, None)


# --- promo codes


async def test_a_promo_code_keeps_its_terms_and_is_found_as_customers_type_it(
    house: OrganiserStores,
) -> None:
    codes, code_id = house.organisers.promo_codes, PromoCodeId(made(ObjectKind.PROMO_CODE, "1"))
    terms = PromoTerms(
        "Summer-26",
        AmountOff(500, "EUR", each_place=True),
        show_ids=frozenset({ShowId("shw_2"), ShowId("shw_1")}),
        series_ids=frozenset({SeriesId("ser_1")}),
        category_names=frozenset({"Stalls", "Ložе"}),
        uses_max=100,
        uses_per_customer_max=1,
        valid_from_at_ms=1,
        valid_until_at_ms=2,
    )
    put = await codes.create(OURS, code_id, terms)
    assert put.row is not None
    assert put.row.terms == terms
    assert await codes.find_by_code(OURS, " SUMMER-26") == put.row
    assert await codes.find_by_code(THEIRS, "SUMMER-26") is None
    for unknown in ("WINTER", "", "a\0b", "ŽLUŤ"):
        assert await codes.find_by_code(OURS, unknown) is None
    other = replace(terms, reduction=PercentageOff(2500), is_active=False)
    changed = await codes.update(OURS, code_id, other, expected_version=1)
    assert changed.row is not None
    assert changed.row.terms == other
    assert await codes.update(THEIRS, code_id, other) == (PutOutcome.NOT_FOUND, None)
    assert (await codes.update(OURS, code_id, other, 1)).outcome is PutOutcome.STALE


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"category_names": frozenset({"a\0"})}, "category_names"),
        ({"category_names": frozenset({"\ud800"})}, "category_names"),
        ({"valid_from_at_ms": 1 << 70}, "valid_from_at_ms"),
        ({"show_ids": frozenset({"\ud800"})}, "terms"),
        ({"show_ids": frozenset({"a\0"})}, "terms"),
    ],
)
async def test_terms_that_cannot_be_stored_are_refused(
    house: OrganiserStores, change: dict[str, Any], field: str
) -> None:
    terms = replace(PromoTerms("CODE", PercentageOff(1)), **change)
    with pytest.raises(ValueError, match=f"^{field}: "):
        await house.organisers.promo_codes.create(
            OURS, PromoCodeId(made(ObjectKind.PROMO_CODE, "1")), terms
        )


# --- channels


async def test_a_channel_is_found_by_its_key_with_the_rights_of_the_application(
    house: OrganiserStores, empty_house: House
) -> None:
    channels, channel_id = house.organisers.channels, ChannelId(made(ObjectKind.CHANNEL, "1"))
    put = await channels.create(OURS, channel_id, ChannelDraft("Agency"), key_of("first"))
    async with await open_pool(empty_house.application_dsn, "booking", size_max=1) as pool:
        reader = Channels(pool)
        assert await reader.find_by_key(key_of("first")) == put.row
        assert await reader.find_by_key(key_of("other")) is None
        closed = await channels.set_open(OURS, channel_id, False)
        assert closed.row is not None
        assert not closed.row.is_open
        assert await reader.find_by_key(key_of("first")) == closed.row
        assert (await channels.replace_key(OURS, channel_id, key_of("second"))).row is not None
        assert await reader.find_by_key(key_of("first")) is None
        assert await reader.find_by_key(key_of("second")) is not None
        # Who sells may neither list channels nor open one.
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await reader.list(OURS)
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await reader.set_open(OURS, channel_id, True)


async def test_a_channel_is_changed_by_its_tenant_only(house: OrganiserStores) -> None:
    channels, channel_id = house.organisers.channels, ChannelId(made(ObjectKind.CHANNEL, "1"))
    await channels.create(OURS, channel_id, ChannelDraft("Agency"), key_of("first"))
    missing = (PutOutcome.NOT_FOUND, None)
    assert await channels.update(THEIRS, channel_id, ChannelDraft("Mine")) == missing
    assert await channels.set_open(THEIRS, channel_id, False) == missing
    assert await channels.replace_key(THEIRS, channel_id, key_of("stolen")) == missing
    renamed = await channels.update(OURS, channel_id, ChannelDraft("Partner"), 1)
    assert renamed.row is not None
    assert (renamed.row.name, renamed.row.is_open) == ("Partner", True)
    assert (await channels.set_open(OURS, channel_id, False, 1)).outcome is PutOutcome.STALE


# --- the database itself


async def test_an_organisers_role_cannot_do_what_no_store_does(house: OrganiserStores) -> None:
    for statement in (
        "UPDATE venue SET tenant_id = 'tnt_00000000000000000000'",
        "UPDATE show SET tenant_id = 'tnt_00000000000000000000'",
        "UPDATE show SET plan_id = plan_id",
        "UPDATE plan_version SET plan_id = plan_id",
        "DELETE FROM venue_plan",
        "DELETE FROM promo_code",
        "DELETE FROM import_job",
        "INSERT INTO tenant VALUES ('tnt_dddddddddddddddddddd', 'D', 0)",
        "SELECT password_hash FROM account",
        "UPDATE booking SET amount_minor = 0",
        "DELETE FROM seat_block",
    ):
        async with house.pool.acquire() as connection:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)


async def test_a_database_that_is_away_is_a_fault(house: OrganiserStores) -> None:
    async with await open_pool("postgresql://nobody@127.0.0.1:1/none", "away", size_max=1) as pool:
        with pytest.raises(ShowUnavailable):
            await Channels(pool).find_by_key(key_of("any"))
