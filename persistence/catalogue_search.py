"""What people ask the catalogue, and how that becomes a statement.

Results are pages in a fixed order: by the instant of the departure that was asked for (the
start of the show when no stop was named), then by show id. A cursor is a place in this order,
so a page continues correctly while shows are added and removed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple, TypeGuard

from persistence.catalogue_rows import fares_of, instant_of, ms_of
from persistence.catalogue_text import (
    SEARCH_LENGTH_MAX,
    checked_text,
    name_key_of,
    prefix_query_of,
    words_of,
)
from reservation.fares import FareTable
from reservation.ids import ShowId
from reservation.listing import ShowKind
from reservation.route import Segment

if TYPE_CHECKING:
    from collections.abc import Sequence

    import asyncpg

PAGE_LENGTH_MAX = 100

_SECOND_CALL = re.compile(r"#[0-9]+$")
_NEAR = timedelta(days=1)
_END_OF_TIME = datetime(9999, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in the order of results: right after this show.

    Units:
        starts_at_ms: the instant that results are ordered by: for a search with stops the
            departure at the stop of boarding, otherwise the start of the show.
    """

    starts_at_ms: int
    show_id: str


@dataclass(frozen=True, slots=True)
class ShowSearch:
    """A question to the catalogue. Everything that is given must hold.

    Shapes:
        text: words in any order; each must begin a word of title or venue. Case, accents and
            punctuation do not count. Blank is the same as None.
        from_stop, to_stop: the code of a stop, or its name without regard to case, accents and
            punctuation. Only runs that call at both in this order are found. With one of them,
            the run's own first or last stop is the other. Blank is the same as None.
        limit: 1 to 100.

    Units:
        starts_from_ms, starts_before_ms: bounds, the second one exclusive, of the start, or of
            the departure at ``from_stop`` when a stop is given.
    """

    text: str | None = None
    kind: ShowKind | None = None
    from_stop: str | None = None
    to_stop: str | None = None
    starts_from_ms: int = 0
    starts_before_ms: int | None = None
    limit: int = 20
    after: Cursor | None = None


@dataclass(frozen=True, slots=True)
class Ride:
    """The part of a run between the two stops that were searched for.

    When a run calls at a place twice, this is the first pair of calls in the right order.

    Shapes:
        segment: ``from_leg`` and ``to_leg`` are also the positions of the stops on the route.
        from_code, to_code: the codes on this route, ready for ``Route.segment``.
    """

    segment: Segment
    from_code: str
    from_name: str
    to_code: str
    to_name: str
    departs_at_ms: int
    arrives_at_ms: int


@dataclass(frozen=True, slots=True)
class SearchItem:
    """One show that was found. ``ride`` is there exactly when a stop was searched for."""

    show_id: ShowId
    kind: ShowKind
    title: str
    venue: str
    starts_at_ms: int
    ends_at_ms: int
    time_zone: str
    plan_id: str
    route_id: str | None
    fares: FareTable
    ride: Ride | None = None

    @property
    def cursor(self) -> Cursor:
        """The place right after this item."""
        at_ms = self.starts_at_ms if self.ride is None else self.ride.departs_at_ms
        return Cursor(at_ms, self.show_id)


@dataclass(frozen=True, slots=True)
class SearchPage:
    """Some results, and where to go on; ``next`` is None on the last page."""

    items: tuple[SearchItem, ...]
    next: Cursor | None


@dataclass(frozen=True, slots=True)
class StopMatch:
    """A stop for a search box."""

    code: str
    name: str


class Statement(NamedTuple):
    """A named query and its arguments."""

    query: str
    arguments: tuple[object, ...]


