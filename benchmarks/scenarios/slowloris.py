"""500 clients that send as slowly as they can, and what buyers notice of them through the gateway.

The gateway stands before a whole house, as ``scripts/run --tls`` starts it. Buyers hold seats and
read seat maps through it by TLS, in an open model: first alone, then beside the slow clients for a
minute, then alone again. Every slow connection must end within ten seconds. Afterwards somebody
asks far more often than an address may; what the gateway refuses must not reach the house, let
alone Postgres. A run with ``--quick`` shortens the minute to ten seconds.
"""

from __future__ import annotations

import asyncio
import csv
import json
import ssl
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvloop

from benchmarks.below_http import new_show_name
from benchmarks.bench import Bench
from benchmarks.contenders.contender import ShowSpec
from benchmarks.load.http_client import Connection, ConnectionPool, get
from benchmarks.load.open_model import arrivals, run_open
from benchmarks.load.rounds import Round, Verdict
from benchmarks.load.slow_clients import HOST, SlowReport
from benchmarks.over_http import HttpHold, OverHttp, over_http
from benchmarks.results import Aim, ScenarioResult
from benchmarks.statement_counts import statement_counts
from benchmarks.whole_house import WholeHouse
from serve_app.gateway.certificate import DevelopmentCertificate, development_certificate
from serve_app.gateway.config import Backend, GatewayConfig
from serve_app.gateway.process import Gateway
from serve_app.house.ports import PortReservation
from serve_app.house.ray_runtime import real_haproxy

NAME = "slowloris"
SLOW_CLIENTS = 500
ATTACK_S = 60
ATTACK_QUICK_S = 10
BUYERS = 32
BUYERS_RATE_PER_S = 50
SEATS = 20_000
SLOWER_MAX = 2
LIVED_MAX_S = 10
FLOOD_REQUESTS = 4_000
FLOOD_CONNECTIONS = 16
FLOOD_ADDRESS = "127.0.2.1"


def run(bench: Bench) -> ScenarioResult:
    """See the module's docstring."""
    house = bench.grounds.whole_house()
    return uvloop.run(_run(bench, house))


async def _run(bench: Bench, house: WholeHouse) -> ScenarioResult:
    what = f"buyers by TLS through the gateway, beside {SLOW_CLIENTS} clients that are slow"
    result = ScenarioResult(NAME, what, "answers/s")
    async with over_http(bench) as http:
        spec = ShowSpec(new_show_name(NAME), SEATS)
        holds = await http.pairs_of_ours(spec)
        await http.activate(holds)
        with _gateway_before(house) as door:
            connections = [await door.connect() for _ in range(BUYERS)]
            try:
                buyers = _Buyers(http, ConnectionPool(connections), spec, holds)
                await _beside_slow_clients(bench, door, buyers, result)
            finally:
                for connection in connections:
                    connection.close()
            await _flood(bench, door, house, result)
        await http.audit(bench, result)
    return result


async def _beside_slow_clients(
    bench: Bench, door: _Door, buyers: _Buyers, result: ScenarioResult
) -> None:
    attack_s = ATTACK_QUICK_S if bench.options.is_quick else ATTACK_S
    bench.say("buyers to warm up")
    await buyers.buy(2)
    bench.say(f"buyers alone for {attack_s / 2:g} s")
    result.add("buyers_alone", await buyers.buy(attack_s / 2))
    bench.say(f"buyers beside {SLOW_CLIENTS} slow clients for {attack_s} s")
    # The clients' own start, all their handshakes in two seconds, is part of the minute.
    measured, slow = await asyncio.gather(buyers.buy(attack_s), _slow_clients(door, attack_s))
    result.add("buyers_beside_slow_clients", measured)
    bench.say(f"buyers alone for {attack_s / 2:g} s")
    result.add("buyers_alone", await buyers.buy(attack_s / 2))
    calm_ms = result.median("buyers_alone").p99_ms
    ratio = result.median("buyers_beside_slow_clients").p99_ms / calm_ms if calm_ms else 0.0
    result.ratios["p99_beside_slow_clients_to_alone"] = ratio
    result.figures |= {
        "slow_connections": slow.connected,
        "slow_connections_held_mean": slow.held_mean,
        "slow_connections_answered": slow.answered_200,
        "slow_connection_lived_max_s": slow.lived_max_s,
    }
    result.aims += [
        Aim.at_most(f"{NAME}: p99 of buyers beside slow clients to alone", ratio, SLOWER_MAX, "x"),
        # A second more, because slow clients look only once a second.
        Aim.at_most(
            f"{NAME}: the longest that a slow connection lived",
            slow.lived_max_s,
            LIVED_MAX_S + 1,
            " s",
        ),
    ]


