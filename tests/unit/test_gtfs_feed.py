"""Reading GTFS feeds: what is read, what is noticed, and what is refused."""

from __future__ import annotations

import csv
import zipfile
from datetime import date
from pathlib import Path

import pytest

from integrations import gtfs_archive
from integrations.gtfs_feed import Call, FeedTrip, GtfsFeed, UnusableFeed, read_feed
from tests.support.gtfs import SMALL_FEED, Files, write_feed, zip_feed

REAL_FEED = (
    Path(__file__).resolve().parents[2].parent / "shared" / "data" / "gtfs" / "sri-lanka-railways"
)
needs_real_feed = pytest.mark.skipif(
    not REAL_FEED.is_dir(), reason="the timetable of Sri Lanka is not beside this checkout"
)


def all_calls(feed: GtfsFeed) -> dict[str, list[Call]]:
    return {trip.trip_id: calls for trip, calls in feed.calls(set(feed.trips))}


def told(feed: GtfsFeed) -> list[str]:
    return [str(problem) for problem in feed.problems.kept]


def times(text: str) -> str:
    """A stop_times.txt with these rows."""
    header = "trip_id,arrival_time,departure_time,stop_id,stop_sequence,shape_dist_traveled\n"
    return header + text


def read(folder: Path, changes: Files | None = None) -> GtfsFeed:
    return read_feed(write_feed(folder, changes))


class TestSoundFeeds:
    def test_a_sound_feed_has_no_problems(self, tmp_path: Path) -> None:
        feed = read(tmp_path)
        assert feed.trips == {"T1": FeedTrip("T1", "L1", "daily", "", "", 2)}
        assert all_calls(feed)["T1"] == [
            Call(2, 1, "A", 28_800, 28_800, None),
            Call(3, 2, "B", 29_400, 29_520, None),
            Call(4, 3, "C", 30_000, 30_000, None),
        ]
        assert told(feed) == []

    def test_folder_and_archives_give_the_same_feed(self, tmp_path: Path) -> None:
        folder = read_feed(write_feed(tmp_path / "folder"))
        for archive in (
            zip_feed(tmp_path / "flat.zip"),
            zip_feed(tmp_path / "nested.zip", below="feed-2026/"),
        ):
            feed = read_feed(archive)
            assert all_calls(feed) == all_calls(folder)
            assert (feed.trips, feed.stops, feed.routes) == (
                folder.trips,
                folder.stops,
                folder.routes,
            )
            assert feed.services == folder.services
            assert told(feed) == []

    def test_a_byte_order_mark_crlf_spaces_quotes_and_blank_lines_do_not_matter(
        self, tmp_path: Path
    ) -> None:
        stops = SMALL_FEED["stops.txt"].replace("Alpha", '"Alpha, main ""hall"""')
        changes: Files = {
            name: b"\xef\xbb\xbf" + text.replace(",", " , ").replace("\n", "\r\n\r\n").encode()
            for name, text in SMALL_FEED.items()
        }
        changes["stops.txt"] = b"\xef\xbb\xbf" + stops.encode()
        feed = read(tmp_path, changes)
        assert feed.stops["A"].name == 'Alpha, main "hall"'
        assert len(all_calls(feed)["T1"]) == 3
        assert told(feed) == []

    def test_times_are_read_past_midnight_and_with_one_digit(self, tmp_path: Path) -> None:
        rows = "T1,7:05:00,7:05:00,A,1,\nT1,24:10:00,25:00:09,B,2,\nT1,100:00:00,,C,3,\n"
        calls = all_calls(read(tmp_path, {"stop_times.txt": times(rows)}))["T1"]
        assert [(call.arrival_s, call.departure_s) for call in calls] == [
            (25_500, 25_500),
            (87_000, 90_009),
            (360_000, 360_000),
        ]

    def test_calls_are_sorted_by_stop_sequence_even_when_trips_are_mixed(
        self, tmp_path: Path
    ) -> None:
        changes: Files = {
            "trips.txt": "route_id,service_id,trip_id\nL1,daily,T1\nL1,daily,T2\n",
            "stop_times.txt": times(
                "T2,09:00:00,09:00:00,B,30,\nT1,08:10:00,08:10:00,B,7,\n"
                "T2,08:30:00,08:30:00,A,4,\nT1,08:00:00,08:00:00,A,2,\n"
            ),
        }
        feed = read(tmp_path, changes)
        assert [[call.sequence for call in calls] for calls in all_calls(feed).values()] == [
            [2, 7],
            [4, 30],
        ]
        assert told(feed) == []

    def test_only_wanted_trips_are_read(self, tmp_path: Path) -> None:
        feed = read(
            tmp_path, {"trips.txt": "route_id,service_id,trip_id\nL1,daily,T1\nL1,daily,T2\n"}
        )
        assert [(trip.trip_id, calls) for trip, calls in feed.calls({"T2"})] == [("T2", [])]

    def test_a_call_where_nobody_gets_on_or_off_is_no_stop(self, tmp_path: Path) -> None:
        rows = (
            "trip_id,arrival_time,departure_time,stop_id,stop_sequence,pickup_type,drop_off_type\n"
            "T1,08:00:00,08:00:00,A,1,0,1\nT1,08:10:00,08:10:00,B,2,1,1\nT1,08:20:00,,C,3,1,\n"
        )
        calls = all_calls(read(tmp_path, {"stop_times.txt": rows}))["T1"]
        assert [call.stop_id for call in calls] == ["A", "C"]

    def test_one_agency_needs_no_id(self, tmp_path: Path) -> None:
        changes: Files = {
            "agency.txt": "agency_name,agency_timezone\nRail,Europe/Berlin\n",
            "routes.txt": "route_id,route_type\nL1,2\n",
        }
        feed = read(tmp_path, changes)
        assert feed.routes["L1"].agency.name == "Rail"
        assert told(feed) == []

    def test_progress_ends_with_every_byte_of_the_largest_file(self, tmp_path: Path) -> None:
        heard: list[tuple[str, int, int]] = []
        feed = read_feed(write_feed(tmp_path))
        for _ in feed.calls({"T1"}, lambda *step: heard.append(step)):
            pass
        size = len(SMALL_FEED["stop_times.txt"])
        assert heard[-1] == ("stop_times.txt", size, size)


