"""The journal on Postgres when the line or the server fails: nothing is lost, doubled or guessed.

The faults are real: a server that is killed, stopped or frozen, and a line that loses a request
or an answer (``tests/support/lossy_proxy.py``).
"""

from __future__ import annotations

import asyncio
import itertools
import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import psutil
import pytest

from persistence.claim_blocks import claims_of
from persistence.codec import decode_events
from persistence.embedded_postgres import EmbeddedPostgres
from persistence.migrate import ensure_application_role, migrate
from persistence.postgres_journal import PostgresJournal
from persistence.projection import Projection
from persistence.queries import load_queries
from persistence.sessions import Connection
from persistence.shards import ShardMap
from persistence.timed_connection import TimedConnection, WriterConnection
from persistence.verification import verify_shows
from reservation.events import Arrangement, BookingConfirmed, Event, SeatsHeld
from reservation.faults import Diverged, Fenced, ShowUnavailable
from reservation.ids import CustomerId, ShowId, booking_id_of, derive_hold_id
from reservation.route import Segment
from reservation.show import Show
from tests.conftest import APPLICATION_PASSWORD, APPLICATION_ROLE, House
from tests.support.histories import RandomLife, make_show
from tests.support.lossy_proxy import LossyProxy

LIVENESS_S = 30.0
SHOWS = [make_show(f"journal {n}", legs=1 + n, capacities=(5,)) for n in range(3)]
SHOW = SHOWS[0]
numbers = itertools.count(1)


def open_journal(dsn: str) -> PostgresJournal:
    return PostgresJournal(dsn, f"owner-{next(numbers)}")


@pytest.fixture
async def superuser(empty_house: House) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(empty_house.superuser_dsn)
    yield connection
    await connection.close()


@pytest.fixture
async def proxy(empty_house: House) -> AsyncIterator[LossyProxy]:
    with tempfile.TemporaryDirectory(prefix="line") as directory:
        async with LossyProxy(empty_house.application_dsn, Path(directory)).running() as proxy:
            yield proxy


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time-outs of a fraction of a second: the tests wait for them, they do not measure them."""
    monkeypatch.setattr(WriterConnection, "answer_within_s", 0.3)
    monkeypatch.setattr(TimedConnection, "answer_within_s", 1.0)


async def stored(connection: Connection, show_id: ShowId) -> list[Event]:
    """Every event of a show, with its journal numbers checked."""
    rows = await connection.fetch(
        "SELECT seq, events FROM journal WHERE show_id = $1 ORDER BY seq", show_id
    )
    assert [row[0] for row in rows] == list(range(1, len(rows) + 1))
    return [event for row in rows for event in decode_events(row[1])]


async def assert_verified(dsn: str, *lives: RandomLife) -> None:
    """The journal has each life, all of it and once, and the tables agree with the journal."""
    async with asyncpg.create_pool(dsn, min_size=1, max_size=1) as pool:
        verdicts = [v async for v in verify_shows([pool], ShardMap.even((dsn,)))]
        assert len(verdicts) == len(lives)
        assert [verdict.faults for verdict in verdicts] == [[]] * len(lives)
        async with pool.acquire() as connection:
            for life in lives:
                assert await stored(connection, life.seat_map.show.show_id) == life.history


def life_of(show: Show, seed: int = 1) -> RandomLife:
    return RandomLife(show, seed)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that must come true some time."""
    async with asyncio.timeout(LIVENESS_S):
        while not condition():  # noqa: ASYNC110 - there is nothing else to wait for
            await asyncio.sleep(0.01)


# -- one bad line ---------------------------------------------------------------------------------


