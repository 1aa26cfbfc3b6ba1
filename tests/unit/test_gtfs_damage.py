"""Feeds with damage anywhere: reading ends with runs that can be sold, or with a reason."""

from __future__ import annotations

import tempfile
from datetime import date
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from integrations.gtfs_feed import UnusableFeed, read_feed
from integrations.gtfs_timetable import FareRule, Timetable, fares_of, listings_of
from tests.support.gtfs import SMALL_FEED, contents, write_feed, zip_feed

PIECES = st.sampled_from(
    [
        *(b"", b",", b"\n", b"\r", b'"', b"\0", b"\xff", b"-", b"0", b"9" * 30, b"T1", b"nan"),
        *("٣".encode(), b"\xef\xbb\xbf", b"25:00:00", b"\x1b[2J", b"Europe/", b"x" * 70_000),
    ]
)


def read_week(path: Path) -> int:
    """How many shows of the week could be stored."""
    count = 0
    try:
        feed = read_feed(path)
        trips = list(Timetable(feed, date(2026, 7, 6), date(2026, 7, 12)).trips())
    except UnusableFeed:
        return 0
    for trip in trips:
        fares = fares_of(trip.route, "EUR", [FareRule(1, 1)])
        for listing in listings_of(trip, plan_id="p", route_id="r", fares=fares):
            assert listing.starts_at_ms <= listing.ends_at_ms
            listing.title.encode()
            assert "\0" not in listing.title + listing.venue + listing.source_key
            count += 1
    return count


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(sorted(SMALL_FEED)), st.floats(0, 1), st.integers(0, 8), PIECES),
        min_size=1,
        max_size=3,
    )
)
def test_damage_in_any_file_is_survived(damage: list[tuple[str, float, int, bytes]]) -> None:
    files = contents()
    for name, share, length, piece in damage:
        at = int(share * len(files[name]))
        files[name] = files[name][:at] + piece + files[name][at + length :]
    with tempfile.TemporaryDirectory() as folder:
        assert read_week(write_feed(Path(folder), dict(files))) <= 7


@settings(max_examples=150, deadline=None)
@given(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=6))
def test_damage_in_an_archive_is_survived(share: float, piece: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = zip_feed(Path(folder) / "feed.zip")
        content = path.read_bytes()
        at = int(share * len(content))
        path.write_bytes(content[:at] + piece + content[at + len(piece) :])
        assert read_week(path) <= 7


def test_without_damage_every_run_is_there(tmp_path: Path) -> None:
    assert read_week(write_feed(tmp_path / "feed")) == 7
    assert read_week(zip_feed(tmp_path / "feed.zip")) == 7