class TestCalendars:
    def test_either_calendar_file_may_be_missing(self, tmp_path: Path) -> None:
        dates = "service_id,date,exception_type\ndaily,20260704,1\n"
        feed = read(tmp_path / "dates", {"calendar.txt": None, "calendar_dates.txt": dates})
        assert feed.services["daily"].days(date(2026, 7, 1), date(2026, 7, 31)) == (
            date(2026, 7, 4),
        )
        week = read(tmp_path / "week").services["daily"]
        assert len(week.days(date(2026, 7, 1), date(2026, 7, 31))) == 31

    def test_without_any_calendar_the_feed_is_unusable(self, tmp_path: Path) -> None:
        with pytest.raises(UnusableFeed, match=r"calendar\.txt: missing, and calendar_dates\.txt"):
            read(tmp_path, {"calendar.txt": None})

    def test_days_are_added_and_removed(self, tmp_path: Path) -> None:
        calendar = SMALL_FEED["calendar.txt"].replace(
            "1,1,1,1,1,1,1,20260101,20261231", "1,0,0,0,0,0,0,20260706,20260713"
        )
        dates = (
            "service_id,date,exception_type\n"
            "daily,20260713,2\ndaily,20260708,1\ndaily,20260901,1\ndaily,20260801,2\n"
        )
        feed = read(tmp_path, {"calendar.txt": calendar, "calendar_dates.txt": dates})
        assert feed.services["daily"].days(date(2026, 1, 1), date(2026, 12, 31)) == (
            date(2026, 7, 6),
            date(2026, 7, 8),
            date(2026, 9, 1),
        )

    def test_bad_rows_are_told(self, tmp_path: Path) -> None:
        calendar = SMALL_FEED["calendar.txt"] + (
            "x1,1,1,1,1,1,1,1,2026-01-01,20261231\n"
            "x2,1,1,1,1,1,1,1,20260101,20260231\n"
            "x3,1,1,1,yes,1,1,1,20260101,20261231\n"
            "x4,1,1,1,1,1,1,1,20261231,20260101\n"
            "daily,1,1,1,1,1,1,1,20260101,20261231\n"
        )
        dates = (
            "service_id,date,exception_type\n"
            "daily,20260732,1\ndaily,20260731,3\ndaily,20260731,1\ndaily,20260731,2\n"
        )
        feed = read(tmp_path, {"calendar.txt": calendar, "calendar_dates.txt": dates})
        assert told(feed) == [
            "calendar.txt, line 3: start_date '2026-01-01' is not a date YYYYMMDD; left out",
            "calendar.txt, line 4: end_date '20260231' is not a date YYYYMMDD; left out",
            "calendar.txt, line 5: a weekday is neither 0 nor 1; left out",
            "calendar.txt, line 6: end_date is before start_date; left out",
            "calendar.txt, line 7: service_id 'daily' is there twice; left out",
            "calendar_dates.txt, line 2: date '20260732' is not a date YYYYMMDD; left out",
            "calendar_dates.txt, line 3: exception_type '3' is neither 1 nor 2; left out",
            "calendar_dates.txt, line 5: daily has 20260731 already; left out",
        ]