async def test_a_lost_answer_is_looked_up_and_nothing_is_written_twice(
    proxy: LossyProxy, empty_house: House
) -> None:
    journal, life = open_journal(proxy.dsn), life_of(SHOW)
    batches = life.batches(5)
    await journal.activate(SHOW)
    await journal.append(SHOW.show_id, next(batches))
    proxy.lose_answer(SHOW.show_id)
    assert await journal.append(SHOW.show_id, next(batches)) == 2
    assert proxy.lost.is_set()
    assert await journal.append(SHOW.show_id, next(batches)) == 3
    assert journal.stalled_ms == 0
    # Also while more is waiting behind the batch whose answer is lost.
    proxy.lose_answer(SHOW.show_id)
    fourth = journal.append(SHOW.show_id, next(batches))
    await proxy.lost.wait()
    fifth = journal.append(SHOW.show_id, next(batches))
    assert await asyncio.gather(fourth, fifth) == [4, 5]
    await journal.close()
    await assert_verified(empty_house.superuser_dsn, life)


async def test_a_lost_request_is_sent_again_once(proxy: LossyProxy, empty_house: House) -> None:
    journal, life = open_journal(proxy.dsn), life_of(SHOW)
    batches = life.batches(3)
    await journal.activate(SHOW)
    for seq in (1, 2, 3):
        proxy.lose_request(SHOW.show_id)
        assert await journal.append(SHOW.show_id, next(batches)) == seq
        assert proxy.lost.is_set()
    await journal.close()
    await assert_verified(empty_house.superuser_dsn, life)


async def test_a_lost_answer_of_many_shows_is_looked_up_for_each(
    proxy: LossyProxy, empty_house: House
) -> None:
    journal = open_journal(proxy.dsn)
    lives = [life_of(show) for show in SHOWS]
    for show in SHOWS:
        await journal.activate(show)
    for lose in (proxy.lose_answer, proxy.lose_request, proxy.lose_answer):
        lose(SHOWS[1].show_id)
        futures = [
            journal.append(life.seat_map.show.show_id, next(life.batches(1))) for life in lives
        ]
        seqs = await asyncio.gather(*futures)
        assert len(set(seqs)) == 1
        assert proxy.lost.is_set()
    await journal.close()
    await assert_verified(empty_house.superuser_dsn, *lives)


async def test_a_batch_with_a_lost_answer_and_a_newer_owner_since_is_known_to_be_written(
    proxy: LossyProxy, empty_house: House
) -> None:
    old, new, life = (
        open_journal(proxy.dsn),
        open_journal(empty_house.application_dsn),
        life_of(SHOW),
    )
    batches = life.batches(2)
    await old.activate(SHOW)
    proxy.lose_answer(SHOW.show_id)
    first = old.append(SHOW.show_id, next(batches))
    await proxy.lost.wait()
    activation = await new.activate(SHOW)
    assert activation.seq == 1
    assert await first == 1
    assert await new.append(SHOW.show_id, next(batches)) == 2
    with pytest.raises(Fenced):
        await old.append(SHOW.show_id, [])
    await old.close()
    await new.close()
    await assert_verified(empty_house.superuser_dsn, life)


async def test_a_batch_with_a_lost_request_and_a_newer_owner_since_is_fenced(
    proxy: LossyProxy, empty_house: House
) -> None:
    old, new = open_journal(proxy.dsn), open_journal(empty_house.application_dsn)
    life, ghost = life_of(SHOW), life_of(SHOW, seed=2)
    await old.activate(SHOW)
    proxy.lose_request(SHOW.show_id)
    first = old.append(SHOW.show_id, next(ghost.batches(1)))
    await proxy.lost.wait()
    await new.activate(SHOW)
    with pytest.raises(Fenced):
        await first
    assert await new.append(SHOW.show_id, next(life.batches(1))) == 1
    await old.close()
    await new.close()
    await assert_verified(empty_house.superuser_dsn, life)


async def test_a_stream_over_a_line_that_is_cut_again_and_again_is_whole(
    proxy: LossyProxy, empty_house: House
) -> None:
    journal = open_journal(proxy.dsn)
    lives = [life_of(show) for show in SHOWS]
    for show in SHOWS:
        await journal.activate(show)
    futures: list[asyncio.Future[int]] = []
    for round_number in range(60):
        for life in lives:
            futures.append(journal.append(life.seat_map.show.show_id, next(life.batches(1))))
        if round_number % 5 == 0:
            proxy.cut_lines()
        if round_number % 3 == 0:
            await asyncio.sleep(0.003)
    assert all(seq > 0 for seq in await asyncio.gather(*futures))
    await journal.close()
    await assert_verified(empty_house.superuser_dsn, *lives)