async def _slow_clients(door: _Door, seconds: float) -> SlowReport:
    """In a process of their own, so that they do not make the buyers' clock late."""
    command = [sys.executable, "-m", "benchmarks.load.slow_clients"]
    arguments = (door.port, SLOW_CLIENTS, seconds, door.certificate.public)
    process = await asyncio.create_subprocess_exec(
        *command, *map(str, arguments), stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, "the slow clients failed"
    return SlowReport(**json.loads(output.splitlines()[-1]))


async def _flood(bench: Bench, door: _Door, house: WholeHouse, result: ScenarioResult) -> None:
    bench.say(f"{FLOOD_REQUESTS:,} requests of one address at once")
    async with statement_counts(house.dsn) as counts:
        await counts.restart()
        reached_before = door.requests_of_house()
        answers: Counter[int] = Counter()
        # A search for other words each time, which no cache answers.
        numbers = iter(range(FLOOD_REQUESTS))

        async def ask() -> None:
            connection = await door.connect(FLOOD_ADDRESS)
            for number in numbers:
                answer = await connection.send(get(f"/api/browse/shows?q=w{number}"))
                answers[answer.status] += 1
            connection.close()

        await asyncio.gather(*(ask() for _ in range(FLOOD_CONNECTIONS)))
        reached = door.requests_of_house() - reached_before
        statements = sum((await counts.reads()).values())
    refused = answers[429]
    admitted = sum(answers.values()) - refused
    result.figures |= {
        "flood_requests": sum(answers.values()),
        "flood_admitted": admitted,
        "flood_refused_with_429": refused,
        "flood_requests_that_reached_the_house": reached,
        "flood_statements_that_reached_postgres": statements,
    }
    result.aims += [
        Aim.at_least(f"{NAME}: requests of a flood refused with 429", refused, 1),
        Aim.at_most(f"{NAME}: refused requests that reached the house", reached - admitted, 0),
    ]


@dataclass
class _Buyers:
    """Half of them hold two seats, half look at the seat map."""

    http: OverHttp
    pool: ConnectionPool
    spec: ShowSpec
    holds: list[HttpHold]
    _map: bytes = field(default=b"")

    def __post_init__(self) -> None:
        self._map = get(f"/api/browse/shows/{self.spec.show_id}/seat-map")

    async def buy(self, seconds: float) -> Round:
        moments = arrivals(BUYERS_RATE_PER_S, seconds, seed=0)
        count = len(moments) // 2 + 1
        mine, self.holds = self.holds[:count], self.holds[count:]
        assert len(mine) == count, "the show is sold out"

        async def ask(number: int) -> Verdict:
            if number % 2:
                return self.http.judge(await self.pool.send(self._map))
            hold = mine[number // 2]
            return self.http.judge_hold(hold, await self.pool.send(hold.request))

        return await run_open(moments, ask)


class _TlsConnection(Connection):
    """A kept connection by TLS, from an address of its own."""

    def __init__(self, port: int, options: dict[str, Any]) -> None:
        super().__init__(HOST, port)
        self._port = port
        self._options = options

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: self, HOST, self._port, **self._options)


@dataclass(frozen=True)
class _Door:
    """A gateway that runs."""

    gateway: Gateway
    certificate: DevelopmentCertificate

    @property
    def port(self) -> int:
        return self.gateway.config.https_port

    async def connect(self, address: str = HOST) -> Connection:
        trusted = ssl.create_default_context(cafile=str(self.certificate.public))
        trusted.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        options = {"ssl": trusted, "server_hostname": "localhost", "local_addr": (address, 0)}
        connection = _TlsConnection(self.port, options)
        await connection._connect()
        return connection

    def requests_of_house(self) -> int:
        """How many requests the gateway has passed on."""
        told = self.gateway.ask("show stat house -1 -1").removeprefix("# ")
        rows = csv.DictReader(told.splitlines())
        return sum(int(row["stot"]) for row in rows if row["svname"] == "BACKEND")


@contextmanager
def _gateway_before(house: WholeHouse) -> Iterator[_Door]:
    """A gateway with the limits that users get."""
    with tempfile.TemporaryDirectory(prefix="hfgw") as name:
        folder = Path(name)
        certificate = development_certificate(folder / "tls", datetime.now(UTC))
        with PortReservation() as ports:
            config = GatewayConfig(
                host=HOST,
                https_port=ports.choose("HTTPS").port,
                http_port=ports.choose("HTTP").port,
                metrics_port=ports.choose("metrics").port,
                certificate=certificate.bundle,
                backends=(Backend(HOST, house.port),),
                secret_map=folder / "secret.map",
                control_socket=folder / "control.sock",
                hsts_max_age_s=1,
            )
        gateway = Gateway(
            config,
            binary=real_haproxy(),
            folder=folder,
            log_path=folder / "gateway.log",
            secret="of-a-house-that-believes-nobody",
        )
        gateway.start()
        try:
            yield _Door(gateway, certificate)
        finally:
            gateway.stop(timeout_ms=1_000)
