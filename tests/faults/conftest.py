"""What faults are done to, and the bad lines that lie in between.

house         below HTTP: one real Ray, one real Postgres (shared with ``tests/cluster``)
line          a bad line to its Postgres, over a unix socket; actors that were started through
              ``house.open_refs_through(line.dsn)`` keep it for life
tcp_line      the same over TCP
"""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.lossy_proxy import LossyProxy
from tests.support.ray_house import RayHouse


@pytest.fixture
def house(ray_house: RayHouse) -> RayHouse:
    """The house below HTTP."""
    return ray_house


@pytest.fixture
async def line(house: RayHouse) -> AsyncIterator[LossyProxy]:
    """A bad line of this test's own."""
    with tempfile.TemporaryDirectory(prefix="line") as directory:
        async with LossyProxy(house.dsn, Path(directory)).running() as line:
            yield line


@pytest.fixture
async def tcp_line(house: RayHouse) -> AsyncIterator[LossyProxy]:
    """A bad line of this test's own, over TCP."""
    async with LossyProxy(house.dsn, None).running() as line:
        yield line
