"""The load generator proves itself against a server that stops: an open model sees it all."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from benchmarks.load.closed_loop import run_clients
from benchmarks.load.http_client import (
    Answer,
    Connection,
    ConnectionPool,
    get,
    get_if_changed,
    open_connections,
    run_connections,
)
from benchmarks.load.open_model import (
    LATE_MS_MAX,
    arrivals,
    client_was_late,
    run_open,
)
from benchmarks.load.rounds import Round, Verdict

RATE_PER_S = 200
STALL_S = 0.5
SECONDS = 1.5
BEFORE_STALL = 100
OK = b'HTTP/1.1 200 OK\r\nContent-Length: 2\r\nETag: "7"\r\n\r\nok'


class StallingServer:
    """Answers every request; but from the ``stalls_at``-th on nobody, for ``STALL_S``."""

    def __init__(self, stalls_at: int | None = None) -> None:
        self._stalls_at = stalls_at
        self._open = asyncio.Event()
        self._open.set()
        self._timer: asyncio.Task[None] | None = None
        self.stall_ended_at = 0.0
        self.requests: list[bytes] = []
        self.hangs_up_after: set[int] = set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[int]:
        """Its port."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        yield server.sockets[0].getsockname()[1]
        server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                self.requests.append(await reader.readuntil(b"\r\n\r\n"))
                number = len(self.requests)
                if number == self._stalls_at:
                    self._open.clear()
                    self._timer = asyncio.ensure_future(self._resume())
                await self._open.wait()
                if number in self.hangs_up_after:
                    break
                writer.write(OK)
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()

    async def _resume(self) -> None:
        await asyncio.sleep(STALL_S)
        self.stall_ended_at = time.perf_counter()
        self._open.set()


class Wait(NamedTuple):
    """One request as its generator accounts for it."""

    from_s: float
    until_s: float


def charged(waits: list[Wait], moment_s: float) -> list[Wait]:
    """Those that were waiting at this moment, by their generator's account."""
    return [wait for wait in waits if wait.from_s <= moment_s <= wait.until_s]


async def test_an_open_model_charges_a_stall_to_everybody_who_came_meanwhile() -> None:
    server = StallingServer(stalls_at=BEFORE_STALL)
    waits: list[Wait] = []
    moments = arrivals(RATE_PER_S, SECONDS, seed=1, shape="even")
    async with server.running() as port:
        connections = await open_connections([port], 4)
        pool = ConnectionPool(connections)
        started = time.perf_counter()

        async def ask(number: int) -> Verdict:
            await pool.send(get("/"))
            waits.append(Wait(started + moments[number], time.perf_counter()))
            return Verdict.DONE

        measured = await run_open(moments, ask)
        for connection in connections:
            connection.close()
    assert measured.done == len(moments) == len(waits)
    waited = charged(waits, server.stall_ended_at)
    assert len(waited) >= 0.9 * RATE_PER_S * STALL_S
    # And the figures say so: the stall is in them as those saw it who came at its beginning.
    assert measured.p99_ms >= 900 * STALL_S
    assert measured.p50_ms <= measured.p99_ms <= measured.p999_ms <= measured.max_ms


async def test_a_closed_loop_charges_the_same_stall_to_its_few_clients_only() -> None:
    server = StallingServer(stalls_at=BEFORE_STALL)
    waits: list[Wait] = []
    async with server.running() as port:
        connections = await open_connections([port], 4)

        async def ask(client: int) -> Verdict | None:
            # As many as the open model sends, and at its pace while nothing is in the way.
            if len(waits) >= RATE_PER_S * SECONDS:
                return None
            await asyncio.sleep(len(connections) / RATE_PER_S)
            begun = time.perf_counter()
            await connections[client].send(get("/"))
            waits.append(Wait(begun, time.perf_counter()))
            return Verdict.DONE

        await run_clients(len(connections), 60, ask)
        for connection in connections:
            connection.close()
    assert 1 <= len(charged(waits, server.stall_ended_at)) <= len(connections)


