"""How fast can an actor load a sold-out show of 50,000 seats, 25,000 bookings of two?

Every style below ends with the same two things in Python: the bookings by id, and one integer per
seat with a bit per leg. `holds_*` reads only the holds and derives the occupancy from them;
`claims_*` reads only the claims.
"""

import gc
import json
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg

SHOW_ID = 90
SEATS = 50_000
LIVE = f"FROM hold WHERE show_id = {SHOW_ID} AND state IN ('held', 'booked')"
CLAIMED = f"FROM seat_claim WHERE show_id = {SHOW_ID}"
COLUMNS = "hold_id, customer, seats, leg_from, leg_to, state, expires_at_ms"
LINE = r"""concat_ws(E'\t', hold_id, customer, array_to_string(seats, ','), leg_from, leg_to, state,
  expires_at_ms)"""

Holds = dict[str, tuple[Any, ...]]
Loaded = tuple[Holds | None, list[int]]


async def sell_out(conn: asyncpg.Connection) -> None:
    """Stores the show in the tables of the bits shape, random ids as in real life."""
    await conn.execute(
        f"""INSERT INTO show_owner VALUES ({SHOW_ID}, 1, 0, 1);
        INSERT INTO hold SELECT gen_random_uuid(), {SHOW_ID}, 'cus_' || n,
          ARRAY[2 * n, 2 * n + 1], 0, 1, 'booked', 1900000000000, n / 64
          FROM generate_series(0, {SEATS // 2 - 1}) n;
        INSERT INTO seat_claim SELECT {SHOW_ID}, n, '1' FROM generate_series(0, {SEATS - 1}) n"""
    )
    await conn.execute("VACUUM (ANALYZE) hold, seat_claim")


def occupy(holds: Holds) -> Loaded:
    """Derives the occupancy of every seat from the holds."""
    taken = [0] * SEATS
    for _, seats, leg_from, leg_to, _, _ in holds.values():
        mask = (1 << leg_to) - (1 << leg_from)
        for seat in seats:
            taken[seat] |= mask
    return holds, taken


async def holds_rows(conn: asyncpg.Connection) -> Loaded:
    """One record per hold."""
    rows = await conn.fetch(f"SELECT {COLUMNS} {LIVE}")
    return occupy({str(i): (c, s, f, t, state, at) for i, c, s, f, t, state, at in rows})


async def holds_rows_text_id(conn: asyncpg.Connection) -> Loaded:
    """One record per hold; the id leaves Postgres as text, so no UUID object is made."""
    rows = await conn.fetch(f"SELECT hold_id::text{COLUMNS[7:]} {LIVE}")
    return occupy({i: (c, s, f, t, state, at) for i, c, s, f, t, state, at in rows})


async def holds_array_agg(conn: asyncpg.Connection) -> Loaded:
    """One record, one array per column; seats as text because parties differ in size."""
    row = await conn.fetchrow(
        f"""SELECT array_agg(hold_id::text), array_agg(customer),
        array_agg(array_to_string(seats, ',')), array_agg(leg_from), array_agg(leg_to),
        array_agg(state), array_agg(expires_at_ms) {LIVE}"""
    )
    assert row is not None
    ids, *columns = row
    columns[1] = [list(map(int, seats.split(","))) for seats in columns[1]]
    return occupy(dict(zip(ids, zip(*columns, strict=True), strict=True)))


def parse_lines(text: str) -> Loaded:
    """Reads tab-separated lines, a hold each."""
    holds: Holds = {}
    for line in text.splitlines():
        i, c, s, f, t, state, at = line.split("\t")
        holds[i] = (c, list(map(int, s.split(","))), int(f), int(t), state, int(at))
    return occupy(holds)


async def holds_string_agg(conn: asyncpg.Connection) -> Loaded:
    """One text value with a line per hold."""
    return parse_lines(await conn.fetchval(rf"SELECT string_agg({LINE}, E'\n') {LIVE}"))


async def holds_copy(conn: asyncpg.Connection) -> Loaded:
    """COPY TO in text format; seats come as `{1,2}`."""
    chunks: list[bytes] = []

    async def keep(chunk: bytes) -> None:
        chunks.append(chunk)

    query = f"SELECT hold_id, customer, array_to_string(seats, ','){COLUMNS[24:]} {LIVE}"
    await conn.copy_from_query(query, output=keep)
    return parse_lines(b"".join(chunks).decode())


async def holds_json_agg(conn: asyncpg.Connection) -> Loaded:
    """One JSON document, an array per hold."""
    text = await conn.fetchval(f"SELECT json_agg(json_build_array({COLUMNS}))::text {LIVE}")
    return occupy({i: (c, s, f, t, state, at) for i, c, s, f, t, state, at in json.loads(text)})


async def claims_rows(conn: asyncpg.Connection) -> Loaded:
    """One record per claim, the first leg first."""
    taken = [0] * SEATS
    for seat, bits in await conn.fetch(f"SELECT seat_index, taken::text {CLAIMED}"):
        taken[seat] = int(bits[::-1], 2)
    return None, taken


async def claims_array_agg(conn: asyncpg.Connection) -> Loaded:
    """One record, one array per column."""
    columns = await conn.fetchrow(f"SELECT array_agg(seat_index), array_agg(taken::text) {CLAIMED}")
    assert columns is not None
    taken = [0] * SEATS
    for seat, bits in zip(columns[0], columns[1], strict=True):
        taken[seat] = int(bits[::-1], 2)
    return None, taken


async def claims_by_value(conn: asyncpg.Connection) -> Loaded:
    """One record per distinct occupancy; a sold-out theatre has one."""
    taken = [0] * SEATS
    query = f"SELECT taken::text, array_agg(seat_index) {CLAIMED} GROUP BY taken"
    for bits, seats in await conn.fetch(query):
        mask = int(bits[::-1], 2)
        for seat in seats:
            taken[seat] = mask
    return None, taken


STYLES: tuple[Callable[[asyncpg.Connection], Awaitable[Loaded]], ...] = (
    holds_rows,
    holds_rows_text_id,
    holds_array_agg,
    holds_string_agg,
    holds_copy,
    holds_json_agg,
    claims_rows,
    claims_array_agg,
    claims_by_value,
)


def in_common_form(holds: Holds | None) -> Holds | None:
    """Lists and tuples of seats compare equal here."""
    return holds and {
        i: (c, list(s), f, t, state, at) for i, (c, s, f, t, state, at) in holds.items()
    }


async def measure_activation(conn: asyncpg.Connection, rounds: int = 9) -> dict[str, float]:
    """Milliseconds of each style, median of interleaved rounds; all must load the same show."""
    await sell_out(conn)
    seconds: dict[str, list[float]] = {style.__name__: [] for style in STYLES}
    expected, _ = await holds_rows(conn)
    for _ in range(rounds):
        for style in STYLES:
            # The rubbish of the style before is not this one's cost.
            holds = None
            gc.collect()
            began = time.perf_counter()
            holds, taken = await style(conn)
            seconds[style.__name__].append(time.perf_counter() - began)
            assert taken == [1] * SEATS, style.__name__
            assert holds is None or in_common_form(holds) == in_common_form(expected), (
                style.__name__
            )
    return {name: round(statistics.median(took) * 1000, 1) for name, took in seconds.items()}
