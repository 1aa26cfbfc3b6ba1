"""The bell of the payment actors: heard at once, and not more often than it is worth."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from actors.config import ActorsConfig
from actors.payment_hosting import RINGS_APART_S, PaymentBell
from persistence.shards import ShardMap


class Actors:
    """Stands where Ray stands: its actors count how often they are rung at."""

    def __init__(self) -> None:
        self.rings: list[str] = []

    def get_actor(self, name: str, namespace: str) -> Any:
        """An actor whose ``ring.remote()`` is heard here."""
        return _Handle(self, name)


class _Handle:
    def __init__(self, actors: Actors, name: str) -> None:
        self._actors = actors
        self._name = name

    @property
    def ring(self) -> _Handle:
        return self

    def remote(self) -> None:
        self._actors.rings.append(self._name)


@pytest.fixture
def actors(monkeypatch: pytest.MonkeyPatch) -> Actors:
    actors = Actors()
    monkeypatch.setattr("actors.payment_hosting.ray.get_actor", actors.get_actor)
    return actors


async def until_rung(actors: Actors, count: int) -> None:
    async with asyncio.timeout(30):
        while len(actors.rings) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def test_many_who_ring_soon_after_each_other_are_heard_twice(actors: Actors) -> None:
    bell = PaymentBell(ActorsConfig(ShardMap.even(("postgresql:///none",)), "beats"))
    bell(0)
    await until_rung(actors, 1)
    for _ in range(50):
        bell(0)
    await until_rung(actors, 2)
    await asyncio.sleep(3 * RINGS_APART_S)
    assert actors.rings == ["payments:0"] * 2
    bell(0)
    assert len(actors.rings) == 3, "whoever rings after a while is heard at once"


async def test_each_database_has_a_bell_of_its_own(actors: Actors) -> None:
    bell = PaymentBell(ActorsConfig(ShardMap.even(("postgresql:///a", "postgresql:///b")), "beats"))
    bell(0)
    # While the first is still being looked for.
    bell(1)
    await until_rung(actors, 2)
    assert sorted(actors.rings) == ["payments:0", "payments:1"]
