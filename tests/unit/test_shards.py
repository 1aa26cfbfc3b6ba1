"""The shard map: every show in exactly one database, and no secret in a log."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persistence.shards import ShardMap
from reservation.ids import LOGICAL_SHARD_COUNT, ShowId, derive_show_id, logical_shard_of

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


def show_in(shard: int) -> ShowId:
    show_id = ShowId(f"shw_{ALPHABET[shard // 32]}{ALPHABET[shard % 32]}" + "0" * 14)
    assert logical_shard_of(show_id) == shard
    return show_id


@given(st.sets(st.integers(1, LOGICAL_SHARD_COUNT - 1), max_size=20))
def test_every_logical_shard_is_in_the_range_that_begins_last_before_it(starts: set[int]) -> None:
    first_shards = (0, *sorted(starts))
    shards = ShardMap(tuple(f"dsn {n}" for n in range(len(first_shards))), first_shards)
    for shard in range(LOGICAL_SHARD_COUNT):
        expected = max(n for n, first in enumerate(first_shards) if first <= shard)
        assert shards.database_of(show_in(shard)) == expected


@pytest.mark.parametrize("count", [1, 2, 3, 7, 1024])
def test_an_even_map_gives_every_database_about_as_many_shards(count: int) -> None:
    shards = ShardMap.even(tuple(f"dsn {n}" for n in range(count)))
    sizes = [0] * count
    for shard in range(LOGICAL_SHARD_COUNT):
        sizes[shards.database_of(show_in(shard))] += 1
    assert max(sizes) - min(sizes) <= 1
    assert shards.catalogue_dsn == "dsn 0"


def test_one_database_has_every_show() -> None:
    shards = ShardMap.even(("only",))
    assert {shards.database_of(derive_show_id(str(n))) for n in range(100)} == {0}


@pytest.mark.parametrize(
    ("dsns", "first_shards", "words"),
    [
        ((), (), "at least one database"),
        (("a",), (0, 5), "as many ranges as databases"),
        (("a", "b"), (1, 5), "must start at 0"),
        (("a", "b"), (0, 0), "must rise"),
        (("a", "b", "c"), (0, 9, 5), "must rise"),
        (("a", "b"), (0, 1024), "stay below 1024"),
        (("a", "b"), (0, 2000), "stay below 1024"),
    ],
)
def test_a_map_with_a_gap_or_an_overlap_is_refused(
    dsns: tuple[str, ...], first_shards: tuple[int, ...], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        ShardMap(dsns, first_shards)


def test_more_databases_than_shards_are_refused() -> None:
    with pytest.raises(ValueError, match="shards"):
        ShardMap.even(tuple(str(n) for n in range(LOGICAL_SHARD_COUNT + 1)))


def test_a_printed_map_has_no_password() -> None:
    shards = ShardMap.even(("postgresql://house:s3cret@db/seats",))
    assert "s3cret" not in f"{shards} {shards!r} {[shards]}"
