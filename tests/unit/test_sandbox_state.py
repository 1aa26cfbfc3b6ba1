"""What the sandbox remembers, and what a death in the middle of a line does to it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from integrations.sandbox.state import JOURNAL_NAME, Journal, Table


@dataclass(slots=True)
class Thing:
    id: str
    size: int


def opened(directory: Path | None) -> tuple[Journal, Table[Thing]]:
    journal = Journal(directory)
    table = Table("thing", Thing, journal)
    journal.open()
    return journal, table


def test_rows_come_back_as_they_were_last_committed(tmp_path: Path) -> None:
    journal, table = opened(tmp_path)
    first, second = Thing("a", 1), Thing("b", 2)
    table.save(first)
    table.save(second)
    journal.commit()
    first.size = 3
    table.save(first)
    table.remove("b")
    journal.commit()
    table.save(Thing("c", 4))  # Not committed: nobody was told of it.
    _, again = opened(tmp_path)
    assert list(again) == [Thing("a", 3)]


def test_half_a_line_is_ignored_and_what_follows_is_kept(tmp_path: Path) -> None:
    journal, table = opened(tmp_path)
    table.save(Thing("a", 1))
    journal.commit()
    with (tmp_path / JOURNAL_NAME).open("ab") as file:
        file.write(b'[["thing","b",{"id":"b","si')
    journal, table = opened(tmp_path)
    assert list(table) == [Thing("a", 1)]
    table.save(Thing("c", 3))
    journal.commit()
    assert list(opened(tmp_path)[1]) == [Thing("a", 1), Thing("c", 3)]


def test_one_operation_is_one_line(tmp_path: Path) -> None:
    journal, table = opened(tmp_path)
    table.save(Thing("a", 1))
    table.save(Thing("b", 2))
    journal.commit()
    assert len((tmp_path / JOURNAL_NAME).read_bytes().splitlines()) == 1


def test_rows_are_read_from_both_ends() -> None:
    _, table = opened(None)
    for size, row_id in enumerate("abcde"):
        table.save(Thing(row_id, size))
    assert [row.id for row in table.newest_first()] == ["e", "d", "c", "b", "a"]
    assert [row.id for row in table.newest_first("c")] == ["b", "a"]
    assert [row.id for row in table.oldest_first("c")] == ["d", "e"]
    table.forget_oldest(2)
    assert [row.id for row in table.newest_first("e")] == ["d", "c"]
    assert (len(table), table.find("a")) == (3, None)
