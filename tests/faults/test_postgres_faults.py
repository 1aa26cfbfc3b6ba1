"""Postgres crashes, freezes, refuses, is blocked or is full: F11, F12, F14 and F15."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import asyncpg
import psutil
import pytest

from actors.activation import connect_refs
from persistence.catalogue import Catalogue
from persistence.embedded_postgres import EmbeddedPostgres
from persistence.migrate import migrate
from persistence.plan_codec import plan_id_of
from persistence.sessions import open_pool
from persistence.shards import ShardMap
from reservation.events import SeatsHeld
from reservation.faults import Fault, NotDone
from reservation.seat_map import Repeated
from tests.support.house import hold, until
from tests.support.ray_house import RayHouse
from tests.support.ray_load import Load

measured = logging.getLogger("measured")

FROZEN_S = 20
DISK_BYTES = 120 * 2**20


async def test_f11_postgres_that_crashes_loses_nothing_and_every_outcome_gets_known(
    house: RayHouse,
) -> None:
    show = await house.add_show()
    load = Load(house.refs.ask, [show])
    await load.until_booked()
    postmaster = house.postgres.pid
    await asyncio.to_thread(house.postgres.stop, "immediate")
    stopped_ns = time.monotonic_ns()
    await asyncio.sleep(2)
    certain = [attempt.answered_ns for attempt in load.recorder.certain()]
    assert max(certain) < stopped_ns, "something was acknowledged without a store"
    # From the main thread: the server ends with the thread that has started it.
    house.postgres.start()
    started_at = time.monotonic()
    assert house.postgres.pid != postmaster
    seconds = await load.first_new_hold(show, started_at)
    measured.info("Postgres crash: first new hold %.2f s after it was back", seconds)
    await load.until_booked()
    await load.stop()
    await house.check(load)


@contextmanager
def frozen(postmaster: int) -> Iterator[list[int]]:
    """Stop every process of a server with a signal; all of them go on afterwards."""
    stopped: list[int] = []
    try:
        root = psutil.Process(postmaster)
        for process in [root, *root.children(recursive=True)]:
            os.kill(process.pid, signal.SIGSTOP)
            stopped.append(process.pid)
        yield stopped
    finally:
        for pid in stopped:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def is_stopped(pid: int) -> bool:
    """Whether it has been stopped; one that has ended sends nothing, either."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_STOPPED
    except psutil.NoSuchProcess:
        return True


@pytest.mark.slow_faults
async def test_f12_postgres_that_is_frozen_for_twenty_seconds_makes_nobody_wait_for_ever(
    house: RayHouse,
) -> None:
    show = await house.add_show()
    load = Load(house.refs.ask, [show])
    await load.until_booked()
    with frozen(house.postgres.pid) as stopped:
        await until(lambda: all(is_stopped(pid) for pid in stopped))
        frozen_ns = time.monotonic_ns()
        await asyncio.sleep(FROZEN_S)
        assert load.answered_between(frozen_ns + 10**8, time.monotonic_ns()) == 0
        told = [a.told for a in load.recorder.attempts if a.answered_ns > frozen_ns + 10**8]
        assert len(told) > FROZEN_S / 5, "callers were left waiting"
        assert load.not_done > 0, "nobody was told to come again"
    assert len(stopped) > 3
    seconds = await load.first_new_hold(show, time.monotonic())
    measured.info("Postgres frozen for %d s: first new hold %.2f s later", FROZEN_S, seconds)
    await load.until_booked()
    await load.stop()
    await house.check(load)


async def test_f14_an_owner_that_is_frozen_inside_a_transaction_keeps_nobody_from_the_show(
    house: RayHouse,
) -> None:
    show = await house.add_show()
    load = Load(house.refs.ask, [show])
    await load.until_booked(5)
    await load.stop()
    owner = await house.pool.fetchval(
        "SELECT owner FROM show_owner WHERE show_id = $1", show.show_id
    )
    stuck = await asyncpg.connect(house.dsn, server_settings={"application_name": owner})
    await stuck.execute("BEGIN")
    await stuck.execute("SELECT FROM show_owner WHERE show_id = $1 FOR UPDATE", show.show_id)
    assert not stuck.is_closed()
    os.kill(await house.pid_of(show), signal.SIGKILL)
    seconds = await load.first_new_hold(show, time.monotonic())
    measured.info("an owner stuck in a transaction: first new hold after %.2f s", seconds)
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
        await stuck.execute("COMMIT")
    assert stuck.is_closed(), "its session was not ended"
    await house.check(load)


