"""Imports into the catalogue: seating plans and timetables from files.

An import can be repeated at any time; what is there already is left as it is. Nothing is half
done: a plan is stored before the routes, and routes before the shows that need them, so an
import that is interrupted leaves complete shows and can simply be started again.

Problems of the files are reported and the rest is imported. A strict import stores nothing
when there is a problem; so does one whose files have nothing that could be used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple, TypeAlias, cast

from integrations.gtfs_feed import FeedProblem, GtfsFeed, UnusableFeed, read_feed
from integrations.gtfs_timetable import (
    FareRule,
    Timetable,
    TimetabledTrip,
    fares_of,
    listings_of,
)
from persistence.catalogue import Catalogue
from persistence.plan_codec import plan_id_of, route_id_of
from reservation.access import HOUSE_TENANT
from reservation.fares import FareTable
from reservation.ids import ShowId, TenantId, derive_show_id
from reservation.listing import ShowListing
from reservation.organiser_ids import tenant_source_key
from reservation.plan_document import read_plan
from reservation.plan_export import write_plan
from reservation.plan_findings import printable
from reservation.plan_order import repeat_plan
from reservation.route import Route
from reservation.seating_plan import SeatingPlan
from reservation.show import SalesPolicy, ShowState
from serve_app.catalogue.json_file import JsonFault, read_json, storable

Progress: TypeAlias = Callable[[str, int, int], None]
"""Called with what is being done, and how much of it is done and to do."""

_TRIPS_PER_STEP = 200
_SHOWS_PER_STEP = 2_000


class ImportProblem(NamedTuple):
    """One thing that is wrong with a file. ``place`` is a line, a JSON path, a show or empty."""

    file: str
    place: str
    reason: str

    def __str__(self) -> str:
        return ": ".join(part for part in (self.file, self.place, self.reason) if part)


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import did.

    Counts are of seating plans for ``import_seating_plan`` and of shows otherwise. A show
    that the catalogue refused is counted nowhere and is among the problems. ``updated_ids`` are
    the shows that were there and are different now: their actors need to read them again.
    """

    created: int = 0
    updated: int = 0
    unchanged: int = 0
    problems: tuple[ImportProblem, ...] = ()
    plan_ids: tuple[str, ...] = ()
    updated_ids: tuple[ShowId, ...] = ()

    def __add__(self, other: ImportReport) -> ImportReport:
        """Both imports together."""
        return ImportReport(
            self.created + other.created,
            self.updated + other.updated,
            self.unchanged + other.unchanged,
            self.problems + other.problems,
            tuple(dict.fromkeys(self.plan_ids + other.plan_ids)),
            self.updated_ids + other.updated_ids,
        )


class ImportRefused(Exception):
    """Nothing was stored; ``problems`` says why."""

    def __init__(self, reason: str, problems: Iterable[ImportProblem]) -> None:
        super().__init__(reason)
        self.reason = reason
        self.problems = tuple(problems)

    def __str__(self) -> str:
        return "\n".join((self.reason, *(f"  {problem}" for problem in self.problems)))


@dataclass(frozen=True, slots=True)
class FareTerms:
    """What rides cost: a rule for every category, and others for the categories named here."""

    currency: str
    every_category: FareRule
    by_category: Mapping[str, FareRule] = field(default_factory=dict)

    def rules_for(self, plan: SeatingPlan) -> tuple[FareRule, ...]:
        """One rule per category of the plan.

        Raises:
            ImportRefused: a category named here is not in the plan.
        """
        known = {category.name for category in plan.categories}
        strangers = [name for name in self.by_category if name not in known]
        if strangers:
            listed = ", ".join(sorted(known))
            raise ImportRefused(
                "A fare is for a category that the seating plan does not have.",
                [ImportProblem("", name, f"the plan has {listed}") for name in strangers],
            )
        return tuple(
            self.by_category.get(category.name, self.every_category) for category in plan.categories
        )


class PlanFiles(NamedTuple):
    """A seating plan with the documents that are stored beside it."""

    plan: SeatingPlan
    document: Mapping[str, object]
    extras: Mapping[str, object]
    problems: tuple[ImportProblem, ...]


