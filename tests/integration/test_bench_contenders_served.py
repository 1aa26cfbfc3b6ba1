"""The usual ways over HTTP: processes that start, answer like ours, and end in every case."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import psutil
import pytest

from benchmarks.contenders.application import Stores, build_application, hold_id_of
from benchmarks.contenders.contender import ShowSpec
from benchmarks.contenders.line_up import FOUR, OTHERS, create_contender_tables
from benchmarks.contenders.place_tables import PlaceTables
from benchmarks.contenders.served import contender_servers
from persistence.embedded_postgres import EmbeddedPostgres
from persistence.embedded_valkey import EmbeddedValkey
from persistence.migrate import migrate
from persistence.provisioning import ensure_database

_shows = itertools.count(1)

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedValkey]:
    with EmbeddedValkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture(scope="module")
async def dsn(postgres: EmbeddedPostgres) -> str:
    """One database for all: every test has shows of its own."""
    await ensure_database(postgres.dsn(), "contenders_served")
    dsn = postgres.dsn("contenders_served")
    await migrate(dsn)
    await create_contender_tables(dsn)
    return dsn


@pytest.fixture
async def show(dsn: str) -> int:
    async with asyncpg.create_pool(dsn, min_size=1, max_size=1) as pool:
        tables = PlaceTables(pool)
        spec = ShowSpec(f"served {next(_shows)}", 20)
        await tables.open_shows([spec])
        return tables.number_of(spec.show_id)


@pytest.fixture
async def client(dsn: str, show: int, valkey: EmbeddedValkey) -> AsyncIterator[httpx.AsyncClient]:
    app = build_application(Stores(dsn, valkey.url, 2))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://others") as client,
    ):
        yield client


def as_customer(customer: str, key: str) -> dict[str, str]:
    return {"X-Customer-Id": customer, "Idempotency-Key": key}


@pytest.mark.parametrize("contender", OTHERS)
async def test_a_hold_is_made_repeated_and_refused_to_others(
    client: httpx.AsyncClient, show: int, contender: str
) -> None:
    path = f"/{contender}/shows/{show}/holds"
    held = await client.post(path, json={"seats": [4, 3]}, headers=as_customer("ann", "k"))
    assert held.status_code == 201
    assert held.json()["hold_id"] == hold_id_of(str(show), "ann", "k")
    assert held.json()["seats"] == [3, 4]
    again = await client.post(path, json={"seats": [3, 4]}, headers=as_customer("ann", "k"))
    assert (again.status_code, again.json()) == (201, held.json())
    other = await client.post(path, json={"seats": [4, 5]}, headers=as_customer("bob", "k"))
    assert (other.status_code, other.json()) == (409, {"error": "taken"})


@pytest.mark.parametrize(
    "body",
    ["{", "[]", "{}", '{"seats": []}', '{"seats": [1, 1]}', '{"seats": [true]}', '{"seats": "1"}'],
)
async def test_a_body_that_makes_no_sense_is_refused(
    client: httpx.AsyncClient, show: int, body: str
) -> None:
    path = f"/row_lock/shows/{show}/holds"
    answer = await client.post(path, content=body, headers=as_customer("ann", "k"))
    assert answer.status_code == 422


async def test_a_hold_without_customer_or_key_is_refused(
    client: httpx.AsyncClient, show: int
) -> None:
    answer = await client.post(f"/row_lock/shows/{show}/holds", json={"seats": [1]})
    assert answer.status_code == 400


def test_servers_answer_on_ports_of_their_own_and_are_gone_afterwards(
    dsn: str, show: int, valkey: EmbeddedValkey
) -> None:
    with contender_servers(dsn, valkey.url, 2) as ports:
        assert len(set(ports)) == 2
        for number, port in enumerate(ports):
            for seat, contender in enumerate(FOUR):
                answer = httpx.post(
                    f"http://127.0.0.1:{port}/{contender}/shows/{show}/holds",
                    json={"seats": [10 * number + seat]},
                    headers=as_customer("ann", f"{port}-{seat}"),
                    timeout=30,
                )
                assert answer.status_code == 201
        children = psutil.Process().children(recursive=True)
        servers = [each for each in children if "benchmarks.contenders.served" in each.cmdline()]
        assert len(servers) == 2
    assert not any(server.is_running() for server in servers)


def test_servers_end_when_whoever_started_them_is_killed(
    dsn: str, show: int, valkey: EmbeddedValkey
) -> None:
    starter = (
        "import json, sys, time\n"
        "from benchmarks.contenders.served import contender_servers\n"
        "with contender_servers(*json.load(sys.stdin), 1) as ports:\n"
        "    print(ports[0], flush=True)\n"
        "    time.sleep(600)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", starter],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=CHECKOUT,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdin as stores:
        stores.write(json.dumps([dsn, valkey.url]))
    assert process.stdout.readline().strip().isdecimal()
    [server] = psutil.Process(process.pid).children()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    server.wait(30)
    assert not server.is_running()


def test_a_server_that_cannot_start_says_so(valkey: EmbeddedValkey) -> None:
    with (
        pytest.raises(RuntimeError, match="ended with"),
        contender_servers("postgresql://nobody@127.0.0.1:1/none", valkey.url, 1),
    ):
        raise AssertionError("it started")


class Command:
    """``scripts/bench`` with a temporary directory of its own, by which its servers are known."""

    def __init__(self, home: Path) -> None:
        home.mkdir()
        self._home = home

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "benchmarks", *arguments],
            cwd=CHECKOUT,
            env={**os.environ, "TMPDIR": str(self._home)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def servers(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter(["cmdline", "status"]):
            if process.info["status"] == psutil.STATUS_ZOMBIE:
                continue
            if any(str(self._home) in word for word in process.info["cmdline"] or ()):
                found.append(process)
        return found


def test_the_command_measures_audits_and_leaves_no_process_behind(tmp_path: Path) -> None:
    command = Command(tmp_path / "home")
    report = tmp_path / "report"
    options = ["--quick", "--json", str(tmp_path / "r.json"), "--report", str(report)]
    process = command.start("pause_fault", *options)
    shown, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    demonstrated = "faults of redlock without a database guard: 2 (target at least 1): reached"
    assert f"pause_fault: {demonstrated}" in shown
    assert "pause_fault: faults of actor: 0 (target at most 0): reached" in shown
    document: dict[str, Any] = json.loads((tmp_path / "r.json").read_text())
    assert document["audit"]["violations"] == 0
    assert document["scenarios"]["pause_fault"]["failure"] is None
    written = {path.name for path in report.iterdir()}
    assert written == {"report.html", "results.json", "table.md"}
    assert command.servers() == []


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_command_stops_its_servers_and_says_so(
    tmp_path: Path, how: signal.Signals
) -> None:
    command = Command(tmp_path / "home")
    process = command.start("activation", "--quick")
    assert process.stderr is not None
    for line in process.stderr:
        if "selling" in line:
            break
    assert command.servers()
    process.send_signal(how)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in said
    assert command.servers() == []