async def test_f11_a_database_that_refuses_everybody_makes_commands_not_done_and_not_unknown(
    house: RayHouse,
) -> None:
    """No store, no actor in memory: nothing can have happened, and the caller is told so."""
    show = await house.add_show()
    refused = hold(show.show_id, 0)
    connection = await asyncpg.connect(house.postgres.dsn())
    try:
        await connection.execute("ALTER DATABASE housefull ALLOW_CONNECTIONS false")
        # The actor itself, because a ref goes on asking until its deadline is there.
        reply = await house.actor_of(show)([(show.show_id, refused)])
        assert isinstance(reply.answers[0], NotDone)
        with pytest.raises(Fault) as told:
            await house.refs.ask(show.show_id, refused, deadline_ms=1_000)
    finally:
        await connection.execute("ALTER DATABASE housefull ALLOW_CONNECTIONS true")
        await connection.close()
    outcome = await house.refs.ask(show.show_id, refused)
    if isinstance(told.value, NotDone):
        assert isinstance(outcome, SeatsHeld), outcome
    else:
        # It was under way when the deadline came, and the database let its owner in again.
        assert isinstance(outcome, (SeatsHeld, Repeated)), outcome
    await house.verify(show)


# -- a full disk ----------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own that is soon full."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "housefull-test", str(disk)]
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root may mount a small file system")
    ended = subprocess.run(mount, capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        pytest.skip(f"no small file system here: {ended.stderr.strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


@asynccontextmanager
async def house_on(disk: Path, house: RayHouse) -> AsyncIterator[RayHouse]:
    """The same Ray, with a Postgres on this disk."""
    # No room for a second segment of the log beside the first ones.
    settings = {"max_wal_size": "32MB", "min_wal_size": "32MB", "shared_buffers": "16MB"}
    with EmbeddedPostgres(disk / "postgres", settings=settings) as postgres:
        dsn = postgres.dsn()
        await migrate(dsn)
        pool = await open_pool(dsn, "tests", size_max=4)
        await Catalogue(pool).put_plan(plan_id_of(house.plan), house.plan, {}, {})
        config = replace(house.config, shards=ShardMap.even((dsn,)))
        full = RayHouse(postgres, config, pool, house.plan)
        full.refs = connect_refs(config, full.catalogue.placement_of)
        yield full
        await pool.close()


async def test_f15_a_full_disk_is_not_done_and_selling_goes_on_when_there_is_room_again(
    house: RayHouse, small_disk: Path
) -> None:
    async with house_on(small_disk, house) as full:
        show = await full.add_show()
        load = Load(full.refs.ask, [show])
        await load.until_booked()
        ballast = small_disk / "ballast"
        with suppress(OSError), ballast.open("wb") as file:
            while True:
                file.write(bytes(2**16))
                file.flush()
        full_ns = time.monotonic_ns()
        assert shutil.disk_usage(small_disk).free < 2**16, "the disk is not full"
        log = full.postgres.data_dir / "postgres.log"
        await until(
            lambda: "No space left on device" in log.read_text(errors="replace"), timeout_s=90
        )
        await asyncio.sleep(3)
        measured.info("a full disk: Postgres runs: %s", full.postgres.is_running)
        ballast.unlink()
        # The log itself may have been full: then the server stops, and somebody starts it again.
        if not full.postgres.is_running:
            full.postgres.start()
        seconds = await load.first_new_hold(show, time.monotonic())
        measured.info("a full disk: first new hold %.2f s after there was room again", seconds)
        await load.until_booked()
        await load.stop()
        assert load.acknowledged_since(full_ns) > 0
        await full.check(load)
