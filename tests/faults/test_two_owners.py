"""Two live owners of one show at one time, as after a freeze or a cut network: F6 and F7.

Below a whole frozen node (``test_node_faults``): here the second owner lives in this process, so
that the first one can be driven step by step.
"""

from __future__ import annotations

import asyncio
import os
import signal

from actors.clock import SystemClock
from actors.show_actor import ShowActor
from persistence.postgres_journal import PostgresJournal
from reservation.commands import ReleaseHold
from reservation.events import HoldReleased, SeatsHeld
from reservation.faults import Fenced, NotDone
from reservation.rejections import Rejected
from reservation.show import Placement, Show
from tests.support.house import ask, end_tickers, hold
from tests.support.ray_house import RayHouse


def second_owner(house: RayHouse, show: Show) -> tuple[ShowActor, PostgresJournal]:
    """Another live incarnation of the show's actor, in this process."""
    journal = PostgresJournal(house.dsn, f"second#{show.show_id[-8:]}")
    actor = ShowActor(
        "show:second",
        Placement.DEDICATED,
        house.catalogue,
        journal,
        SystemClock(),
        passivate_after_ms=600_000,
        mailbox_commands_max=4_096,
    )
    return actor, journal


async def close(journal: PostgresJournal) -> None:
    await end_tickers()
    await journal.close()


async def epochs_of(house: RayHouse, show: Show) -> list[int]:
    rows = await house.pool.fetch(
        "SELECT epoch FROM journal WHERE show_id = $1 ORDER BY seq", show.show_id
    )
    return [row["epoch"] for row in rows]


async def test_f6_a_second_live_owner_is_the_only_one_that_postgres_lets_write(
    house: RayHouse,
) -> None:
    show = await house.add_show()
    show_id = show.show_id
    assert isinstance(await house.refs.ask(show_id, hold(show_id, 0)), SeatsHeld)
    actor, journal = second_owner(house, show)
    assert isinstance(await ask(actor, show_id, hold(show_id, 1)), SeatsHeld)
    before = await epochs_of(house, show)
    refused = hold(show_id, 2)
    reply = await house.actor_of(show)([(show_id, refused)])
    assert isinstance(reply.answers[0], Fenced)
    assert await epochs_of(house, show) == before == [1, 2]
    assert await house.state_of(refused.hold_id) is None
    # The one that was fenced is asked again: it takes the show back, with all that was sold.
    assert isinstance(await house.refs.ask(show_id, hold(show_id, 0, 1)), Rejected)
    assert isinstance(await house.refs.ask(show_id, hold(show_id, 2)), SeatsHeld)
    assert isinstance(await ask(actor, show_id, hold(show_id, 3)), Fenced)
    assert await epochs_of(house, show) == [1, 2, 3]
    await close(journal)
    await house.verify(show)


async def test_f6_an_actor_that_wakes_up_from_a_freeze_writes_nothing_and_answers_nothing_stale(
    house: RayHouse,
) -> None:
    show = await house.add_show()
    show_id = show.show_id
    # Its signs of life go to a folder that no watchdog reads: it shall live through the freeze.
    unwatched = house.open_refs(heartbeat_dir=f"{house.config.heartbeat_dir}-unwatched")
    first = hold(show_id, 0)
    assert isinstance(await unwatched.ask(show_id, first), SeatsHeld)
    pid = await house.pid_of(show)
    frozen = house.actor_of(show)
    await frozen.status()
    os.kill(pid, signal.SIGSTOP)
    claims = [hold(show_id, seat) for seat in range(10, 20)]
    claiming = [asyncio.ensure_future(frozen([(show_id, claim)])) for claim in claims]
    stale = asyncio.ensure_future(frozen([(show_id, hold(show_id, 0, customer="bob"))]))
    await asyncio.sleep(2.5)
    actor, journal = second_owner(house, show)
    released = await ask(actor, show_id, ReleaseHold(first.hold_id, first.customer_id))
    assert isinstance(released, HoldReleased)
    assert isinstance(await ask(actor, show_id, hold(show_id, 10)), SeatsHeld)
    assert not any(task.done() for task in [*claiming, stale])
    before = await epochs_of(house, show)
    os.kill(pid, signal.SIGCONT)
    replies = await asyncio.gather(*claiming, stale)
    assert (await frozen.status()).pid == pid, "the frozen actor did not live on"
    assert (await epochs_of(house, show))[: len(before)] == before
    # What was in line is not done under the old epoch. After its first refusal the actor may
    # load the show anew, and then it owns it as rightly as anybody.
    for claim, reply in zip(claims, replies[:-1], strict=True):
        answer = reply.answers[0]
        assert isinstance(answer, NotDone | Rejected | SeatsHeld)
        if isinstance(answer, SeatsHeld):
            assert reply.epochs[show_id] > before[-1]
            assert await house.state_of(claim.hold_id) == "held"
        else:
            assert await house.state_of(claim.hold_id) is None
    assert any(isinstance(reply.answers[0], NotDone) for reply in replies)
    last = replies[-1]
    assert isinstance(last.answers[0], NotDone) or last.epochs[show_id] > before[-1]
    assert 1 not in (await epochs_of(house, show))[len(before) :]
    await close(journal)
    await house.verify(show)
