"""What the sandbox remembers: tables in memory, and a file that survives ``kill -9``.

Theory of operation

Every operation changes rows and says so with ``Table.save``. When it is done, ``Journal.commit``
writes all rows it changed as one line, with one ``write`` on a file that is opened for appending:
once that returns, the kernel has the line and the death of this process cannot take it back. A
line that a dying machine left half written is the last one, and is ignored. Nothing is synced to
the disk: this is a sandbox, and the power may fail it.

A row is written again whenever it changes, so the file is rewritten to its present rows at start.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import orjson

JOURNAL_NAME = "sandbox.jsonl"


class Row(Protocol):
    """A dataclass with an id."""

    @property
    def id(self) -> str: ...


RowT = TypeVar("RowT", bound=Row)


class Table(Generic[RowT]):
    """Rows in the order in which they were made."""

    def __init__(self, name: str, row_type: type[RowT], journal: Journal) -> None:
        self.name = name
        self._row_type = row_type
        self._journal = journal
        self._rows: dict[str, RowT] = {}
        self._ids: list[str] = []
        self._places: dict[str, int] = {}
        self._forgotten = 0
        journal.tables[name] = self

    def save(self, row: RowT) -> RowT:
        """Keep a new row, or say that a known one has changed."""
        if row.id not in self._rows:
            self._places[row.id] = self._forgotten + len(self._ids)
            self._ids.append(row.id)
            self._rows[row.id] = row
        self._journal.note(self.name, row)
        return row

    def find(self, row_id: str) -> RowT | None:
        return self._rows.get(row_id)

    def __len__(self) -> int:
        return len(self._ids)

    def __iter__(self) -> Iterator[RowT]:
        return (self._rows[row_id] for row_id in self._ids)

    def newest_first(self, before: str | None = None) -> Iterator[RowT]:
        """Rows from the newest to the oldest; those made before the row ``before``, if given."""
        end = len(self._ids) if before is None else self._places[before] - self._forgotten
        for place in range(end - 1, -1, -1):
            yield self._rows[self._ids[place]]

    def oldest_first(self, after: str) -> Iterator[RowT]:
        """Rows made after the row ``after``, from the oldest to the newest."""
        for place in range(self._places[after] - self._forgotten + 1, len(self._ids)):
            yield self._rows[self._ids[place]]

    def part(self, row_ids: list[str]) -> Table[RowT]:
        """Some rows as a table of their own, to be read only."""
        part = Table(self.name, self._row_type, Journal(None))
        for row_id in row_ids:
            part.save(self._rows[row_id])
        return part

    def forget_oldest(self, count: int) -> None:
        """Let go of the oldest rows, in memory now and on disk when the journal is rewritten."""
        for row_id in self._ids[:count]:
            del self._rows[row_id], self._places[row_id]
        del self._ids[:count]
        self._forgotten += count

    def remove(self, row_id: str) -> None:
        """Let go of one row; only for tables that nobody lists."""
        if self._rows.pop(row_id, None) is not None:
            place = self._places.pop(row_id) - self._forgotten
            # The last row takes its place: order means nothing in such a table.
            moved = self._ids.pop()
            if moved != row_id:
                self._ids[place] = moved
                self._places[moved] = place + self._forgotten
            self._journal.note_removal(self.name, row_id)

    def load(self, fields: dict[str, Any]) -> None:
        """Take a row from the file."""
        row = self._row_type(**fields)
        if row.id not in self._rows:
            self._places[row.id] = self._forgotten + len(self._ids)
            self._ids.append(row.id)
        self._rows[row.id] = row


class Journal:
    """See the module's docstring. Without a directory nothing is written."""

    def __init__(self, directory: Path | None) -> None:
        self.tables: dict[str, Table[Any]] = {}
        self._directory = directory
        self._descriptor: int | None = None
        self._changed: dict[tuple[str, str], object] = {}

    def note(self, table: str, row: Row) -> None:
        if self._directory is not None:
            self._changed[table, row.id] = row

    def note_removal(self, table: str, row_id: str) -> None:
        if self._directory is not None:
            self._changed[table, row_id] = None

    def open(self) -> None:
        """Read what is there into the tables, then rewrite the file to it and append from there."""
        if self._directory is None:
            return
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._directory / JOURNAL_NAME
        if path.exists():
            for line in path.read_bytes().split(b"\n"):
                self._take(line)
        self._changed.clear()
        unfinished = path.with_suffix(".unfinished")
        with open(unfinished, "wb") as file:
            for name, table in self.tables.items():
                for row in table:
                    file.write(orjson.dumps([[name, row.id, row]]) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC
        self._descriptor = os.open(path, flags)

    def _take(self, line: bytes) -> None:
        if not line:
            return
        try:
            changes = orjson.loads(line)
        except orjson.JSONDecodeError:
            return  # Half a line, from a machine that died: what it said was never answered.
        for name, row_id, fields in changes:
            table = self.tables.get(name)
            if table is None:
                continue
            if fields is None:
                table.remove(row_id)
            else:
                table.load(fields)

    def commit(self) -> None:
        """Everything noted since the last time is now safe from the death of this process."""
        if not self._changed or self._descriptor is None:
            return
        changes = [[table, row_id, row] for (table, row_id), row in self._changed.items()]
        self._changed.clear()
        line = orjson.dumps(changes) + b"\n"
        written = os.write(self._descriptor, line)
        while written < len(line):
            written += os.write(self._descriptor, line[written:])

    def close(self) -> None:
        self.commit()
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
