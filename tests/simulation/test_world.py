"""The model of machines: processes stop, go on and die as real ones do."""

from __future__ import annotations

import asyncio
from typing import Any

from actors.clock import SystemClock
from persistence.memory_journal import MemoryStore
from persistence.store import Part, StoreSilent
from tests.simulation.database import ModelDatabase, ModelStore, Trouble
from tests.simulation.network import Network
from tests.simulation.simulation import virtual_machine
from tests.simulation.world import EPOCH_MS, World
from tests.support.house import ID, SHOW


def test_time_jumps_to_the_next_thing_and_costs_nothing() -> None:
    world = World(0)
    process = world.new_process("sleeper")
    seen: list[float] = []

    async def sleep() -> None:
        await asyncio.sleep(3_600)
        seen.append(asyncio.get_running_loop().time())

    process.spawn(sleep())
    world.run_until(10**10)
    assert seen == [3_600.0]


def test_a_stopped_process_neither_runs_nor_sees_time_and_then_goes_on() -> None:
    world = World(0)
    process = world.new_process("stopped")
    seen: list[float] = []

    async def tick() -> None:
        while True:
            seen.append(asyncio.get_running_loop().time())
            await asyncio.sleep(1)

    process.spawn(tick())
    world.after(2_500, process.stop_running)
    world.after(7_200, process.resume)
    world.run_until(9_000_000)
    assert seen == [0, 1, 2, 7.2, 8.2]


def test_a_killed_process_never_runs_again_and_cleans_nothing_up() -> None:
    world = World(0)
    process = world.new_process("killed")
    seen: list[str] = []

    async def work() -> None:
        try:
            await asyncio.sleep(5)
        finally:
            seen.append("cleaned up")

    process.spawn(work())
    world.after(1_000, world.kill, process)
    world.run_until(9_000_000)
    assert seen == []


def test_a_jump_of_the_wall_clock_moves_no_anchored_clock() -> None:
    world = World(0)
    process = world.new_process("node")
    seen: list[int] = []

    async def look() -> None:
        clock = SystemClock()
        seen.append(clock.now_ms())
        clock.anchor(EPOCH_MS)
        process.wall_error_ms = -500
        await asyncio.sleep(1)
        seen.append(clock.now_ms())

    process.wall_error_ms = 77
    with virtual_machine():
        process.spawn(look())
        world.run_until(2_000_000)
    assert seen == [EPOCH_MS + 77, EPOCH_MS + 1_000]


class _Ears(asyncio.Protocol):
    def __init__(self) -> None:
        self.heard = b""
        self.is_lost = False

    def data_received(self, data: bytes) -> None:
        self.heard += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True


def _talk(world: World, network: Network) -> tuple[Any, _Ears]:
    server, client = world.new_process("server"), world.new_process("client")
    ears = _Ears()
    lines: list[Any] = []

    async def listen() -> None:
        await server.create_unix_server(lambda: ears, "/line")

    async def connect() -> None:
        lines.append((await client.create_unix_connection(_Ears, "/line"))[0])

    server.spawn(listen())
    world.run_until(1)
    client.spawn(connect())
    world.run_until(2)
    return lines[0], ears


def test_what_is_written_to_a_stream_arrives_in_order() -> None:
    world = World(0)
    line, ears = _talk(world, Network(world, 0))
    for number in range(50):
        line.write(bytes([number]))
    world.run_until(1_000_000)
    assert ears.heard == bytes(range(50))
    line.close()
    world.run_until(2_000_000)
    assert ears.is_lost


def test_a_stream_that_breaks_loses_what_is_on_its_way_and_tells_both_ends() -> None:
    world = World(0)
    network = Network(world, 0)
    line, ears = _talk(world, network)
    line.write(b"lost")
    network.streams[0].break_off()
    world.run_until(1_000_000)
    assert ears.heard == b""
    assert ears.is_lost
    assert line.protocol.is_lost


def test_a_late_request_is_carried_out_when_its_sender_has_given_up() -> None:
    world = World(0)
    process = world.new_process("actor")
    database = ModelDatabase(world, MemoryStore(), patience_ms=100)
    database.take_epoch(SHOW)
    database.trouble = Trouble(late_request=1.0)
    store = ModelStore(database, process)
    told: list[str] = []

    async def append() -> None:
        try:
            await store.append([Part(ID, 1, 1, [], 1)])
        except StoreSilent:
            told.append(f"silent, {len(database.store.entries(ID))} written")

    process.spawn(append())
    world.run_until(60_000_000)
    assert told == ["silent, 0 written"]
    assert [entry.seq for entry in database.store.entries(ID)] == [1]


def test_a_crash_of_the_database_keeps_what_was_carried_out() -> None:
    world = World(0)
    process = world.new_process("actor")
    database = ModelDatabase(world, MemoryStore(), patience_ms=1_000)
    database.take_epoch(SHOW)
    store = ModelStore(database, process)
    told: list[str] = []

    async def append() -> None:
        await store.append([Part(ID, 1, 1, [], 1)])
        database.crash()
        try:
            await store.append([Part(ID, 1, 2, [], 1)])
        except StoreSilent:
            told.append("silent")
        database.recover()
        told.append(
            str(await store.written([Part(ID, 1, 1, [], 1), Part(ID, 1, 2, [], 1)]) == [ID])
        )

    process.spawn(append())
    world.run_until(60_000_000)
    assert told == ["silent", "True"]
