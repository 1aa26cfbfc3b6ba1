"""Names of actors: how anybody finds the one that owns a show."""

from __future__ import annotations

from persistence.shards import ShardMap
from reservation.ids import ShowId, logical_shard_of
from reservation.show import Placement

SUPERVISOR = "supervisor"


def actor_name(show_id: ShowId, placement: Placement, shards: ShardMap, pool_slots: int) -> str:
    """The name of the actor that owns this show.

    A pool commits all its shows in one statement, so a pool never spans two databases.

    Example:
        >>> shards = ShardMap.even(("postgresql:///a",))
        >>> actor_name(ShowId("shw_00aaaaaaaaaaaaaa"), Placement.DEDICATED, shards, 4)
        'show:shw_00aaaaaaaaaaaaaa'
        >>> actor_name(ShowId("shw_05aaaaaaaaaaaaaa"), Placement.POOLED, shards, 4)
        'pool:0:1'
    """
    if placement is Placement.DEDICATED:
        return f"show:{show_id}"
    return f"pool:{shards.database_of(show_id)}:{logical_shard_of(show_id) % pool_slots}"


def database_of_actor(name: str, shards: ShardMap) -> int:
    """The database, as a position in the shard map, that this actor's shows live in."""
    kind, _, rest = name.partition(":")
    if kind == "show":
        return shards.database_of(ShowId(rest))
    assert kind == "pool", f"{name} is not the name of a show actor"
    return int(rest.split(":")[0])


def placement_of_actor(name: str) -> Placement:
    """Which kind of show actor has this name."""
    return Placement.DEDICATED if name.startswith("show:") else Placement.POOLED


def watchdog_name(node_id: str) -> str:
    """The name of a node's watchdog."""
    return f"watchdog:{node_id}"


def payment_actor_name(database: int) -> str:
    """The name of the actor that works on the payments of this database of the shard map."""
    return f"payments:{database}"
