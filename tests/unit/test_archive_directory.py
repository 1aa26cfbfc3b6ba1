"""Archives whose list of members alone would cost memory: refused before anybody reads the list."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path

import pytest

from integrations.gtfs_archive import FeedFiles, UnusableFeed


def crowd(members: int) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("stops.txt", "stop_id\n")
        for number in range(members):
            archive.writestr(f"{number:05}", b"")
    return content.getvalue()


@pytest.fixture(scope="module")
def large_form() -> bytes:
    """So many members that the list is in the form for large archives."""
    archive = crowd(66_000)
    assert b"PK\x06\x06" in archive[-200:]
    return archive


def refusal(path: Path, archive: bytes) -> str:
    path.write_bytes(archive)
    with pytest.raises(UnusableFeed) as refused:
        FeedFiles(path)
    return str(refused.value)


def test_a_crowd_of_members_is_refused_in_either_form(tmp_path: Path, large_form: bytes) -> None:
    for archive in (crowd(6_000), large_form):
        assert "lists more files" in refusal(tmp_path / "feed.zip", archive)


def test_a_size_that_is_lied_about_in_one_place_is_found_in_the_other(
    tmp_path: Path, large_form: bytes
) -> None:
    # The small form says 100 bytes; what overrules it still says millions.
    lying = bytearray(large_form)
    struct.pack_into("<I", lying, lying.rfind(b"PK\x05\x06") + 12, 100)
    assert "lists more files" in refusal(tmp_path / "feed.zip", bytes(lying))
    # The locator leads nowhere; some readers look right before it all the same.
    struct.pack_into("<Q", lying, lying.rfind(b"PK\x06\x07") + 8, 2**60)
    assert "lists more files" in refusal(tmp_path / "feed.zip", bytes(lying))


@pytest.mark.parametrize("kept", [0, 3, 21, 30])
def test_what_is_cut_off_is_refused_in_other_words(tmp_path: Path, kept: int) -> None:
    assert "not a zip archive" in refusal(tmp_path / "feed.zip", crowd(1)[-kept or 10_000 :][:kept])


def test_an_ordinary_feed_and_one_with_a_comment_are_read(tmp_path: Path) -> None:
    path = tmp_path / "feed.zip"
    path.write_bytes(crowd(20))
    assert "stops.txt" in FeedFiles(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = b"timetable of the year, " * 1_000
    assert "stops.txt" in FeedFiles(path)
