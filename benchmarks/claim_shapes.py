"""Which shape of seat claim lets Postgres refuse an overlap at the least cost?

Run it with `python -m benchmarks.claim_shapes [--dsn DSN] [--seconds N] [--json FILE]`.

A show has one writer. It sends one statement per batch, and that statement is one call of one
plpgsql function and so one transaction: it fences the writer, ends holds, stores new holds, claims
their seat-legs and appends the batch to the journal. Whatever the Python code believes, Postgres
itself must refuse a claim that overlaps another one. All shapes in `claim_sql.py` do; they differ
in cost.

What makes the comparison fair:

- every shape proves its guard before it is timed (`check_guard`), a control that claims nothing
  must fail that proof, and after the run the claims must tell the same story as the holds;
- all shapes do the same work: the same seed gives every shape the same batches;
- rounds are interleaved in a random order, and ratios are taken inside a round, so that a slow
  minute of the machine hits all shapes alike; medians are reported;
- as many holds end as begin, so the claims do not grow; five other shows share their table;
- encoding the batch in Python is inside the timed part, making it up is not.
"""

import argparse
import asyncio
import json
import os
import platform
import random
import statistics
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import asyncpg

from benchmarks.claim_activation import measure_activation
from benchmarks.claim_sql import ENCODINGS, NO_CLAIMS, SHAPES, Encoding, Shape, schema_sql
from persistence.embedded_postgres import EmbeddedPostgres

CHOSEN = "C bits"
JOURNALS = ("jsonb STORAGE EXTERNAL", "json", "text", "text STORAGE EXTERNAL")
# Unique and exclusion violation, and the errors that the function raises itself.
REFUSALS = ("23505", "23P01", "HF001", "HF002", "HF003")
SIZES = ("claim_table_bytes", "claim_index_bytes", "journal_bytes")
BATCH_SIZES = (1, 16, 64, 256)
BATCHES_PER_ROUND = {1: 200, 16: 40, 64: 16, 256: 6}
FILL_BATCH = 64
SEATS_PER_HOLD = 2
OTHER_SHOWS = 5
SHOW_ID = 1
EPOCH = 7
EXPIRES_AT_MS = 1_900_000_000_000

# The planner cannot know how many rows a batch has. Left alone it reads whole tables to end one
# hold, and plans some statements anew for every batch: a batch of one takes three times as long.
# A writer in production needs the same settings.
SESSION = {
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "jit": "off",
}


@dataclass(frozen=True)
class Setting:
    """A show to sell: `fill` is the share of seat-legs that is held in the steady state."""

    name: str
    seats: int
    legs: int
    full_route: bool
    fill: float


SETTINGS = (
    Setting("1 leg", 20_000, 1, True, 0.75),
    Setting("8 legs", 800, 8, False, 0.5),
    Setting("51 legs", 800, 51, False, 0.5),
    Setting("51 legs, full route", 800, 51, True, 0.75),
)


