"""The short line between a ref and an actor: what arrives, and what its end means."""

from __future__ import annotations

import asyncio
import stat
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from actors.local_line import LineServer, LocalLine
from actors.messages import Reply, Request
from reservation.commands import ReleaseHold
from reservation.faults import NotDone, OutcomeUnknown, Overloaded, ShowUnavailable
from reservation.ids import CustomerId, HoldId, ShowId
from reservation.rejections import Rejected, Rejection
from tests.support.house import turn

NAME = "show:shw_00aaaaaaaaaaaaaa"
SHOW = ShowId("shw_00aaaaaaaaaaaaaa")


def request(number: int) -> Request:
    return SHOW, ReleaseHold(HoldId(f"hld_{number}"), CustomerId("ada"))


class Actor:
    """Answers every command with the size of its batch, once the gate is open."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.took = asyncio.Event()
        self.taken: list[list[Request]] = []

    async def submit(self, requests: list[Request]) -> Reply:
        self.taken.append(requests)
        self.took.set()
        await self.gate.wait()
        answer = Rejected(Rejection.HOLD_NOT_FOUND, (len(requests),))
        return Reply([answer] * len(requests), {SHOW: len(self.taken)})


@pytest.fixture
async def actor() -> AsyncIterator[Actor]:
    actor = Actor()
    yield actor
    # Whoever waits there still would be found by the garbage collector, in somebody else's test.
    actor.gate.set()
    await turn()


@pytest.fixture
def lines() -> Iterator[Path]:
    # Short: the folders that pytest makes can be longer than the path of a socket may be.
    with tempfile.TemporaryDirectory(prefix="hfline-") as directory:
        yield Path(directory) / "lines"


@pytest.fixture
async def server(lines: Path) -> AsyncIterator[LineServer]:
    server = LineServer(str(lines), NAME)
    yield server
    await server.close()


async def connect(server: LineServer, actor: Actor) -> LocalLine:
    path = await server.open(actor.submit)
    assert path is not None
    return await LocalLine.connect(path, NAME)


async def test_batches_are_answered_with_their_own_answers(
    server: LineServer, actor: Actor
) -> None:
    line = await connect(server, actor)
    sizes = [1, 300, 2, 50]
    replies = await asyncio.gather(*(line([request(n) for n in range(size)]) for size in sizes))
    assert [reply.answers[0].seat_indexes[0] for reply in replies] == sizes
    assert actor.taken[1] == [request(n) for n in range(300)]


async def test_faults_come_through_as_what_they_are(server: LineServer, actor: Actor) -> None:
    async def refuse(requests: list[Request]) -> Reply:
        return Reply([Overloaded("full", retry_after_ms=7), OutcomeUnknown("who knows")], {})

    actor.submit = refuse  # type: ignore[method-assign]
    line = await connect(server, actor)
    full, unknown = (await line([request(1), request(2)])).answers
    assert isinstance(full, Overloaded)
    assert full.retry_after_ms == 7
    assert isinstance(unknown, OutcomeUnknown)


@pytest.mark.parametrize("is_raised", [False, True])
async def test_a_bug_at_the_owner_is_told_as_unknown(
    server: LineServer, actor: Actor, is_raised: bool
) -> None:
    async def confuse(requests: list[Request]) -> Reply:
        assert not is_raised, "a bug"
        return Reply([], {})

    actor.submit = confuse  # type: ignore[method-assign]
    line = await connect(server, actor)
    async with asyncio.timeout(20):
        with pytest.raises(OutcomeUnknown):
            await line([request(1)])


async def test_a_crash_makes_what_is_under_way_unknown(server: LineServer, actor: Actor) -> None:
    line = await connect(server, actor)
    actor.gate.clear()
    asking = asyncio.ensure_future(line([request(1)]))
    await actor.took.wait()
    for caller in server._callers:
        assert caller.transport is not None
        caller.transport.abort()
    with pytest.raises(OutcomeUnknown):
        await asking
    assert not line.is_open
    with pytest.raises(ShowUnavailable):
        await line([request(1)])


async def test_after_a_good_bye_what_has_no_answer_was_never_taken(
    server: LineServer, actor: Actor
) -> None:
    line = await connect(server, actor)
    await line([request(0)])
    actor.taken.clear()
    # The request is written, and the actor says good-bye before it reads on.
    asking = asyncio.ensure_future(line([request(1)]))
    await asyncio.sleep(0)
    await server.close()
    with pytest.raises(NotDone):
        await asking
    assert actor.taken == []


async def test_nobody_listens_after_the_actor_has_left(server: LineServer, actor: Actor) -> None:
    path = await server.open(actor.submit)
    assert path is not None
    await server.close()
    with pytest.raises(ShowUnavailable):
        await LocalLine.connect(path, NAME)


async def test_a_new_incarnation_takes_over_the_place_of_a_dead_one(
    server: LineServer, actor: Actor, lines: Path
) -> None:
    old = await connect(server, actor)
    successor, successor_actor = LineServer(str(lines), NAME), Actor()
    new = await connect(successor, successor_actor)
    await new([request(1)])
    await old([request(2)])
    assert successor_actor.taken == [[request(1)]]
    assert actor.taken == [[request(2)]]
    await successor.close()


async def test_the_folder_is_closed_to_others(server: LineServer, actor: Actor) -> None:
    path = await server.open(actor.submit)
    assert path is not None
    assert stat.S_IMODE(Path(path).parent.stat().st_mode) == 0o700


async def test_where_the_path_is_too_long_there_is_no_line(tmp_path: Path, actor: Actor) -> None:
    assert await LineServer(str(tmp_path / ("x" * 100)), NAME).open(actor.submit) is None


async def test_a_caller_that_hangs_up_leaves_the_line_to_others(
    server: LineServer, actor: Actor
) -> None:
    line = await connect(server, actor)
    actor.gate.clear()
    gone = asyncio.ensure_future(line([request(1)]))
    await actor.took.wait()
    gone.cancel()
    actor.gate.set()
    reply = await line([request(2), request(3)])
    assert reply.answers[0] == Rejected(Rejection.HOLD_NOT_FOUND, (2,))
