"""What the HTTP applications are told about the house."""

from __future__ import annotations

import pytest

from actors.config import ActorsConfig
from persistence.shards import ShardMap
from serve_app.hosting.edge_config import EdgeConfig

DSN = "postgresql:///housefull"


def edge(*, replicas: int = 2, body_bytes_max: int = 65_536) -> EdgeConfig:
    return EdgeConfig(
        actors=ActorsConfig(ShardMap.even((DSN,)), "/nowhere"),
        catalogue_dsn=DSN,
        redis_url=None,
        replicas=replicas,
        body_bytes_max=body_bytes_max,
    )


@pytest.mark.parametrize(("replicas", "side_replicas"), [(1, 1), (2, 1), (3, 1), (4, 2), (9, 4)])
def test_the_quieter_applications_have_half_as_many_processes(
    replicas: int, side_replicas: int
) -> None:
    assert edge(replicas=replicas).side_replicas == side_replicas


@pytest.mark.parametrize(("field", "value"), [("replicas", 0), ("body_bytes_max", 1_023)])
def test_a_house_nobody_could_enter_is_refused_by_the_name_of_the_field(
    field: str, value: int
) -> None:
    with pytest.raises(ValueError, match=field):
        edge(**{field: value})
