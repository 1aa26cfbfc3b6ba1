"""Requests that no client would send: no server error, and no answer that is not described.

At a small scale, with fixed seeds; ``scripts/fuzz`` does the same for as long as one wants.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack

import pytest

from persistence.migrate import migrate
from tests.fuzzing.applications import APPLICATIONS, Fuzzed
from tests.fuzzing.schemathesis_run import PHASES, fuzz
from tests.support.http_house import House
from tests.support.quick_postgres import quick_postgres
from tests.support.served_apis import Prepared, ServedApis, served_apis

EXAMPLES_MAX = 3
SEED = 4


class Served:
    """All applications on one port."""

    def __init__(self, apis: ServedApis, fuzzed: dict[str, Fuzzed]) -> None:
        self._apis = apis
        self.fuzzed = fuzzed

    def url_of(self, name: str) -> str:
        return self._apis.url + self.fuzzed[name].prefix


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    directory = tmp_path_factory.mktemp("fuzzed")
    fuzzed: dict[str, Fuzzed] = {}

    async def prepare(house: House, opened: AsyncExitStack) -> Prepared:
        for name, build in APPLICATIONS.items():
            fuzzed[name] = await build(house, opened, directory)
        return Prepared({one.prefix: one.app for one in fuzzed.values()})

    with quick_postgres() as server:
        asyncio.run(migrate(server.dsn()))
        with served_apis(server.dsn(), prepare) as apis:
            yield Served(apis, fuzzed)


@pytest.mark.parametrize("name", APPLICATIONS)
def test_whatever_somebody_signed_in_sends_the_answer_is_a_described_one(
    served: Served, name: str
) -> None:
    run = fuzz(
        served.url_of(name),
        bearer=served.fuzzed[name].bearer(),
        parameters=served.fuzzed[name].parameters,
        examples_max=EXAMPLES_MAX,
        # Four thousand cases for the many fields of this one, which scripts/fuzz takes.
        phases=[phase for phase in PHASES if phase != "coverage" or name != "organiser"],
        seed=SEED,
    )
    assert run.has_passed, run.output


@pytest.mark.parametrize("name", APPLICATIONS)
def test_whatever_anybody_sends_the_answer_is_a_described_one(served: Served, name: str) -> None:
    run = fuzz(
        served.url_of(name),
        bearer=None,
        parameters={},
        # Nearly all of it is turned away at the door, whatever it is.
        examples_max=1,
        phases=("examples", "fuzzing"),
        seed=SEED,
    )
    assert run.has_passed, run.output