class TestBadRows:
    def test_bad_calls_are_told_with_their_line_and_the_others_are_kept(
        self, tmp_path: Path
    ) -> None:
        rows = times(
            "T1,08:00:00,08:00:00,A,1,\n"
            "T1,8h10,08:10:00,B,2,\n"
            "T1,08:10:00,-08:10:00,B,2,\n"
            "T1,08:60:00,08:10:00,B,2,\n"
            "T1,08:10:00,08:10:00,Q,2,\n"
            "T9,08:10:00,08:10:00,B,2,\n"
            "T1,08:10:00,08:10:00,B,2.5,\n"
            "T1,08:10:00,08:10:00,B,,\n"
            "T1,08:10:00,08:10:00,B,2,-3\n"
            "T1,08:10:00,08:10:00,B,2,,surplus\n"
            "T1,08:15:00,08:15:00,B,2,\n"
            "T1,08:16:00,08:16:00,C,2,\n"
            "T1,08:20:00,08:20:00,C,3\n"
        )
        feed = read(tmp_path, {"stop_times.txt": rows})
        calls = all_calls(feed)["T1"]
        assert [(call.line, call.stop_id) for call in calls] == [(2, "A"), (12, "B"), (14, "C")]
        place = "stop_times.txt, line"
        assert told(feed) == [
            f"{place} 3: arrival_time '8h10' is not HH:MM:SS; left out",
            f"{place} 4: departure_time '-08:10:00' is not HH:MM:SS; left out",
            f"{place} 5: arrival_time '08:60:00' is not HH:MM:SS; left out",
            f"{place} 6: stop_id 'Q' is no stop of stops.txt; left out",
            f"{place} 7: trip_id 'T9' is not in trips.txt",
            f"{place} 8: stop_sequence '2.5' is not a whole number from 0; left out",
            f"{place} 9: stop_sequence is empty; left out",
            f"{place} 10: shape_dist_traveled '-3' is not a distance; left out",
            f"{place} 11: 7 fields for 6 columns; left out",
            f"{place} 13: stop_sequence 2 is there twice in trip T1; left out",
        ]

    def test_bad_trips_are_told_and_their_calls_are_not_told_again(self, tmp_path: Path) -> None:
        changes: Files = {
            "trips.txt": (
                "route_id,service_id,trip_id\n"
                "L1,daily,T1\nL1,daily,T1\nL9,daily,T2\nL1,never,T3\nL1,daily,\n"
                f"L1,daily,{'x' * 91}\n"
            ),
            "stop_times.txt": SMALL_FEED["stop_times.txt"]
            + "T2,08:00:00,08:00:00,A,1\nT3,08:00:00,08:00:00,A,1\n",
        }
        feed = read(tmp_path, changes)
        assert len(all_calls(feed)["T1"]) == 3
        assert list(feed.trips) == ["T1"]
        assert told(feed) == [
            "trips.txt, line 3: trip_id 'T1' is there twice; left out",
            "trips.txt, line 4: route_id 'L9' of trip T2 is unknown; left out",
            "trips.txt, line 5: service_id 'never' of trip T3 is unknown; left out",
            "trips.txt, line 6: trip_id is empty; left out",
            "trips.txt, line 7: trip_id is longer than 90 characters; left out",
        ]

    def test_stations_and_entrances_are_no_stops(self, tmp_path: Path) -> None:
        stops = (
            "stop_id,stop_name,stop_lat,stop_lon,location_type,parent_station\n"
            "S,Station,50,10,1,\nA,Alpha,50,10,0,S\nE,Entrance,50,10,2,S\nB,Beta,50,10,,S\n"
        )
        rows = times("T1,08:00:00,,A,1,\nT1,08:10:00,,S,2,\nT1,08:20:00,,B,3,\n")
        feed = read(tmp_path, {"stops.txt": stops, "stop_times.txt": rows})
        assert list(feed.stops) == ["A", "B"]
        assert [call.stop_id for call in all_calls(feed)["T1"]] == ["A", "B"]
        assert told(feed) == [
            "stop_times.txt, line 3: stop_id 'S' is no stop of stops.txt; left out"
        ]

    @pytest.mark.parametrize(
        ("coordinates", "is_told"),
        [
            ("91.0,10.0", True),
            ("50.0,181", True),
            ("north,10", True),
            ("nan,10", True),
            ("50,", True),
            (",", False),
            ("0,0", False),
        ],
    )
    def test_coordinates_that_are_no_place_are_not_used(
        self, tmp_path: Path, coordinates: str, is_told: bool
    ) -> None:
        stops = (
            f"stop_id,stop_name,stop_lat,stop_lon\nA,Alpha,{coordinates}\nB,Beta,50,10\nC,C,50,9\n"
        )
        feed = read(tmp_path, {"stops.txt": stops})
        assert (feed.stops["A"].latitude, feed.stops["A"].longitude) == (None, None)
        assert bool(told(feed)) is is_told

    def test_bytes_that_are_no_text_lose_their_row_only(self, tmp_path: Path) -> None:
        stops = SMALL_FEED["stops.txt"].encode()
        stops = stops.replace(b"Gamma", b"G\xe4mma").replace(b"Delta", b"De\0lta")
        feed = read(tmp_path, {"stops.txt": stops})
        assert list(feed.stops) == ["A", "B"]
        assert told(feed) == [
            "stops.txt, line 4: is not UTF-8; left out",
            "stops.txt, line 5: has a NUL character; left out",
        ]

    def test_a_field_over_64_kib_loses_its_row_only(self, tmp_path: Path) -> None:
        stops = SMALL_FEED["stops.txt"].replace("Beta", "B" * (64 * 1024 + 1))
        feed = read(tmp_path, {"stops.txt": stops})
        assert list(feed.stops) == ["A", "C", "D"]
        assert told(feed) == [
            "stops.txt, line 3: a field is longer than 65,536 characters; left out"
        ]

    def test_a_quote_that_never_ends_is_told_and_reading_goes_on(self, tmp_path: Path) -> None:
        rows = "".join(f"S{n:05},Stop {n},50,10\n" for n in range(20_000))
        stops = SMALL_FEED["stops.txt"].replace("Delta", '"Delta') + rows
        feed = read(tmp_path, {"stops.txt": stops})
        assert feed.problems.kept[0].line == 5
        assert "S19999" in feed.stops
        assert "S00001" not in feed.stops

    def test_frequencies_are_told_as_not_supported(self, tmp_path: Path) -> None:
        frequencies = "trip_id,start_time,end_time,headway_secs\nT1,06:00:00,22:00:00,600\n"
        feed = read(tmp_path / "with", {"frequencies.txt": frequencies})
        assert told(feed) == [
            "frequencies.txt, line 2: not supported: the trips it names are imported once"
        ]
        header_only = frequencies.splitlines()[0] + "\n"
        assert told(read(tmp_path / "empty", {"frequencies.txt": header_only})) == []

    def test_a_route_needs_an_agency_and_may_lack_a_type(self, tmp_path: Path) -> None:
        routes = SMALL_FEED["routes.txt"] + "L2,XX,2,Nowhere,2\nL3,TR,3,Odd,bus\n"
        feed = read(tmp_path, {"routes.txt": routes})
        assert feed.routes["L3"].route_type == -1
        assert told(feed) == [
            "routes.txt, line 3: agency_id 'XX' is not in agency.txt; left out",
            "routes.txt, line 4: route_type 'bus' is not a number; taken as unknown",
        ]

    def test_of_a_million_problems_some_are_kept_and_all_are_counted(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(gtfs_archive, "PROBLEMS_KEPT_MAX", 3)
        feed = read(tmp_path, {"stop_times.txt": times("T9,,,A,1,\n" * 50)})
        assert all_calls(feed) == {"T1": []}
        assert (len(feed.problems.kept), feed.problems.count) == (3, 50)


class TestUnusableFeeds:
    @pytest.mark.parametrize(
        "name", ["agency.txt", "stops.txt", "routes.txt", "trips.txt", "stop_times.txt"]
    )
    def test_a_missing_file_is_named(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(UnusableFeed, match=f"{name}: missing"):
            read(tmp_path, {name: None})

    @pytest.mark.parametrize("content", ["", "\n", b"\xff\xfes\0t\0o\0p\0"])
    def test_a_file_without_column_names_is_unusable(
        self, tmp_path: Path, content: str | bytes
    ) -> None:
        with pytest.raises(UnusableFeed, match=r"stops\.txt"):
            read(tmp_path, {"stops.txt": content})

    def test_every_missing_column_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(UnusableFeed) as caught:
            read(tmp_path, {"trips.txt": "trip_id,headsign\nT1,x\n"})
        assert [str(problem) for problem in caught.value.problems] == [
            "trips.txt, line 1: no column route_id",
            "trips.txt, line 1: no column service_id",
        ]

    def test_a_missing_column_of_the_largest_file_is_named(self, tmp_path: Path) -> None:
        feed = read(tmp_path, {"stop_times.txt": "trip_id,stop_id\nT1,A\n"})
        with pytest.raises(UnusableFeed, match=r"stop_times\.txt, line 1: no column stop_seq"):
            all_calls(feed)

    @pytest.mark.parametrize("zone", ["Mars/Olympus", "../../etc/passwd", "/etc/passwd", "x" * 500])
    def test_an_agency_without_a_real_time_zone_is_no_agency(
        self, tmp_path: Path, zone: str
    ) -> None:
        agency = SMALL_FEED["agency.txt"].replace("Europe/Berlin", zone)
        with pytest.raises(UnusableFeed, match="is not a time zone"):
            read(tmp_path, {"agency.txt": agency})

    def test_a_machine_without_time_zones_is_told_which_package_to_install(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("integrations.gtfs_feed.available_timezones", set)
        agency = SMALL_FEED["agency.txt"].replace("Europe/Berlin", "Europe/Nowhere")
        with pytest.raises(UnusableFeed, match="install the Python package tzdata"):
            read(tmp_path, {"agency.txt": agency})

    def test_a_path_without_anything_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(UnusableFeed, match="there is no such file or folder"):
            read_feed(tmp_path / "nothing")

    def test_a_line_that_does_not_end_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(UnusableFeed, match=r"stops\.txt, line 6: longer than"):
            read(tmp_path, {"stops.txt": SMALL_FEED["stops.txt"] + "x" * (1024**2 + 1)})


class TestArchives:
    def test_what_is_no_archive_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "feed.zip"
        path.write_bytes(b"PK\x03\x04 but not really")
        with pytest.raises(UnusableFeed, match="not a zip archive"):
            read_feed(path)

    def test_a_bomb_is_refused_before_it_is_read(self, tmp_path: Path) -> None:
        bomb = zip_feed(tmp_path / "bomb.zip", {"stop_times.txt": b"0" * (17 * 1024**2)})
        with pytest.raises(UnusableFeed, match=r"stop_times\.txt: is packed more than 200 : 1"):
            read_feed(bomb)

    def test_an_archive_that_unpacks_to_too_much_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(gtfs_archive, "UNPACKED_BYTES_MAX", 500)
        with pytest.raises(UnusableFeed, match="at most 500 are read"):
            read_feed(zip_feed(tmp_path / "feed.zip"))

    def test_names_that_lead_out_of_the_archive_are_told_and_ignored(self, tmp_path: Path) -> None:
        path = zip_feed(tmp_path / "feed.zip")
        with zipfile.ZipFile(path, "a") as archive:
            for name in ("../stops.txt", "/stops.txt", "a/../../stops.txt", "..\\stops.txt"):
                archive.writestr(name, "stop_id\nEVIL\n")
        feed = read_feed(path)
        assert "EVIL" not in feed.stops
        assert len(told(feed)) == 4
        assert all("leads out of the archive" in problem for problem in told(feed))

    def test_what_computers_add_to_archives_is_ignored(self, tmp_path: Path) -> None:
        path = zip_feed(tmp_path / "feed.zip", below="feed/")
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("__MACOSX/stops.txt", "rubbish")
            archive.writestr("readme.pdf", "rubbish")
        assert told(read_feed(path)) == []

    def test_two_feeds_in_one_archive_are_refused(self, tmp_path: Path) -> None:
        path = zip_feed(tmp_path / "feed.zip", below="bus/")
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("rail/stops.txt", "stop_id\n")
        with pytest.raises(UnusableFeed, match="several feeds: bus, rail"):
            read_feed(path)

    def test_a_file_that_is_there_twice_is_refused(self, tmp_path: Path) -> None:
        path = zip_feed(tmp_path / "feed.zip")
        with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("stops.txt", "stop_id\n")
        with pytest.raises(UnusableFeed, match=r"stops\.txt: is in the archive twice"):
            read_feed(path)

    def test_an_archive_without_a_feed_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "feed.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a/b/stops.txt", "stop_id\n")
        with pytest.raises(UnusableFeed, match="no file of a GTFS feed"):
            read_feed(path)

    @pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
    def test_other_packing_methods_are_refused(self, tmp_path: Path, method: int) -> None:
        path = tmp_path / "feed.zip"
        with zipfile.ZipFile(path, "w", method) as archive:
            archive.writestr("stops.txt", "stop_id\n")
        with pytest.raises(UnusableFeed, match="another method than deflate"):
            read_feed(path)

    def test_damage_is_noticed_while_reading(self, tmp_path: Path) -> None:
        path = tmp_path / "feed.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for name, text in SMALL_FEED.items():
                archive.writestr(name, text)
        content = path.read_bytes()
        path.write_bytes(content.replace(b"Gamma", b"Gamba"))
        with pytest.raises(UnusableFeed, match=r"stops\.txt.*damaged"):
            read_feed(path)


@needs_real_feed
class TestRealFeed:
    def test_every_trip_of_the_railway_is_read(self) -> None:
        feed = read_feed(REAL_FEED)
        calls = all_calls(feed)
        assert len(feed.trips) == 334
        assert max(len(trip_calls) for trip_calls in calls.values()) == 52
        with (REAL_FEED / "stop_times.txt").open(encoding="utf-8") as stream:
            assert sum(map(len, calls.values())) == sum(1 for _ in csv.DictReader(stream))
        assert told(feed) == []

    def test_times_past_midnight_are_kept(self) -> None:
        calls = all_calls(read_feed(REAL_FEED))
        with (REAL_FEED / "stop_times.txt").open(encoding="utf-8") as stream:
            late = [row for row in csv.DictReader(stream) if int(row["arrival_time"][:2]) >= 24]
        assert late
        for row in late:
            hours, minutes, seconds = map(int, row["arrival_time"].split(":"))
            call = next(c for c in calls[row["trip_id"]] if c.sequence == int(row["stop_sequence"]))
            assert call.arrival_s == hours * 3600 + minutes * 60 + seconds