def read_plan_files(path: Path, extras_path: Path | None = None, *, coaches: int = 1) -> PlanFiles:
    """Read a seating plan and its sibling from JSON files.

    Args:
        path: a seating plan in pretix's format.
        extras_path: its sibling (``reservation.plan_extras``), if there is one.
        coaches: the plan is one coach of a vehicle that has this many.

    Raises:
        ImportRefused: a file is no JSON, the document has no plan, or the coaches are too many.
    """
    document, problems = _read_document(path)
    extras: object = None
    if extras_path is not None:
        extras, extras_problems = _read_document(extras_path)
        problems += extras_problems
    reading = read_plan(document, extras)
    for problem in reading.problems:
        # Paths of the sibling begin with its name; people look for them in its file.
        is_extras = extras_path is not None and problem.path.startswith("extras")
        file = extras_path.name if is_extras and extras_path else path.name
        place = problem.path.removeprefix("extras").lstrip(".") if is_extras else problem.path
        problems.append(ImportProblem(file, place, problem.reason))
    if reading.plan is None:
        raise ImportRefused(f"{path.name} has no seating plan that could be used.", problems)
    files = PlanFiles(
        reading.plan,
        cast("Mapping[str, object]", storable(document)),
        cast("Mapping[str, object]", storable(extras)) if isinstance(extras, dict) else {},
        tuple(problems),
    )
    return _repeated(files, coaches, path.name)


def _repeated(files: PlanFiles, coaches: int, file: str) -> PlanFiles:
    if coaches == 1:
        return files
    try:
        plan = repeat_plan(files.plan, coaches)
    except ValueError as error:
        problem = ImportProblem(file, "", str(error))
        raise ImportRefused(f"{file} cannot be repeated.", [problem]) from error
    document, extras = write_plan(plan)
    return PlanFiles(plan, document, extras, files.problems)


def _read_document(path: Path) -> tuple[object, list[ImportProblem]]:
    try:
        content = read_json(path)
    except JsonFault as fault:
        problem = ImportProblem(str(path), fault.place, fault.reason)
        raise ImportRefused(f"{path} cannot be used.", [problem]) from fault
    reason = "this key is in its object twice; the last one counts"
    return content.value, [
        ImportProblem(path.name, printable(key), reason) for key in content.repeated
    ]


async def import_seating_plan(
    catalogue: Catalogue,
    path: Path,
    *,
    extras_path: Path | None = None,
    coaches: int = 1,
    strict: bool = False,
) -> ImportReport:
    """Store the seating plan of a JSON file.

    Returns:
        One plan created, updated (the same seats, drawn differently) or unchanged.

    Raises:
        ImportRefused: the files have no plan, or have a problem and ``strict`` is asked for.
    """
    files = read_plan_files(path, extras_path, coaches=coaches)
    if strict:
        _refuse_problems(files.problems)
    return await store_plan(catalogue, files)


async def store_plan(catalogue: Catalogue, files: PlanFiles) -> ImportReport:
    """Store a plan that was read already."""
    plan_id = plan_id_of(files.plan)
    before = await catalogue.load_plan_document(plan_id)
    report = ImportReport(problems=files.problems, plan_ids=(plan_id,))
    if before == (files.document, files.extras):
        return replace(report, unchanged=1)
    await catalogue.put_plan(plan_id, files.plan, files.document, files.extras)
    return replace(report, created=1) if before is None else replace(report, updated=1)