@pytest.mark.usefixtures("impatient")
async def test_a_line_that_is_silent_for_ever_is_given_up_for_another(
    proxy: LossyProxy, empty_house: House
) -> None:
    # What a firewall does that forgot the connection: no error, no answer, no end.
    journal, life = open_journal(proxy.dsn), life_of(SHOW)
    batches = life.batches(3)
    await journal.activate(SHOW)
    await journal.append(SHOW.show_id, next(batches))
    proxy.freeze_lines()
    assert await journal.append(SHOW.show_id, next(batches)) == 2
    # The reading side learns it, too: once it fails, then it works.
    with pytest.raises(ShowUnavailable):
        await journal.lost([SHOW.show_id])
    assert await journal.lost([SHOW.show_id]) == set()
    proxy.freeze_lines()
    with pytest.raises(ShowUnavailable):
        await journal.activate(SHOW)
    assert (await journal.activate(SHOW)).seq == 2
    assert await journal.append(SHOW.show_id, next(batches)) == 3
    await journal.close()
    await assert_verified(empty_house.superuser_dsn, life)


@pytest.mark.usefixtures("impatient")
async def test_while_everything_is_silent_stalled_ms_rises_and_then_all_goes_on(
    proxy: LossyProxy, empty_house: House
) -> None:
    journal, life = open_journal(proxy.dsn), life_of(SHOW)
    batches = life.batches(3)
    await journal.activate(SHOW)
    await journal.append(SHOW.show_id, next(batches))
    assert journal.stalled_ms == 0
    proxy.freeze()
    second = journal.append(SHOW.show_id, next(batches))
    await until(lambda: journal.stalled_ms > 500)
    third = journal.append(SHOW.show_id, next(batches))
    earlier_ms = journal.stalled_ms
    await until(lambda: journal.stalled_ms > earlier_ms + 200)
    assert not second.done()
    proxy.thaw()
    assert await asyncio.gather(second, third) == [2, 3]
    assert journal.stalled_ms == 0
    await journal.close()
    await assert_verified(empty_house.superuser_dsn, life)


async def test_a_server_that_cannot_be_reached_is_not_a_traceback(
    proxy: LossyProxy, superuser: Connection
) -> None:
    missing = open_journal(proxy.dsn.replace(".s", ".t").replace("line", "nowhere"))
    wrong_password = open_journal(proxy.dsn.replace(":only", ":wrong"))
    wrong_database = open_journal(proxy.dsn.replace("/house_", "/nohouse_"))
    for journal in (missing, wrong_password, wrong_database):
        for ask in (
            journal.now_ms(),
            journal.activate(SHOW),
            journal.lost([SHOW.show_id]),
        ):
            with pytest.raises(ShowUnavailable):
                await ask
        await journal.close()
    assert await superuser.fetchval("SELECT count(*) FROM show_owner") == 0


async def test_a_password_that_is_wrong_for_a_while_is_waited_for(
    empty_house: House, superuser: Connection
) -> None:
    journal, life = open_journal(empty_house.application_dsn), life_of(SHOW)
    batches = life.batches(2)
    await journal.activate(SHOW)
    await journal.append(SHOW.show_id, next(batches))
    await superuser.execute(f"ALTER ROLE {APPLICATION_ROLE} NOLOGIN")
    try:
        await end_sessions(superuser)
        second = journal.append(SHOW.show_id, next(batches))
        await until(lambda: journal.stalled_ms > 200)
        assert not second.done()
    finally:
        await superuser.execute(f"ALTER ROLE {APPLICATION_ROLE} LOGIN")
    assert await second == 2
    await journal.close()
    await assert_verified(empty_house.superuser_dsn, life)


