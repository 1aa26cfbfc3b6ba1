"""GTFS feeds for tests: a small sound one, to which a test adds what it is about."""

from __future__ import annotations

import zipfile
from pathlib import Path

SMALL_FEED: dict[str, str] = {
    "agency.txt": (
        "agency_id,agency_name,agency_url,agency_timezone\n"
        "TR,Test Rail,https://rail.example,Europe/Berlin\n"
    ),
    "stops.txt": (
        "stop_id,stop_name,stop_lat,stop_lon\n"
        "A,Alpha,50.0,10.0\n"
        "B,Beta,50.1,10.0\n"
        "C,Gamma,50.2,10.0\n"
        "D,Delta,50.3,10.0\n"
    ),
    "routes.txt": (
        "route_id,agency_id,route_short_name,route_long_name,route_type\nL1,TR,1,Alpha to Delta,2\n"
    ),
    "trips.txt": "route_id,service_id,trip_id\nL1,daily,T1\n",
    "stop_times.txt": (
        "trip_id,arrival_time,departure_time,stop_id,stop_sequence\n"
        "T1,08:00:00,08:00:00,A,1\n"
        "T1,08:10:00,08:12:00,B,2\n"
        "T1,08:20:00,08:20:00,C,3\n"
    ),
    "calendar.txt": (
        "service_id,monday,tuesday,wednesday,thursday,friday,saturday,sunday,start_date,end_date\n"
        "daily,1,1,1,1,1,1,1,20260101,20261231\n"
    ),
}

Files = dict[str, str | bytes | None]


def write_feed(folder: Path, changes: Files | None = None) -> Path:
    """The small feed with some files replaced, added, or (None) left out."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents(changes).items():
        (folder / name).write_bytes(content)
    return folder


def zip_feed(path: Path, changes: Files | None = None, *, below: str = "") -> Path:
    """The same as ``write_feed``, in an archive."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents(changes).items():
            archive.writestr(below + name, content)
    return path


def contents(changes: Files | None = None) -> dict[str, bytes]:
    """The bytes of each file."""
    files: Files = {**SMALL_FEED, **(changes or {})}
    return {
        name: content.encode() if isinstance(content, str) else content
        for name, content in files.items()
        if content is not None
    }