class Workload:
    """Makes up batches that a correct seat map would produce; the same seed makes the same batches.

    Parties of two sit side by side, and both travel the same segment.
    """

    def __init__(self, setting: Setting, seed: int) -> None:
        self.setting = setting
        self._random = random.Random(seed)
        self._taken = [0] * (setting.seats // SEATS_PER_HOLD)
        self._live: list[tuple[str, int, int]] = []
        self.held_legs = 0

    def hold(self) -> dict[str, Any]:
        """Holds two free neighbours for a segment chosen at random."""
        pick = self._random
        while True:
            leg_from, leg_to = 0, self.setting.legs
            if not self.setting.full_route:
                leg_from, leg_to = sorted(pick.sample(range(self.setting.legs + 1), 2))
            mask = (1 << leg_to) - (1 << leg_from)
            for _ in range(100):
                party = int(pick.random() * len(self._taken))
                if not self._taken[party] & mask:
                    return self._keep(party, mask, leg_from, leg_to)

    def _keep(self, party: int, mask: int, leg_from: int, leg_to: int) -> dict[str, Any]:
        self._taken[party] |= mask
        self.held_legs += SEATS_PER_HOLD * mask.bit_count()
        hold_id = str(uuid.UUID(int=self._random.getrandbits(128), version=4))
        self._live.append((hold_id, party, mask))
        return hold(hold_id, [party * 2, party * 2 + 1], leg_from, leg_to)

    def end(self) -> dict[str, Any]:
        """Ends one of the live holds, any of them."""
        at = self._random.randrange(len(self._live))
        self._live[at], self._live[-1] = self._live[-1], self._live[at]
        hold_id, party, mask = self._live.pop()
        self._taken[party] ^= mask
        self.held_legs -= SEATS_PER_HOLD * mask.bit_count()
        return {"hold_id": hold_id, "state": "released"}

    def batch(self, holds: int, ends: int) -> dict[str, Any]:
        """The ends of a batch come before its holds, so a freed seat can be held again at once."""
        return {
            "ended": [self.end() for _ in range(ends)],
            "held": [self.hold() for _ in range(holds)],
        }


def hold(hold_id: str, seats: list[int], leg_from: int, leg_to: int) -> dict[str, Any]:
    """A new hold, as the journal tells it."""
    return {
        "hold_id": hold_id,
        "customer": f"cus_{hold_id[:12]}",
        "seats": seats,
        "leg_from": leg_from,
        "leg_to": leg_to,
        "expires_at_ms": EXPIRES_AT_MS,
    }


class Lane:
    """One schema with one shape in it, one connection to it, and the show's sequence number."""

    def __init__(
        self, name: str, conn: asyncpg.Connection, shape: Shape, encoding: Encoding
    ) -> None:
        self.name, self.conn, self.shape = name, conn, shape
        self._encode = encoding.encode
        self._seq = 0
        self._append: Any = None

    @classmethod
    async def open(
        cls, dsn: str, name: str, shape: Shape, encoding: Encoding, journal: str = "jsonb"
    ) -> "Lane":
        """Makes the lane's schema anew."""
        schema = f"claim_shapes_{''.join(c if c.isalnum() else '_' for c in name.lower())}"
        settings = {**SESSION, "search_path": f"{schema}, public"}
        conn = await asyncpg.connect(dsn, server_settings=settings)
        await conn.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE; CREATE SCHEMA {schema}")
        await conn.execute(schema_sql(shape, encoding, journal))
        return cls(name, conn, shape, encoding)

    async def close(self) -> None:
        """Drops the lane's schema."""
        schema = await self.conn.fetchval("SELECT current_schema()")
        await self.conn.execute(f"DROP SCHEMA {schema} CASCADE")
        await self.conn.close()

    async def start(self, setting: Setting) -> None:
        """Empties the tables and opens the show."""
        await self.conn.execute("TRUNCATE show_owner, hold, journal, seat_claim")
        await self.conn.execute(
            "INSERT INTO show_owner SELECT $1 + n, $2, 0, $3 FROM generate_series(0, $4::int) n",
            *(SHOW_ID, EPOCH, setting.legs, OTHER_SHOWS),
        )
        if self.shape.publish:
            await self.conn.execute(self.shape.publish, setting.seats, setting.legs)
        self._seq = 0
        parameters = await self.conn.fetchval(
            "SELECT pronargs FROM pg_proc WHERE oid = 'append_batch'::regproc"
        )
        places = ", ".join(f"${n + 1}" for n in range(parameters))
        self._append = await self.conn.prepare(f"SELECT append_batch({places})")

    async def append(self, batch: dict[str, Any], epoch: int = EPOCH, ahead: int = 1) -> float:
        """Appends a batch and returns the seconds that took, encoding included."""
        began = time.perf_counter()
        await self._append.fetchval(SHOW_ID, epoch, self._seq + ahead, *self._encode(batch))
        took = time.perf_counter() - began
        self._seq += 1
        return took

    async def neighbours(self) -> None:
        """Gives other shows the same claims, so that index and planner meet a shared table."""
        columns = await self.conn.fetchval(
            """SELECT string_agg(attname, ', ' ORDER BY attnum) FROM pg_attribute
            WHERE attrelid = 'seat_claim'::regclass AND attnum > 0"""
        )
        await self.conn.execute(
            f"""INSERT INTO seat_claim ({columns}) {self.shape.copy_show}
            FROM seat_claim, generate_series(2, {OTHER_SHOWS + 1}) n"""
        )
        await self.conn.execute("VACUUM (ANALYZE) seat_claim, hold, show_owner, journal")


async def check_guard(lane: Lane, legs: int) -> None:
    """Proves that Postgres refuses what a wrong program might send, and keeps nothing of it."""
    await lane.start(Setting("guard", 10, legs, True, 0))
    ids = [str(uuid.UUID(int=n, version=4)) for n in range(20)]
    half = max(1, legs // 2)
    free = list(range(6, 10)) if legs == 1 else [0, 1]
    later = (0, 1) if legs == 1 else (half, legs)

    def held(*holds: dict[str, Any], ended: tuple[str, ...] = ()) -> dict[str, Any]:
        return {"held": holds, "ended": [{"hold_id": e, "state": "released"} for e in ended]}

    async def refused(why: str, batch: dict[str, Any], epoch: int = EPOCH, ahead: int = 1) -> None:
        before = await lane.conn.fetchval(lane.shape.claimed_legs, SHOW_ID)
        sqlstate = None
        try:
            await lane.append(batch, epoch, ahead)
        except asyncpg.PostgresError as error:
            sqlstate = error.sqlstate
        assert sqlstate in REFUSALS, f"{lane.name}, {legs} legs: {why} gave {sqlstate}"
        assert await lane.conn.fetchval(lane.shape.claimed_legs, SHOW_ID) == before, why

    first = hold(ids[0], [0, 1], 0, half)
    await lane.append(held(first))
    await refused("an overlapping claim", held(hold(ids[1], [0, 1], 0, 1)))
    await refused("one taken seat of two", held(hold(ids[1], [1, 2], 0, legs)))
    await refused("a stale epoch", held(hold(ids[1], [4, 5], 0, legs)), epoch=EPOCH - 1)
    await refused("a repeated sequence", held(hold(ids[1], [4, 5], 0, legs)), ahead=0)
    await refused("an unknown hold's end", held(ended=(ids[9],)))
    await lane.append(held(hold(ids[2], free[:2], *later)))
    await refused("a claim over both", held(hold(ids[3], [0], 0, legs)))
    twice = hold(ids[4], [4, 5], 0, half), hold(ids[5], [5], half - 1, legs)
    await refused("one seat twice in one batch", held(*twice))
    await refused("one seat twice in one hold", held(hold(ids[4], [5, 5], 0, legs)))
    if lane.shape.knows_route:
        await refused("a segment beyond the route", held(hold(ids[4], [5], 0, legs + 1)))
        await refused("a leg beyond the route", held(hold(ids[4], [5], legs, legs + 1)))
    await lane.append(held(twice[0], ended=(ids[0],)))
    await refused("one end twice", held(ended=(ids[2], ids[2])))
    await refused("the end of an ended hold", held(ended=(ids[0],)))
    await lane.append(held({**first, "hold_id": ids[6]}))
    await refused("the end of an ended hold whose seats another holds", held(ended=(ids[0],)))
    if legs > 1:
        await lane.append(held(hold(ids[7], [7], 0, half), hold(ids[8], [7], half, legs)))
        await lane.append(held(hold(ids[10], [8], 0, legs), ended=(ids[7], ids[8])))
    await check_same_story(lane)
    await lane.conn.execute(lane.shape.wipe)
    await refused("the end of a hold whose claims are gone", held(ended=(ids[6],)))


async def check_same_story(lane: Lane) -> None:
    """Proves that the claims are exactly the seat-legs of the live holds."""
    claimed = await lane.conn.fetchval(lane.shape.claimed_legs, SHOW_ID)
    live = await lane.conn.fetchval(
        """SELECT sum(cardinality(seats) * (leg_to - leg_from)) FROM hold
        WHERE show_id = $1 AND state = 'held'""",
        SHOW_ID,
    )
    assert claimed == live, f"{lane.name}: {claimed} claimed seat-legs, {live} in live holds"


@dataclass
class Cell:
    """What one lane did with one batch size in one setting."""

    seconds: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)

    def add_round(self, size: int, seconds: list[float]) -> None:
        """Keeps a round's batches and its rate."""
        self.seconds += seconds
        self.rates.append(size * len(seconds) / sum(seconds))

    def summary(self, reference: "Cell") -> dict[str, Any]:
        """Medians over rounds; the ratio compares rounds that ran side by side."""
        ordered = sorted(self.seconds)
        ratios = [mine / theirs for mine, theirs in zip(self.rates, reference.rates, strict=True)]
        return {
            "holds_per_second": round(statistics.median(self.rates)),
            "ratio": round(statistics.median(ratios), 2),
            "batch_p50_ms": round(ordered[len(ordered) // 2] * 1000, 2),
            "batch_p99_ms": round(ordered[int(len(ordered) * 0.99)] * 1000, 2),
            "batches": len(ordered),
        }


async def fill(lane: Lane, workload: Workload) -> float:
    """Sells from an empty map up to the setting's share, as an on-sale does.

    Returns:
        Holds per second.
    """
    setting, seconds, holds = workload.setting, 0.0, 0
    while workload.held_legs < setting.fill * setting.seats * setting.legs:
        seconds += await lane.append(workload.batch(FILL_BATCH, 0))
        holds += FILL_BATCH
    return holds / seconds


async def measure(lanes: list[Lane], setting: Setting, budget_seconds: float) -> dict[str, Any]:
    """Runs interleaved rounds of equal work over all lanes until the budget is used, or three."""
    workloads, filled, wal_bytes = {}, {}, dict.fromkeys((lane.name for lane in lanes), 0)
    for lane in lanes:
        workloads[lane.name] = Workload(setting, seed=11)
        await lane.start(setting)
        filled[lane.name] = await fill(lane, workloads[lane.name])
        await lane.neighbours()
    cells = {(lane.name, size): Cell() for lane in lanes for size in BATCH_SIZES}
    order = random.Random(5)
    rounds, holds, began = 0, 0, time.monotonic()
    while rounds < 3 or time.monotonic() - began < budget_seconds:
        for size in BATCH_SIZES:
            for lane in order.sample(lanes, len(lanes)):
                wal = await lane.conn.fetchval("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn")
                work = workloads[lane.name]
                seconds = [
                    await lane.append(work.batch(size, size))
                    for _ in range(BATCHES_PER_ROUND[size])
                ]
                cells[lane.name, size].add_round(size, seconds)
                wal_bytes[lane.name] -= int(wal)
                wal_bytes[lane.name] += int(
                    await lane.conn.fetchval("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn")
                )
            holds += size * BATCHES_PER_ROUND[size]
        rounds += 1
    report: dict[str, Any] = {
        "setting": setting.name,
        "rounds": rounds,
        "holds": holds,
        "lanes": {},
    }
    for lane in lanes:
        await check_same_story(lane)
        sizes = await lane.conn.fetchrow(
            """SELECT pg_table_size('seat_claim') AS claim_table_bytes,
              pg_indexes_size('seat_claim') AS claim_index_bytes,
              pg_total_relation_size('journal') AS journal_bytes"""
        )
        assert sizes is not None
        report["lanes"][lane.name] = {
            "fill_holds_per_second": round(filled[lane.name]),
            "wal_bytes_per_hold": round(wal_bytes[lane.name] / holds),
            **{part: sizes[part] for part in SIZES},
            "batches_of": {
                size: cells[lane.name, size].summary(cells[lanes[0].name, size])
                for size in BATCH_SIZES
            },
        }
    return report


async def measure_shapes(dsn: str, seconds: float) -> list[dict[str, Any]]:
    """Compares the shapes, one document per batch, in every setting."""
    lanes = []
    for name, shape in SHAPES.items():
        try:
            lanes.append(await Lane.open(dsn, name, shape, ENCODINGS["recordset"]))
        except asyncpg.UndefinedObjectError as error:
            print(f"{name} is left out: {error} (the server has no btree_gist)")
    for lane in lanes:
        for legs in (1, 8, 51, 130):
            await check_guard(lane, legs)
        print(f"{lane.name}: {lane.shape.what}; refuses overlaps at 1, 8, 51 and 130 legs")
    reports = []
    control = await Lane.open(dsn, "no claims", NO_CLAIMS, ENCODINGS["recordset"])
    try:
        await check_guard(control, 8)
    except AssertionError:
        lanes.append(control)
    else:
        raise SystemExit("the proof of the guard is worthless: a shape without claims passed it")
    for setting in SETTINGS:
        reports.append(await measure(lanes, setting, seconds / len(SETTINGS)))
        print_report(reports[-1])
    for lane in lanes:
        await lane.close()
    return reports


async def measure_encodings(dsn: str, seconds: float) -> dict[str, Any]:
    """Compares, on the chosen shape, ways to send a batch and types of the journal's column."""
    pairs = [(encoding, "jsonb") for encoding in ENCODINGS]
    pairs += [("recordset", journal) for journal in JOURNALS]
    pairs += [("arrays", "text STORAGE EXTERNAL")]
    lanes = []
    for encoding, journal in pairs:
        name = f"{encoding}, {journal}"
        lane = await Lane.open(dsn, name, SHAPES[CHOSEN], ENCODINGS[encoding], journal)
        await check_guard(lane, 8)
        lanes.append(lane)
    report = await measure(lanes, SETTINGS[0], seconds)
    print_report(report)
    for lane in lanes:
        await lane.close()
    return report


def print_report(report: dict[str, Any]) -> None:
    """Prints a setting: holds/s, ratio to the first line, p50 and p99 ms of a batch, by size."""
    print(
        f"\n{report['setting']}: {report['holds']} holds per line in {report['rounds']} rounds;",
        end="",
    )
    print(" holds/s (ratio to first line) p50/p99 ms of a batch, by batch size")
    sizes = "".join(f"{size:>34}" for size in BATCH_SIZES)
    print(f"{'':32}{sizes}{'fill/s':>9}{'WAL B':>7}{'table KiB':>11}{'index':>8}{'journal':>9}")
    for name, lane in report["lanes"].items():
        print(f"{name:32}", end="")
        for cell in lane["batches_of"].values():
            rate = f"{cell['holds_per_second']:,} ({cell['ratio']:.2f})"
            print(f"{rate:>17} {cell['batch_p50_ms']:7.2f}/{cell['batch_p99_ms']:<8.2f}", end="")
        kib = [
            lane[part] // 1024
            for part in ("claim_table_bytes", "claim_index_bytes", "journal_bytes")
        ]
        print(f"{lane['fill_holds_per_second']:>9,}{lane['wal_bytes_per_hold']:>7,}", end="")
        print(f"{kib[0]:>11,}{kib[1]:>8,}{kib[2]:>9,}", flush=True)


async def describe(dsn: str) -> dict[str, str]:
    """Names the machine and the versions that the figures belong to."""
    conn = await asyncpg.connect(dsn)
    await conn.execute(
        """DO $$ BEGIN CREATE EXTENSION IF NOT EXISTS btree_gist SCHEMA public;
        EXCEPTION WHEN undefined_file OR feature_not_supported THEN NULL; END $$"""
    )
    names = ("server_version", "fsync", "synchronous_commit", "shared_buffers", "max_wal_size")
    facts = {name: await conn.fetchval("SELECT current_setting($1)", name) for name in names}
    await conn.close()
    cpu = platform.processor() or platform.machine()
    if (cpuinfo := Path("/proc/cpuinfo")).exists():
        lines = cpuinfo.read_text().splitlines()
        cpu = next(
            (line.partition(": ")[2] for line in lines if line.startswith("model name")), cpu
        )
    return {
        "machine": f"{os.cpu_count()} x {cpu}, {platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "asyncpg": asyncpg.__version__,
        **facts,
    }


async def measure_all(dsn: str, seconds: float) -> dict[str, Any]:
    """Runs everything: two thirds of the time for shapes, one for encodings, then activation."""
    facts = await describe(dsn)
    print(", ".join(f"{name} {value}" for name, value in facts.items()))
    report: dict[str, Any] = {"facts": facts}
    report["shapes"] = await measure_shapes(dsn, seconds * 2 / 3)
    report["encodings"] = await measure_encodings(dsn, seconds / 3)
    lane = await Lane.open(dsn, "activation", SHAPES[CHOSEN], ENCODINGS["recordset"])
    await lane.conn.execute("SET enable_seqscan = on")
    report["activation_ms"] = await measure_activation(lane.conn)
    await lane.close()
    print("\nactivation of a sold-out show of 50,000 seats, ms:")
    print("\n".join(f"  {name:20}{ms:8.1f}" for name, ms in report["activation_ms"].items()))
    return report


def main() -> None:
    """Parses the command line, measures, prints tables and writes the report if asked."""
    parser = argparse.ArgumentParser(description="Compares shapes of seat claims in Postgres.")
    parser.add_argument("--dsn", help="a server to use; without it a private one is started")
    parser.add_argument("--seconds", type=float, default=240.0, help="time to measure for")
    parser.add_argument("--json", type=Path, help="file to write all figures to")
    options = parser.parse_args()
    if options.dsn:
        report = asyncio.run(measure_all(options.dsn, options.seconds))
    else:
        with TemporaryDirectory() as home, EmbeddedPostgres(Path(home)) as server:
            report = asyncio.run(measure_all(server.dsn(), options.seconds))
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
