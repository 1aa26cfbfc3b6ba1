"""The house on one real Ray and one real Postgres that ``tests/conftest.py`` opens."""

from __future__ import annotations

import pytest

from tests.support.ray_house import RayHouse


@pytest.fixture
def house(ray_house: RayHouse) -> RayHouse:
    """The house below HTTP."""
    return ray_house