async def test_what_the_client_is_late_itself_is_measured_and_said() -> None:
    async def ask(number: int) -> Verdict:
        if number == 10:
            time.sleep(0.3)  # noqa: ASYNC251 - the client's own event loop is what is to stand still.
        return Verdict.DONE

    measured = await run_open(arrivals(100, 1, seed=1, shape="even"), ask)
    assert measured.client_late_p99_ms > 100
    assert client_was_late(measured)


def test_a_client_is_late_only_when_it_matters() -> None:
    fast = Round(1.0, 1.0, 4.0, 5.0, 5.0, 1, 0, 0, 1.0, client_late_p99_ms=LATE_MS_MAX - 1)
    slow = fast._replace(p99_ms=400.0, client_late_p99_ms=50.0)
    assert not client_was_late(fast)
    assert client_was_late(fast._replace(client_late_p99_ms=LATE_MS_MAX + 1))
    assert not client_was_late(slow)
    assert client_was_late(slow._replace(client_late_p99_ms=150.0))


async def test_an_exception_counts_as_a_failed_request() -> None:
    async def ask(number: int) -> Verdict:
        if number % 2:
            raise ConnectionError
        return Verdict.DONE

    measured = await run_open(arrivals(1_000, 0.02, seed=1, shape="even"), ask)
    assert (measured.done, measured.errors) == (10, 10)


def test_random_arrivals_are_the_same_for_the_same_seed_and_have_the_wanted_rate() -> None:
    moments = arrivals(1_000, 10, seed=7)
    assert moments == arrivals(1_000, 10, seed=7) != arrivals(1_000, 10, seed=8)
    assert moments == sorted(moments)
    assert 9_500 < len(moments) < 10_500
    assert 0 < moments[0] < moments[-1] < 10


async def test_connections_work_off_all_requests_and_judge_every_answer() -> None:
    server = StallingServer()
    judged: list[int] = []

    def judge(number: int, answer: Answer) -> Verdict:
        judged.append(number)
        assert (answer.status, answer.body, answer.etag) == (200, b"ok", b'"7"')
        return Verdict.REFUSED if number % 10 == 0 else Verdict.DONE

    left = iter(range(50))

    def next_request() -> tuple[int, bytes] | None:
        number = next(left, None)
        return None if number is None else (number, get(f"/{number}"))

    async with server.running() as port:
        connections = await open_connections([port], 3)
        measured = await run_connections(connections, 60, next_request, judge)
        for connection in connections:
            connection.close()
    assert sorted(judged) == list(range(50))
    assert (measured.done, measured.refused, measured.errors) == (45, 5, 0)


async def test_a_request_whose_kept_connection_closes_is_sent_once_more() -> None:
    server = StallingServer()
    server.hangs_up_after = {2}
    async with server.running() as port:
        connection = await Connection.open("127.0.0.1", port)
        answers = [await connection.send(get("/")) for _ in range(3)]
        connection.close()
    assert [answer.status for answer in answers] == [200, 200, 200]
    assert len(server.requests) == 4


async def test_a_connection_that_closes_twice_is_an_error() -> None:
    server = StallingServer()
    server.hangs_up_after = {1, 2}
    async with server.running() as port:
        connection = await Connection.open("127.0.0.1", port)
        answer = await connection.send(get("/"))
        connection.close()
    assert answer.status == 0
    assert len(server.requests) == 2


async def test_an_answer_that_comes_in_pieces_is_put_together() -> None:
    connection = Connection("127.0.0.1", 1)
    answered: list[Answer] = []
    connection._transport = _Nowhere()  # type: ignore[assignment]
    connection.start(b"", answered.append)
    for piece in (OK[:9], OK[9:40], OK[40:-1]):
        connection.data_received(piece)
        assert answered == []
    connection.data_received(OK[-1:])
    assert [answer.body for answer in answered] == [b"ok"]


class _Nowhere:
    def write(self, data: bytes) -> None:
        """Sent to nobody."""


def test_a_conditional_request_names_the_tag() -> None:
    assert b'\r\nIf-None-Match: "7"\r\n' in get_if_changed("/map", b'"7"')