async def import_gtfs(
    catalogue: Catalogue,
    feed_path: Path,
    *,
    from_date: date,
    to_date: date,
    plan_path: Path,
    extras_path: Path | None = None,
    coaches: int = 1,
    fares: FareTerms,
    policy: SalesPolicy | None = None,
    strict: bool = False,
    progress: Progress | None = None,
) -> ImportReport:
    """Store a show for every run of a GTFS feed between two days.

    Args:
        feed_path: a folder or a zip archive.
        from_date, to_date: service days, both included.
        plan_path, extras_path, coaches: the seats of every vehicle, see ``read_plan_files``.
        fares: what rides cost.
        progress: hears of each file in bytes, and of the runs that are stored.

    Raises:
        ImportRefused: the feed or the plan cannot be used, or there is a problem and ``strict``
            is asked for. Nothing was stored.
        ValueError: the days are in the wrong order or too many.
    """
    files = read_plan_files(plan_path, extras_path, coaches=coaches)
    rules = fares.rules_for(files.plan)
    if strict:
        with _usable(feed_path):
            _refuse_problems((*files.problems, *_survey_feed(feed_path, from_date, to_date)))
    timetable = _read_timetable(feed_path, from_date, to_date, progress)
    plan_id = (await store_plan(catalogue, files)).plan_ids[0]
    terms = _ShowTerms(plan_id, fares.currency, rules, policy)
    shows = await _store_timetable(catalogue, timetable, terms, progress)
    return replace(shows, problems=(*files.problems, *shows.problems), plan_ids=(plan_id,))


async def import_timetable(
    catalogue: Catalogue,
    feed_path: Path,
    *,
    from_date: date,
    to_date: date,
    plan_id: str,
    fares: FareTerms,
    policy: SalesPolicy | None = None,
    owner: TenantId = HOUSE_TENANT,
    is_on_sale: bool = True,
    progress: Progress | None = None,
) -> ImportReport:
    """Store a show for every run of a GTFS feed, with the seats of a plan that is there.

    Args:
        owner: whose shows they are; two tenants may import the same timetable.
        is_on_sale: new shows are on sale at once; otherwise they are drafts. Those that are there
            stay what they are.
        progress: as in ``import_gtfs``; what it raises ends the import.

    Raises:
        ImportRefused: the feed cannot be used, or there is no such plan. Nothing was stored.
        ValueError: the days are in the wrong order or too many.
    """
    plan = await catalogue.load_plan(plan_id)
    if plan is None:
        raise ImportRefused("There is no such seating plan.", [ImportProblem("", plan_id, "gone")])
    rules = fares.rules_for(plan)
    timetable = _read_timetable(feed_path, from_date, to_date, progress)
    status = ShowState.ON_SALE if is_on_sale else ShowState.DRAFT
    terms = _ShowTerms(plan_id, fares.currency, rules, policy, owner, status)
    shows = await _store_timetable(catalogue, timetable, terms, progress)
    return replace(shows, plan_ids=(plan_id,))


class _ReadTimetable(NamedTuple):
    """A feed of which everything but the calls of its trips was read, and the first trip."""

    feed: GtfsFeed
    trips: Iterator[TimetabledTrip]
    run_count: int


def _read_timetable(
    feed_path: Path, from_date: date, to_date: date, progress: Progress | None
) -> _ReadTimetable:
    """Read a feed as far as it takes to know that none of it will fail halfway.

    Raises:
        ImportRefused: it cannot be used, or nothing runs between the two days.
    """
    with _usable(feed_path):
        feed = read_feed(feed_path, progress)
        timetable = Timetable(feed, from_date, to_date)
        trips = timetable.trips(progress)
        # The first trip comes after all files were read.
        first_trip = next(trips, None)
    if first_trip is None:
        reason = f"no trip runs from {from_date} to {to_date}"
        problems = (ImportProblem(feed_path.name, "", reason), *_problems_of(feed))
        raise ImportRefused(f"{feed_path.name} has nothing to import.", problems)
    return _ReadTimetable(feed, chain((first_trip,), trips), timetable.run_count)


@contextmanager
def _usable(feed_path: Path) -> Iterator[None]:
    try:
        yield
    except UnusableFeed as error:
        raise ImportRefused(
            f"{feed_path.name} cannot be used.", [_import_problem(p) for p in error.problems]
        ) from error


async def _store_timetable(
    catalogue: Catalogue,
    timetable: _ReadTimetable,
    terms: _ShowTerms,
    progress: Progress | None,
) -> ImportReport:
    importer = _TripImporter(catalogue, timetable.feed, terms)
    shows = ImportReport()
    done = 0
    for step in _steps(timetable.trips):
        shows += await importer.store(step)
        done += sum(len(trip.days) for trip in step)
        if progress is not None:
            progress("shows", done, timetable.run_count)
    return replace(shows, problems=(*_problems_of(timetable.feed), *shows.problems))