async def end_sessions(superuser: Connection) -> None:
    await superuser.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )


async def test_a_database_that_is_read_only_for_a_while_is_waited_for(
    empty_house: House, superuser: Connection
) -> None:
    # What the writer sees of a primary that has become a standby.
    journal, life = open_journal(empty_house.application_dsn), life_of(SHOW)
    batches = life.batches(2)
    await journal.activate(SHOW)
    await journal.append(SHOW.show_id, next(batches))
    alter = f"ALTER ROLE {APPLICATION_ROLE}"
    await superuser.execute(f"{alter} SET default_transaction_read_only = on")
    try:
        await end_sessions(superuser)
        second = journal.append(SHOW.show_id, next(batches))
        await until(lambda: journal.stalled_ms > 300)
        assert not second.done()
    finally:
        await superuser.execute(
            f"ALTER ROLE {APPLICATION_ROLE} RESET default_transaction_read_only"
        )
    assert await second == 2
    await journal.close()
    await assert_verified(empty_house.superuser_dsn, life)


# -- locks ----------------------------------------------------------------------------------------


async def test_activation_ends_the_session_of_a_stuck_owner(
    empty_house: House, superuser: Connection
) -> None:
    stuck_journal, journal = (
        open_journal(empty_house.application_dsn),
        open_journal(empty_house.application_dsn),
    )
    await stuck_journal.activate(SHOW)
    life = life_of(SHOW)
    await stuck_journal.append(SHOW.show_id, next(life.batches(1)))
    owner = await superuser.fetchval("SELECT owner FROM show_owner")
    # The same owner hangs in the middle of a batch, with the row locked.
    stuck = await asyncpg.connect(
        empty_house.application_dsn, server_settings={"application_name": owner}
    )
    try:
        transaction = stuck.transaction()
        await transaction.start()
        await stuck.execute(load_queries("journal.sql")["append_batch"], [SHOW.show_id], [1], [2],
                            ["[]"], *claims_of(Projection(), []), [], None)  # fmt: skip
        activation = await journal.activate(SHOW)
        assert (activation.epoch, activation.seq) == (2, 1)
        await until(stuck.is_closed)
        assert await journal.append(SHOW.show_id, next(life.batches(1))) == 2
        with pytest.raises(Fenced):
            await stuck_journal.append(SHOW.show_id, [])
        for each in (stuck_journal, journal):
            await each.close()
    finally:
        # It would keep the next test from emptying its tables.
        stuck.terminate()
    await assert_verified(empty_house.superuser_dsn, life)


async def test_a_lock_that_nobody_may_break_makes_activation_unavailable_not_endless(
    empty_house: House, superuser: Connection
) -> None:
    journal = open_journal(empty_house.application_dsn)
    await journal.activate(SHOW)
    async with superuser.transaction():
        await superuser.execute("SELECT FROM show_owner FOR UPDATE")
        with pytest.raises(ShowUnavailable):
            await journal.activate(SHOW)
    assert (await journal.activate(SHOW)).epoch == 2
    await journal.close()


