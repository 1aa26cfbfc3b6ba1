"""A seller is paused between its check and its write: who sells the same seats twice.

A Redis lock ends while its holder is paused. Without a guard in the database that holder writes all
the same. Ours, paused at the same place, is refused by the epoch. One audit judges all of them.
"""

from __future__ import annotations

import asyncio

import uvloop

from benchmarks.bench import Bench
from benchmarks.contenders.place_tables import open_contender_pool
from benchmarks.contenders.redlock import open_lock_server
from benchmarks.grounds import Databases
from benchmarks.paused_holder import Paused, pause_actor, pause_redlock
from benchmarks.results import Aim, ScenarioResult
from persistence.migrate import migrate
from persistence.provisioning import ensure_database

NAME = "pause_fault"


def run(bench: Bench) -> ScenarioResult:
    """See the module's docstring."""
    databases = bench.grounds.databases()
    dsn = databases.postgres.dsn(NAME)
    asyncio.run(ensure_database(databases.postgres.dsn(), NAME))
    asyncio.run(migrate(dsn))
    return uvloop.run(_run(bench, databases, dsn))


async def _run(bench: Bench, databases: Databases, dsn: str) -> ScenarioResult:
    result = ScenarioResult(NAME, "faults found after a pause between check and write")
    pool = await open_contender_pool(databases.contenders_dsn, size=4)
    redis = open_lock_server(databases.valkey.url)
    try:
        bench.say("redlock, without and with a guard in the database")
        trusting = await pause_redlock(databases.contenders_dsn, pool, redis, is_guarded=False)
        guarded = await pause_redlock(databases.contenders_dsn, pool, redis, is_guarded=True)
        bench.say("actor")
        ours = await pause_actor(dsn)
    finally:
        await redis.aclose()
        await pool.close()
    # What the trusting one sold twice is shown, not counted against the run.
    bench.audit.faults += [f"pause_fault: {fault}" for fault in (*guarded.faults, *ours.faults)]
    _note(result, "redlock_without_guard", trusting)
    _note(result, "redlock", guarded)
    _note(result, "actor", ours)
    what = f"{NAME}: faults of redlock without a database guard"
    result.aims.append(Aim.at_least(what, len(trusting.faults), 1))
    for name, found in (("redlock with a database guard", guarded), ("actor", ours)):
        result.aims.append(Aim.at_most(f"{NAME}: faults of {name}", len(found.faults), 0))
    return result


def _note(result: ScenarioResult, name: str, found: Paused) -> None:
    result.figures[f"{name}_faults"] = len(found.faults)
    sellers = int(found.first) + int(found.second)
    result.notes.append(f"{name}: {sellers} of 2 buyers were told that they have the seats")
    result.notes += [f"{name}: {fault}" for fault in found.faults]