class _ShowTerms(NamedTuple):
    """What every show of an import has in common."""

    plan_id: str
    currency: str
    rules: tuple[FareRule, ...]
    policy: SalesPolicy | None
    owner: TenantId = HOUSE_TENANT
    status: ShowState = ShowState.ON_SALE

    def owned(self, listing: ShowListing) -> ShowListing:
        """The listing as the owner's own."""
        if self.owner == HOUSE_TENANT and self.status is ShowState.ON_SALE:
            return listing
        source_key = tenant_source_key(self.owner, listing.source_key)
        return replace(
            listing,
            show_id=derive_show_id(source_key),
            source_key=source_key,
            tenant_id=self.owner,
            status=self.status,
        )


class _TripImporter:
    """Stores trips: the routes of a few hundred of them, and then their shows."""

    def __init__(self, catalogue: Catalogue, feed: GtfsFeed, terms: _ShowTerms) -> None:
        self._catalogue = catalogue
        self._feed = feed
        self._terms = terms

    async def store(self, trips: list[TimetabledTrip]) -> ImportReport:
        terms = self._terms
        routes: dict[str, tuple[str, Route]] = {}
        fares_of_route: dict[str, FareTable] = {}
        priced: list[tuple[TimetabledTrip, str]] = []
        for trip in trips:
            route_id = route_id_of(trip.route)
            if route_id not in routes:
                try:
                    fares = fares_of(trip.route, terms.currency, terms.rules)
                except ValueError as error:
                    self._feed.problems.add("fares", 0, f"{trip.source}: {error}; left out")
                    continue
                routes[route_id] = (trip.route_name, trip.route)
                fares_of_route[route_id] = fares
            priced.append((trip, route_id))
        await self._catalogue.put_routes(routes)
        listings = (
            terms.owned(listing)
            for trip, route_id in priced
            for listing in listings_of(
                trip,
                plan_id=terms.plan_id,
                route_id=route_id,
                fares=fares_of_route[route_id],
                policy=terms.policy,
            )
        )
        return await store_shows(self._catalogue, listings)


async def store_shows(catalogue: Catalogue, listings: Iterable[ShowListing]) -> ImportReport:
    """Store shows, some thousands at a time. Refused ones are among the problems."""
    report = ImportReport()
    waiting = iter(listings)
    while batch := list(islice(waiting, _SHOWS_PER_STEP)):
        counts = await catalogue.put_shows(batch)
        refused = tuple(ImportProblem("", show.source_key, show.reason) for show in counts.refused)
        report += ImportReport(
            counts.created,
            counts.updated,
            counts.unchanged,
            refused,
            updated_ids=tuple(counts.updated_ids),
        )
    return report


def _steps(trips: Iterable[TimetabledTrip]) -> Iterator[list[TimetabledTrip]]:
    waiting = iter(trips)
    while step := list(islice(waiting, _TRIPS_PER_STEP)):
        yield step


def _survey_feed(feed_path: Path, from_date: date, to_date: date) -> list[ImportProblem]:
    """All problems of a feed, found by reading it once without storing anything."""
    feed = read_feed(feed_path)
    for _ in Timetable(feed, from_date, to_date).trips():
        pass
    return _problems_of(feed)


def _problems_of(feed: GtfsFeed) -> list[ImportProblem]:
    problems = [_import_problem(problem) for problem in feed.problems.kept]
    more = feed.problems.count - len(problems)
    if more:
        problems.append(ImportProblem("", "", f"and {more:,} more problems"))
    return problems


def _import_problem(problem: FeedProblem) -> ImportProblem:
    place = f"line {problem.line}" if problem.line else ""
    return ImportProblem(problem.file, place, problem.reason)


def _refuse_problems(problems: Iterable[ImportProblem]) -> None:
    """Raise ``ImportRefused`` when there is a problem."""
    found = tuple(problems)
    if found:
        count = "1 problem" if len(found) == 1 else f"{len(found):,} problems"
        raise ImportRefused(f"Nothing was imported, because of {count}:", found)
