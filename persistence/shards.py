"""Which database a show lives in: 1,024 logical shards over any number of primaries.

A show and everything that must be atomic with it (holds, claims, bookings, journal, outbox)
live in one database. The catalogue and, later, accounts live in the first one.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from reservation.ids import LOGICAL_SHARD_COUNT, ShowId, logical_shard_of


@dataclass(frozen=True, slots=True, repr=False)
class ShardMap:
    """Logical shards to data source names.

    Shapes:
        dsns: one per database, the first one also holds the catalogue.
        first_shards: for each database, its first logical shard; strictly increasing from 0.

    Raises:
        ValueError: no database, or ranges that do not start at 0 and rise below 1,024.
    """

    dsns: tuple[str, ...]
    first_shards: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.dsns:
            raise ValueError("shards: at least one database is needed")
        if len(self.dsns) != len(self.first_shards):
            raise ValueError("shards: as many ranges as databases are needed")
        if self.first_shards[0] != 0:
            raise ValueError("shards: the first range must start at 0")
        bounds = (*self.first_shards, LOGICAL_SHARD_COUNT)
        if any(low >= high for low, high in pairwise(bounds)):
            raise ValueError(f"shards: ranges must rise and stay below {LOGICAL_SHARD_COUNT}")

    @classmethod
    def even(cls, dsns: tuple[str, ...]) -> ShardMap:
        """Split the logical shards evenly over these databases, in their order.

        Example:
            >>> ShardMap.even(("postgresql:///a", "postgresql:///b")).first_shards
            (0, 512)
        """
        count = max(1, len(dsns))
        starts = tuple(index * LOGICAL_SHARD_COUNT // count for index in range(len(dsns)))
        return cls(dsns, starts)

    @property
    def catalogue_dsn(self) -> str:
        """The database that holds the catalogue."""
        return self.dsns[0]

    def database_of(self, show_id: ShowId) -> int:
        """The position in ``dsns`` of the database that a show lives in."""
        shard = logical_shard_of(show_id)
        index = len(self.first_shards) - 1
        while self.first_shards[index] > shard:
            index -= 1
        return index

    def __repr__(self) -> str:
        # A data source name carries a password; it must not reach a log by accident.
        return f"ShardMap({len(self.dsns)} databases, first_shards={self.first_shards})"