def attempts_at(search: ShowSearch) -> list[Statement]:
    """The statements to try, in this order, until one answers ``search``.

    Each asks for one row more than the page has, and finds the first results of all that there
    are. So a statement that brings all those rows has the answer; the last one always has it.
    The earlier ones look at a near part of the catalogue only: they are cheap, and they answer
    exactly the questions with so many results that the last one would be expensive.

    Returns:
        Nothing when nothing can be found: the text has signs but no word.

    Raises:
        ValueError: a field is out of its bounds or cannot be text in Postgres; the message
            begins with the name of the field.
    """
    if not 1 <= search.limit <= PAGE_LENGTH_MAX:
        raise ValueError(f"limit: not in 1..{PAGE_LENGTH_MAX}")
    words: str | None = None
    if _is_given(search.text):
        found = words_of(checked_text("text", search.text, SEARCH_LENGTH_MAX))
        if not found:
            return []
        words = prefix_query_of(found)
    kind = None if search.kind is None else search.kind.value
    lower, upper = _lower_bound(search), _upper_bound(search)
    place = (*lower, upper, search.limit + 1)
    if _is_given(search.from_stop) or _is_given(search.to_stop):
        boarding = _stop_arguments("from_stop", search.from_stop)
        alighting = _stop_arguments("to_stop", search.to_stop)
        asked = (*boarding, *alighting, kind, words)
        attempts = [Statement("list_rides", (*place, *asked))]
        if upper - lower[0] > _NEAR:
            near = (*lower, lower[0] + _NEAR, search.limit + 1)
            attempts.insert(0, Statement("list_rides", (*near, *asked)))
        return attempts
    if words is not None:
        return [
            Statement("list_soon_with_words", (*place, words))
            if kind is None
            else Statement("list_soon_of_kind_with_words", (*place, words, kind)),
            Statement("list_shows_with_words", (*place, words, kind)),
        ]
    if kind is not None:
        return [Statement("list_shows_of_kind", (*place, kind))]
    return [Statement("list_shows", place)]


def page_of(rows: Sequence[asyncpg.Record], limit: int) -> SearchPage:
    """The page that these rows make, when one row more than ``limit`` was asked for."""
    items = tuple(_item_of(row) for row in rows[:limit])
    return SearchPage(items, items[-1].cursor if len(rows) > limit else None)


def stop_words_of(prefix: str) -> tuple[str, str, str] | None:
    """The arguments of ``match_stops``: words, code and beginning of the name.

    Returns:
        None when ``prefix`` is blank.

    Raises:
        ValueError: ``prefix`` is too long or cannot be text in Postgres.
    """
    checked_text("prefix", prefix, SEARCH_LENGTH_MAX)
    if not prefix.strip():
        return None
    return prefix_query_of(words_of(prefix)), prefix.strip(), name_key_of(prefix)


def _is_given(text: str | None) -> TypeGuard[str]:
    return text is not None and bool(text.strip())


def _lower_bound(search: ShowSearch) -> tuple[datetime, str]:
    # No show id is empty, so the pair with "" lets everything at this instant pass.
    bound = (instant_of("starts_from_ms", search.starts_from_ms), "")
    if search.after is None:
        return bound
    checked_text("after", search.after.show_id, SEARCH_LENGTH_MAX)
    return max(bound, (instant_of("after", search.after.starts_at_ms), search.after.show_id))


def _upper_bound(search: ShowSearch) -> datetime:
    if search.starts_before_ms is None:
        return _END_OF_TIME
    return instant_of("starts_before_ms", search.starts_before_ms)


def _stop_arguments(field: str, stop: str | None) -> tuple[list[str] | None, str | None]:
    if not _is_given(stop):
        return None, None
    checked_text(field, stop, SEARCH_LENGTH_MAX)
    # X#2 is a call of one route; what is searched for is the place.
    return [stop, _SECOND_CALL.sub("", stop)], name_key_of(stop)


def _item_of(row: asyncpg.Record) -> SearchItem:
    ride: Ride | None = None
    if "from_leg" in row:
        ride = Ride(
            segment=Segment(row["from_leg"], row["to_leg"]),
            from_code=row["from_code"],
            from_name=row["from_name"],
            to_code=row["to_code"],
            to_name=row["to_name"],
            departs_at_ms=ms_of(row["departs_at"]),
            arrives_at_ms=ms_of(row["arrives_at"]),
        )
    return SearchItem(
        show_id=ShowId(row["show_id"]),
        kind=ShowKind(row["kind"]),
        title=row["title"],
        venue=row["venue"],
        starts_at_ms=ms_of(row["starts_at"]),
        ends_at_ms=ms_of(row["ends_at"]),
        time_zone=row["time_zone"],
        plan_id=row["plan_id"],
        route_id=row["route_id"],
        fares=fares_of(row["currency"], row["fares"]),
        ride=ride,
    )
