"""The files of a GTFS feed, in a folder or a zip archive, read row by row.

Guarantees, because feeds come from strangers and are larger than memory:
- Nothing is unpacked to disk, and no name inside an archive is used as a path.
- An archive that unpacks to more than ``UNPACKED_BYTES_MAX``, or is packed like a bomb, is
  refused before it is read; so is a line that does not end.
- At most one row is in memory. A bad row is noted with its file and line; the rest is read.
"""

from __future__ import annotations

import csv
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from operator import itemgetter
from pathlib import Path
from typing import IO, NamedTuple, TypeAlias

UNPACKED_BYTES_MAX = 4 * 1024**3
"""All files of an archive together. The feeds of whole countries stay below 2 GiB."""

PACKING_RATIO_MAX = 200
"""Timetables pack about 10 : 1. Only files above ``_SMALL_FILE_BYTES`` are judged."""

DIRECTORY_BYTES_MAX = 256 * 1024
"""An archive's list of its members, 60 bytes each. A feed has ten; a trap can have a million,
and every one costs memory before anything is unpacked."""

FIELD_CHARS_MAX = 64 * 1024
PROBLEMS_KEPT_MAX = 10_000
"""Problems beyond this are counted, not kept: the wrong file can have one in every row."""

FEED_FILES = (
    "agency.txt",
    "stops.txt",
    "routes.txt",
    "trips.txt",
    "stop_times.txt",
    "calendar.txt",
    "calendar_dates.txt",
    "frequencies.txt",
)

Progress: TypeAlias = Callable[[str, int, int], None]
"""Called with a file's name, the bytes of it that are read, and its size in bytes."""

# What zipfile raises for archives that are damaged, or that it does not understand.
_ARCHIVE_FAULTS = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    RuntimeError,  # A password, and NotImplementedError for unknown methods.
    ValueError,
    KeyError,
    struct.error,
)
_SMALL_FILE_BYTES = 16 * 1024**2
_LINE_BYTES_MAX = 1024**2

# The end of a zip archive (APPNOTE.TXT 4.3.14 to 4.3.16): how long its list of members is.
_DIRECTORY_END = struct.Struct("<12xI4x2x")
_LARGE_LOCATOR = struct.Struct("<8xQ4x")
_LARGE_DIRECTORY_END = struct.Struct("<40xQ")
_DIRECTORY_END_BYTES_MAX = 22 + 65_535 + 20
_LARGE_RECORD_BYTES = 56
_IN_LARGE_FORM = 0xFFFF_FFFF
_PROGRESS_STEP_BYTES = 1024**2


class FeedProblem(NamedTuple):
    """One thing that is wrong with a feed. ``line`` is 0 when it is about the whole file."""

    file: str
    line: int
    reason: str

    def __str__(self) -> str:
        place = f"{self.file}, line {self.line}" if self.line else self.file
        return f"{place}: {self.reason}"


