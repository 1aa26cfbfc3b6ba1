"""A weekly pattern of starts, such as "every Friday at 20:00", as the instants that it means.

A wall clock is not a time: on the night when clocks are put forward 02:30 does not exist, and when
they are put back it exists twice. A start that does not exist is told and left out, because nobody
can say when people should come; of a start that exists twice the first one is meant.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

DAYS_MAX = 3 * 366
STARTS_MAX = 1_000

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY = timedelta(days=1)


class Start(NamedTuple):
    """One start: what the poster says, and the instant that it is."""

    local: datetime
    starts_at_ms: int


class MissingStart(NamedTuple):
    """A start that the pattern has and the clock skips."""

    local: datetime
    reason: str


class Expansion(NamedTuple):
    """The starts of a pattern in their order, and those that cannot be."""

    starts: tuple[Start, ...]
    missing: tuple[MissingStart, ...]


@dataclass(frozen=True, slots=True)
class WeeklyPattern:
    """Starts that repeat every week.

    Shapes:
        time_zone: name in the IANA database; the venue's.
        from_date, to_date: local days, both included.
        times: local starts of a weekday, 0 for Monday to 6 for Sunday; to the minute.
        except_dates: local days without any start of the pattern.
        extra: local starts besides the pattern, on any day and also on an excepted one.

    Raises:
        ValueError: days in the wrong order or too many, an unknown zone, a weekday that is none,
            a time with seconds, a zone of its own, or a start that is there twice.
    """

    time_zone: str
    from_date: date
    to_date: date
    times: Mapping[int, tuple[time, ...]]
    except_dates: frozenset[date] = frozenset()
    extra: tuple[datetime, ...] = field(default=())

    def __post_init__(self) -> None:
        if self.to_date < self.from_date:
            raise ValueError("to_date: before from_date")
        if (self.to_date - self.from_date).days >= DAYS_MAX:
            raise ValueError(f"to_date: more than {DAYS_MAX} days after from_date")
        try:
            ZoneInfo(self.time_zone)
        except (ZoneInfoNotFoundError, OSError, ValueError) as error:
            raise ValueError("time_zone: not a name of the IANA time zone database") from error
        for weekday, times in self.times.items():
            if not 0 <= weekday <= 6:
                raise ValueError(f"times: {weekday} is not a weekday, 0 to 6")
            if any(each.second or each.microsecond or each.tzinfo for each in times):
                raise ValueError("times: not hours and minutes only")
            if len(set(times)) != len(times):
                raise ValueError("times: a start is there twice")
        if any(each.second or each.microsecond or each.tzinfo for each in self.extra):
            raise ValueError("extra: not hours and minutes only")

    def expand(self) -> Expansion:
        """All starts of the pattern.

        Raises:
            ValueError: more than a thousand.

        Example:
            >>> pattern = WeeklyPattern(
            ...     "Europe/Prague", date(2026, 3, 27), date(2026, 3, 31), {5: (time(20),)}
            ... )
            >>> [start.local.isoformat() for start in pattern.expand().starts]
            ['2026-03-28T20:00:00']
        """
        zone = ZoneInfo(self.time_zone)
        starts: list[Start] = []
        missing: list[MissingStart] = []
        for local in self._locals():
            instant = local.replace(tzinfo=zone).astimezone(UTC)
            if instant.astimezone(zone).replace(tzinfo=None, fold=0) != local:
                reason = "clocks are put forward over this time"
                missing.append(MissingStart(local, reason))
                continue
            starts.append(Start(local, (instant - _EPOCH) // timedelta(milliseconds=1)))
        return Expansion(tuple(starts), tuple(missing))

    def _locals(self) -> list[datetime]:
        found = {each.replace(fold=0) for each in self.extra}
        for local in self._regular():
            found.add(local)
            if len(found) > STARTS_MAX:
                raise ValueError(f"times: more than {STARTS_MAX:,} starts")
        return sorted(found)

    def _regular(self) -> Iterator[datetime]:
        for offset in range((self.to_date - self.from_date).days + 1):
            day = self.from_date + offset * _DAY
            if day not in self.except_dates:
                for start in self.times.get(day.weekday(), ()):
                    yield datetime.combine(day, start)
