"""Weekly patterns as instants: exact over changes of the clock, everywhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.catalogue.recurrence import Start, WeeklyPattern

FRIDAYS: Mapping[int, tuple[time, ...]] = {4: (time(20, 0),)}
SPRING = WeeklyPattern("Europe/Prague", date(2026, 3, 20), date(2026, 4, 3), FRIDAYS)


def instants(pattern: WeeklyPattern) -> list[str]:
    return [
        (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=start.starts_at_ms)).isoformat()
        for start in pattern.expand().starts
    ]


def test_a_show_at_eight_is_at_eight_before_and_after_the_clock_changes() -> None:
    assert instants(SPRING) == [
        "2026-03-20T19:00:00+00:00",
        "2026-03-27T19:00:00+00:00",
        "2026-04-03T18:00:00+00:00",
    ]


def test_both_ends_are_included_and_a_pattern_of_no_day_is_empty() -> None:
    one = replace(SPRING, from_date=date(2026, 3, 20), to_date=date(2026, 3, 20))
    assert len(one.expand().starts) == 1
    none = replace(one, from_date=date(2026, 3, 21), to_date=date(2026, 3, 26))
    assert none.expand() == ((), ())


def test_excepted_days_have_no_start_but_extra_ones() -> None:
    pattern = replace(
        SPRING,
        except_dates=frozenset({date(2026, 3, 27)}),
        extra=(datetime(2026, 3, 27, 11, 0), datetime(2026, 5, 1, 20, 0)),
    )
    assert [start.local for start in pattern.expand().starts] == [
        datetime(2026, 3, 20, 20, 0),
        datetime(2026, 3, 27, 11, 0),
        datetime(2026, 4, 3, 20, 0),
        datetime(2026, 5, 1, 20, 0),
    ]


def test_an_extra_start_that_the_pattern_has_is_there_once() -> None:
    pattern = replace(SPRING, extra=(datetime(2026, 3, 20, 20, 0),))
    assert pattern.expand() == SPRING.expand()


def test_a_start_that_the_clock_skips_is_told_and_left_out() -> None:
    pattern = WeeklyPattern(
        "Europe/Prague", date(2026, 3, 22), date(2026, 4, 5), {6: (time(2, 30), time(3, 0))}
    )
    expansion = pattern.expand()
    (missing,) = expansion.missing
    assert missing.local == datetime(2026, 3, 29, 2, 30)
    assert len(expansion.starts) == 5


def test_of_a_start_that_is_there_twice_the_first_is_meant() -> None:
    pattern = WeeklyPattern(
        "Europe/Prague", date(2026, 10, 25), date(2026, 10, 25), {6: (time(2, 30),)}
    )
    assert instants(pattern) == ["2026-10-25T00:30:00+00:00"]


def test_a_day_that_a_place_skipped_has_no_start() -> None:
    # Samoa went over the date line and had no 30 December 2011, a Friday.
    pattern = WeeklyPattern("Pacific/Apia", date(2011, 12, 23), date(2012, 1, 6), FRIDAYS)
    expansion = pattern.expand()
    assert [missing.local.date() for missing in expansion.missing] == [date(2011, 12, 30)]
    assert len(expansion.starts) == 2


@given(
    zone=st.sampled_from(
        ["Europe/Prague", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "UTC"]
    ),
    first=st.dates(date(2020, 1, 1), date(2035, 1, 1)),
    days=st.integers(0, 400),
    times=st.dictionaries(
        st.integers(0, 6),
        st.lists(
            st.builds(time, st.integers(0, 23), st.integers(0, 59)), max_size=2, unique=True
        ).map(tuple),
    ),
    skipped=st.frozensets(st.integers(0, 400), max_size=5),
)
def test_every_start_reads_on_the_local_clock_as_the_pattern_says(
    zone: str,
    first: date,
    days: int,
    times: dict[int, tuple[time, ...]],
    skipped: frozenset[int],
) -> None:
    excepted = frozenset(first + timedelta(days=day) for day in skipped)
    last = first + timedelta(days=days)
    expansion = WeeklyPattern(zone, first, last, times, excepted).expand()
    for start in expansion.starts:
        instant = datetime.fromtimestamp(start.starts_at_ms / 1000, ZoneInfo(zone))
        assert instant.replace(tzinfo=None) == start.local
        assert start.local.time() in times[start.local.weekday()]
        assert first <= start.local.date() <= last
        assert start.local.date() not in excepted
    at_ms = [start.starts_at_ms for start in expansion.starts]
    assert at_ms == sorted(set(at_ms))
    wanted = sum(
        len(times.get((first + timedelta(days=day)).weekday(), ()))
        for day in range(days + 1)
        if day not in skipped
    )
    assert len(expansion.starts) + len(expansion.missing) == wanted


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"to_date": date(2026, 3, 19)}, "to_date"),
        ({"to_date": date(2030, 3, 19)}, "to_date"),
        ({"time_zone": "Europe/Nowhere"}, "time_zone"),
        ({"time_zone": "../etc/passwd"}, "time_zone"),
        ({"time_zone": ""}, "time_zone"),
        ({"times": {7: (time(1),)}}, "times"),
        ({"times": {0: (time(1, 0, 1),)}}, "times"),
        ({"times": {0: (time(1, tzinfo=UTC),)}}, "times"),
        ({"times": {0: (time(1), time(1))}}, "times"),
        ({"extra": (datetime(2026, 1, 1, 0, 0, 1),)}, "extra"),
        ({"extra": (datetime(2026, 1, 1, tzinfo=UTC),)}, "extra"),
    ],
)
def test_a_pattern_that_cannot_be_is_refused_by_its_field(
    change: dict[str, Any], field: str
) -> None:
    with pytest.raises(ValueError, match=f"^{field}: "):
        replace(SPRING, **change)


def test_a_pattern_of_too_many_starts_is_refused() -> None:
    every_day = {day: (time(10), time(14), time(18)) for day in range(7)}
    pattern = WeeklyPattern("UTC", date(2026, 1, 1), date(2026, 12, 31), every_day)
    with pytest.raises(ValueError, match=r"^times: more than 1,000 starts"):
        pattern.expand()


def test_a_start_is_what_the_poster_says_and_the_instant() -> None:
    first = SPRING.expand().starts[0]
    assert first == Start(datetime(2026, 3, 20, 20, 0), 1_774_033_200_000)