class UnusableFeed(ValueError):
    """The feed cannot be read at all; ``problems`` says why."""

    def __init__(self, problems: Sequence[FeedProblem]) -> None:
        super().__init__("; ".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


class FeedProblems:
    """The problems of a feed in the order in which they were met."""

    def __init__(self) -> None:
        self.kept: list[FeedProblem] = []
        self.count = 0

    def add(self, file: str, line: int, reason: str) -> None:
        """Note a problem."""
        self.count += 1
        if len(self.kept) < PROBLEMS_KEPT_MAX:
            self.kept.append(FeedProblem(file, line, reason))


class FeedFiles:
    """The tables of one feed.

    Args:
        path: a folder, or a zip archive whose files lie at its top or in one folder.

    Raises:
        UnusableFeed: there is nothing at ``path``, or the archive is damaged or unsafe.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problems = FeedProblems()
        self._size_of: dict[str, int] = {}
        self._member_of: dict[str, str] = {}
        if path.is_dir():
            for name in FEED_FILES:
                if (path / name).is_file():
                    self._size_of[name] = (path / name).stat().st_size
        elif path.is_file():
            try:
                _check_directory(path)
                with zipfile.ZipFile(path) as archive:
                    self._survey(archive)
            except UnusableFeed:
                raise
            except _ARCHIVE_FAULTS as error:
                raise unusable(path.name, f"not a zip archive that can be read: {error}") from error
        else:
            raise unusable(str(path), "there is no such file or folder")

    def __contains__(self, name: str) -> bool:
        return name in self._size_of

    def rows(
        self,
        name: str,
        required: Sequence[str],
        optional: Sequence[str] = (),
        progress: Progress | None = None,
    ) -> Iterator[tuple[int, Sequence[str]]]:
        """The rows of a file: line number, and the values of these columns in this order.

        Values are stripped. A row without a value for a required column, and a row that is
        broken, is noted and left out. An optional column that the file lacks is empty.

        Raises:
            UnusableFeed: the file or a required column is missing, or the file is damaged.
        """
        if name not in self:
            raise unusable(name, "missing")
        with self._open(name) as stream:
            lines = _Lines(stream, name, self._size_of[name], progress)
            try:
                yield from self._rows_of_lines(name, lines, required, optional)
            except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
                raise unusable(name, f"damaged: {error}", lines.number) from error

    def _rows_of_lines(
        self, name: str, lines: _Lines, required: Sequence[str], optional: Sequence[str]
    ) -> Iterator[tuple[int, Sequence[str]]]:
        reader = csv.reader(lines)
        header, width = self._read_header(name, reader, lines)
        lacking = [column for column in required if column not in header]
        if lacking:
            raise UnusableFeed([FeedProblem(name, 1, f"no column {c}") for c in lacking])
        # Absent columns are read from one place behind the last field, which is always empty.
        places = [header.get(column, width) for column in (*required, *optional)]
        pick = itemgetter(*places)
        required_count = len(required)
        while True:
            line = lines.number + 1
            lines.start_row()
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                self.problems.add(name, line, f"broken row: {error}; left out")
                continue
            if not row:
                continue
            reason = lines.fault or _row_fault(row, width, lines.row_bytes)
            if reason is not None:
                self.problems.add(name, line, f"{reason}; left out")
                continue
            row.extend([""] * (width + 1 - len(row)))
            picked = pick(row)
            values = [v.strip() for v in ((picked,) if len(places) == 1 else picked)]
            if not all(values[:required_count]):
                empty = next(c for c, v in zip(required, values, strict=False) if not v)
                self.problems.add(name, line, f"{empty} is empty; left out")
                continue
            yield line, values

    def _read_header(
        self, name: str, reader: Iterator[list[str]], lines: _Lines
    ) -> tuple[dict[str, int], int]:
        """The place of each column, and how many fields a row has."""
        lines.start_row()
        try:
            names = [column.strip() for column in next(reader)]
        except StopIteration:
            raise unusable(name, "empty; a file begins with the names of its columns") from None
        except csv.Error as error:
            raise unusable(name, f"broken row: {error}", 1) from error
        if lines.fault is not None:
            raise unusable(name, lines.fault, 1)
        header: dict[str, int] = {}
        for place, column in enumerate(names):
            if column and column in header:
                self.problems.add(name, 1, f"column {column} is there twice; the first is read")
            header.setdefault(column, place)
        return header, len(names)

    @contextmanager
    def _open(self, name: str) -> Iterator[IO[bytes]]:
        with ExitStack() as stack:
            try:
                stream: IO[bytes]
                if name in self._member_of:
                    archive = stack.enter_context(zipfile.ZipFile(self.path))
                    stream = stack.enter_context(archive.open(self._member_of[name]))
                else:
                    stream = stack.enter_context((self.path / name).open("rb"))
            except _ARCHIVE_FAULTS as error:
                raise unusable(name, f"cannot be opened: {error}") from error
            yield stream

    def _survey(self, archive: zipfile.ZipFile) -> None:
        """Find the feed's files among the members and refuse what looks like a trap."""
        found: dict[str, dict[str, zipfile.ZipInfo]] = {}
        for info in archive.infolist():
            parts = info.filename.replace("\\", "/").split("/")
            if ".." in parts or parts[0] == "" or ":" in parts[0]:
                self.problems.add(
                    self.path.name, 0, f"{info.filename[:200]!r} leads out of the archive; ignored"
                )
                continue
            if info.is_dir() or len(parts) > 2 or parts[-1] not in FEED_FILES:
                continue
            folder = "/".join(parts[:-1])
            if folder.startswith(("__MACOSX", ".")):
                continue
            members = found.setdefault(folder, {})
            if parts[-1] in members:
                raise unusable(parts[-1], "is in the archive twice")
            members[parts[-1]] = info
        if not found:
            raise unusable(self.path.name, "no file of a GTFS feed at its top or in one folder")
        if "" not in found and len(found) > 1:
            raise unusable(self.path.name, f"has several feeds: {', '.join(sorted(found))}")
        members = found[""] if "" in found else next(iter(found.values()))
        self._check_members(members)
        for name, info in members.items():
            self._size_of[name] = info.file_size
            self._member_of[name] = info.filename

    def _check_members(self, members: dict[str, zipfile.ZipInfo]) -> None:
        total = sum(info.file_size for info in members.values())
        if total > UNPACKED_BYTES_MAX:
            raise unusable(
                self.path.name,
                f"unpacks to {total:,} bytes; at most {UNPACKED_BYTES_MAX:,} are read",
            )
        for name, info in members.items():
            if info.flag_bits & 1:
                raise unusable(name, "is protected by a password")
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise unusable(name, "is packed by another method than deflate")
            packed = max(1, info.compress_size)
            if info.file_size > _SMALL_FILE_BYTES and info.file_size > packed * PACKING_RATIO_MAX:
                raise unusable(
                    name, f"is packed more than {PACKING_RATIO_MAX} : 1, as no timetable is"
                )


class _Lines:
    """The lines of a file as text, with what is wrong with the ones of the current row."""

    def __init__(
        self, stream: IO[bytes], name: str, size_bytes: int, progress: Progress | None
    ) -> None:
        self.number = 0
        self.fault: str | None = None
        self.row_bytes = 0
        self._stream = stream
        self._name = name
        self._size_bytes = size_bytes
        self._progress = progress
        self._done_bytes = 0
        self._next_report_bytes = _PROGRESS_STEP_BYTES

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        raw = self._stream.readline(_LINE_BYTES_MAX + 1)
        self._done_bytes += len(raw)
        self._report(at_end=not raw)
        if not raw:
            raise StopIteration
        self.number += 1
        self.row_bytes += len(raw)
        if len(raw) > _LINE_BYTES_MAX:
            raise unusable(self._name, f"longer than {_LINE_BYTES_MAX:,} bytes", self.number)
        if self.number == 1 and raw.startswith(b"\xef\xbb\xbf"):
            raw = raw[3:]
        if b"\0" in raw:
            self.fault = "has a NUL character"
            raw = raw.replace(b"\0", b"")
        try:
            return raw.decode()
        except UnicodeDecodeError:
            self.fault = self.fault or "is not UTF-8"
            return raw.decode(errors="replace")

    def start_row(self) -> None:
        """Forget what was wrong with the row before."""
        self.fault = None
        self.row_bytes = 0

    def _report(self, *, at_end: bool) -> None:
        if self._progress is None or not (at_end or self._done_bytes >= self._next_report_bytes):
            return
        self._next_report_bytes = self._done_bytes + _PROGRESS_STEP_BYTES
        self._progress(self._name, self._done_bytes, self._size_bytes)


def _check_directory(path: Path) -> None:
    """Refuse an archive whose list of members is longer than any feed's, before it is read.

    What cannot be found here is left to ``zipfile``, which refuses it in its own words.
    """
    with path.open("rb") as stream:
        size = stream.seek(0, 2)
        tail_at = stream.seek(max(0, size - _DIRECTORY_END_BYTES_MAX))
        tail = stream.read()
        end_at = tail.rfind(b"PK\5\6", 0, len(tail) - _DIRECTORY_END.size + 4)
        if end_at < 0:
            return
        directory_bytes = _DIRECTORY_END.unpack_from(tail, end_at)[0]
        sizes = [directory_bytes] if directory_bytes != _IN_LARGE_FORM else []
        locator_at = end_at - _LARGE_LOCATOR.size
        if locator_at >= 0 and tail.startswith(b"PK\6\7", locator_at):
            # The form for large archives, which overrules the other. Some readers believe the
            # locator, some look right before it.
            located_at = _LARGE_LOCATOR.unpack_from(tail, locator_at)[0]
            for record_at in (located_at, tail_at + locator_at - _LARGE_RECORD_BYTES):
                stream.seek(max(0, min(record_at, size)))
                record = stream.read(_LARGE_DIRECTORY_END.size)
                if record.startswith(b"PK\6\6") and len(record) == _LARGE_DIRECTORY_END.size:
                    sizes.append(_LARGE_DIRECTORY_END.unpack(record)[0])
    if max(sizes, default=0) > DIRECTORY_BYTES_MAX:
        raise unusable(path.name, "lists more files than any timetable has")


def unusable(file: str, reason: str, line: int = 0) -> UnusableFeed:
    """The exception for a feed with one problem that nothing can be read past."""
    return UnusableFeed([FeedProblem(file, line, reason)])


def _row_fault(row: list[str], width: int, row_bytes: int) -> str | None:
    if len(row) > width and any(row[width:]):
        return f"{len(row)} fields for {width} columns"
    if row_bytes > FIELD_CHARS_MAX and any(len(field) > FIELD_CHARS_MAX for field in row):
        return f"a field is longer than {FIELD_CHARS_MAX:,} characters"
    return None