async def test_a_batch_behind_a_lock_is_sent_again_when_the_lock_goes(
    empty_house: House, superuser: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, life = open_journal(empty_house.application_dsn), life_of(SHOW)
    batches = life.batches(2)
    await journal.activate(SHOW)
    await journal.append(SHOW.show_id, next(batches))
    async with superuser.transaction():
        await superuser.execute("SELECT FROM show_owner FOR UPDATE")
        second = journal.append(SHOW.show_id, next(batches))
        # The writer's own lock_timeout is two seconds.
        await until(lambda: journal.stalled_ms > 2_300)
        assert not second.done()
    assert await second == 2
    await journal.close()
    await assert_verified(empty_house.superuser_dsn, life)


async def test_a_booking_that_cannot_be_understood_is_not_sold_around(
    empty_house: House, superuser: Connection
) -> None:
    show = make_show("odd", capacities=())
    journal = open_journal(empty_house.application_dsn)
    await journal.activate(show)
    held = SeatsHeld(
        derive_hold_id(show.show_id, CustomerId("cus_ann"), "key"),
        CustomerId("cus_ann"),
        Segment(0, 1),
        (0,),
        (1_000,),
        (),
        Arrangement.NAMED,
        1,
        2,
        "digest",
    )
    booking_id = booking_id_of(held.hold_id)
    booked = BookingConfirmed(held.hold_id, booking_id, held.customer_id, "counter", 1_000, 2)
    await journal.append(show.show_id, [held, booked])
    await superuser.execute("UPDATE hold SET arrangement = 'odd'")
    with pytest.raises(KeyError, match="odd"):
        await journal.activate(show)
    await superuser.execute("UPDATE hold SET arrangement = 'named'")
    assert [hold.held for hold in (await journal.activate(show)).holds] == [held]
    await journal.close()


async def test_two_owners_of_overlapping_pools_do_not_deadlock(empty_house: House) -> None:
    shows = [make_show(f"pool {n}") for n in range(12)]
    journals = [open_journal(empty_house.application_dsn) for _ in range(3)]
    lives = {show.show_id: life_of(show) for show in shows}
    for round_number in range(12):
        for show in shows:
            await journals[round_number % 3].activate(show)
        outcomes = []
        for journal in journals:
            order = shows[:: -1 if journal is journals[0] else 1]
            events = {}
            if journal is journals[round_number % 3]:
                events = {s.show_id: next(lives[s.show_id].batches(1)) for s in order}
            outcomes += [journal.append(s.show_id, events.get(s.show_id, [])) for s in order]
        done = await asyncio.gather(*outcomes, return_exceptions=True)
        assert sum(isinstance(outcome, int) for outcome in done) == len(shows)
        assert all(isinstance(outcome, int | Fenced) for outcome in done)
    for journal in journals:
        await journal.close()
    await assert_verified(empty_house.superuser_dsn, *lives.values())


# -- activation while something is under way ------------------------------------------------------


async def test_what_an_earlier_epoch_decided_is_never_written_by_the_next_one(
    proxy: LossyProxy, empty_house: House
) -> None:
    journal, life = open_journal(proxy.dsn), life_of(SHOW)
    batches = life.batches(2)
    await journal.activate(SHOW)
    await journal.append(SHOW.show_id, next(batches))
    ghost = life_of(SHOW, seed=3)
    proxy.lose_request(SHOW.show_id)
    in_flight = journal.append(SHOW.show_id, next(ghost.batches(1)))
    await proxy.lost.wait()
    waiting = journal.append(SHOW.show_id, next(ghost.batches(1)))
    # Activated through the back door before the lost batch has been sent again.
    activation = await journal.activate(SHOW)
    for future in (in_flight, waiting):
        with pytest.raises(Fenced):
            await future
    assert activation.epoch == 2
    assert await journal.append(SHOW.show_id, next(batches)) == 2
    assert journal.waiting_commands == 0
    await journal.close()
    await assert_verified(empty_house.superuser_dsn, life)


async def test_an_event_that_cannot_be_sent_fails_alone(
    empty_house: House, caplog: pytest.LogCaptureFixture
) -> None:
    journal = open_journal(empty_house.application_dsn)
    life, bad, worse = life_of(SHOWS[0]), SHOWS[1].show_id, SHOWS[2].show_id
    for show in SHOWS:
        await journal.activate(show)
    held = next(e for b in life_of(SHOWS[1]).batches(3) for e in b if hasattr(e, "held_at_ms"))
    good = journal.append(SHOW.show_id, next(life.batches(1)))
    surrogate = journal.append(bad, [held._replace(request_digest="\ud800")])
    not_a_number = journal.append(worse, [held._replace(expires_at_ms="soon")])
    assert await good == 1
    for future in (surrogate, not_a_number):
        with pytest.raises(Diverged):
            await future
    assert "cannot be written" in caplog.text
    await journal.close()


# -- the server itself ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
async def mortal(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedPostgres]:
    """A server that the tests may kill."""
    with EmbeddedPostgres(tmp_path_factory.mktemp("mortal")) as server:
        async with superuser_of(server) as connection:
            await migrate(connection)
            await ensure_application_role(connection, APPLICATION_ROLE, APPLICATION_PASSWORD)
        yield server


@asynccontextmanager
async def superuser_of(server: EmbeddedPostgres) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(server.dsn())
    try:
        yield connection
    finally:
        await connection.close()


@pytest.mark.parametrize("way", ["kill", "immediate", "fast"])
async def test_a_server_that_goes_down_in_a_stream_of_batches_loses_and_doubles_nothing(
    mortal: EmbeddedPostgres, way: str
) -> None:
    shows = [make_show(f"{way} {n}", legs=2, capacities=(5,)) for n in range(3)]
    lives = [life_of(show, seed) for seed, show in enumerate(shows)]
    journal = open_journal(mortal.dsn("postgres", APPLICATION_ROLE, APPLICATION_PASSWORD))
    for show in shows:
        await journal.activate(show)
    futures: list[asyncio.Future[int]] = []
    is_over = False

    async def stream() -> None:
        while not is_over:
            for life in lives:
                batch = next(life.batches(1))
                futures.append(journal.append(life.seat_map.show.show_id, batch))
            await asyncio.sleep(0.001)

    streaming = asyncio.ensure_future(stream())
    for _ in range(2):
        length = len(futures)
        await until(lambda: sum(f.done() for f in futures[length:]) > 100)  # noqa: B023
        if way == "kill":
            mortal.kill()
        else:
            mortal.stop("immediate" if way == "immediate" else "fast")
        down_at = len(futures)
        await until(lambda: len(futures) > down_at + 50)  # noqa: B023
        assert not futures[-1].done()
        mortal.start()
        await until(futures[-1].done)
    is_over = True
    await streaming
    seqs = await asyncio.wait_for(asyncio.gather(*futures), LIVENESS_S)
    assert all(seq > 0 for seq in seqs)
    assert journal.waiting_commands == 0
    await journal.close()
    async with superuser_of(mortal) as connection:
        for show, life in zip(shows, lives, strict=True):
            assert await stored(connection, show.show_id) == life.history
    async with asyncpg.create_pool(mortal.dsn(), min_size=1, max_size=1) as pool:
        shards = ShardMap.even((mortal.dsn(),))
        show_ids = [show.show_id for show in shows]
        async for verdict in verify_shows([pool], shards, show_ids):
            assert verdict.faults == []


def stopped(server: EmbeddedPostgres) -> Iterator[psutil.Process]:
    """The processes of a server, all of them stopped."""
    postmaster = psutil.Process(server.pid)
    postmaster.send_signal(signal.SIGSTOP)
    yield postmaster
    for child in postmaster.children(recursive=True):
        child.send_signal(signal.SIGSTOP)
        yield child


@pytest.mark.usefixtures("impatient")
async def test_a_frozen_server_is_waited_for_and_its_late_commit_is_found(
    mortal: EmbeddedPostgres,
) -> None:
    show = make_show("frozen")
    journal = open_journal(mortal.dsn("postgres", APPLICATION_ROLE, APPLICATION_PASSWORD))
    life = life_of(show)
    await journal.activate(show)
    await journal.append(show.show_id, next(life.batches(1)))
    processes = list(stopped(mortal))
    try:
        second = journal.append(show.show_id, next(life.batches(1)))
        await until(lambda: journal.stalled_ms > 800)
        assert not second.done()
        with pytest.raises(ShowUnavailable):
            await journal.lost([show.show_id])
    finally:
        for process in processes:
            process.send_signal(signal.SIGCONT)
    assert await asyncio.wait_for(second, LIVENESS_S) == 2
    assert journal.stalled_ms == 0
    assert await journal.lost([show.show_id]) == set()
    await journal.close()
    async with superuser_of(mortal) as connection:
        assert await stored(connection, show.show_id) == life.history
