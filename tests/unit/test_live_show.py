"""One show in memory: its steps, its deadlines, and what its answers wait for."""

from __future__ import annotations

import asyncio

from actors.live_show import LiveShow
from reservation.commands import ReleaseHold
from reservation.events import BookingConfirmed, HoldExpired, HoldExtended, SeatsHeld
from reservation.faults import Fenced
from reservation.rejections import Rejected, Rejection
from reservation.seat_assignment import SeatChooser
from reservation.seat_map import SeatMap
from tests.support.house import GENEROUS, confirm, extend, hold, make_show

SHOW = make_show("hamlet")
ID = SHOW.show_id
NOW_MS = 1_700_000_000_000
TTL_MS = GENEROUS.hold_ttl_ms


def start() -> LiveShow:
    return LiveShow(SeatMap(SHOW, SeatChooser(SHOW.plan)), 1, NOW_MS, NOW_MS)


def test_a_step_collects_events_once_and_in_order() -> None:
    live = start()
    first = hold(ID, 0)
    live.run(first, NOW_MS)
    live.run(hold(ID, 0), NOW_MS)  # Rejected: no event.
    live.run(confirm(first), NOW_MS)
    assert [type(event) for event in live.take_step()] == [SeatsHeld, BookingConfirmed]
    assert live.take_step() == []


def test_deadlines_come_in_their_order_whatever_the_order_of_the_holds() -> None:
    live = start()
    live.run(hold(ID, 0), NOW_MS + 50)
    live.run(hold(ID, 1), NOW_MS)
    live.take_step()
    assert live.next_deadline_ms == NOW_MS + TTL_MS
    live.expire_due(NOW_MS + TTL_MS)
    assert len(live.take_step()) == 1
    assert live.next_deadline_ms == NOW_MS + TTL_MS + 50
    live.expire_due(NOW_MS + TTL_MS + 50)
    assert [type(event) for event in live.take_step()] == [HoldExpired]
    assert live.next_deadline_ms is None


def test_an_extended_hold_expires_once_and_at_its_new_deadline() -> None:
    live = start()
    held = hold(ID, 0)
    live.run(held, NOW_MS)
    extended = live.run(extend(held), NOW_MS + 1_000)
    assert isinstance(extended, HoldExtended)
    live.take_step()
    live.expire_due(NOW_MS + TTL_MS)
    assert live.take_step() == []
    live.expire_due(extended.expires_at_ms - 1)
    assert live.take_step() == []
    live.expire_due(extended.expires_at_ms)
    assert live.take_step() == [HoldExpired(held.hold_id, extended.expires_at_ms)]
    live.expire_due(extended.expires_at_ms + TTL_MS)
    assert live.take_step() == []


def test_a_released_hold_does_not_expire_again() -> None:
    live = start()
    held = hold(ID, 0)
    live.run(held, NOW_MS)
    live.run(ReleaseHold(held.hold_id, held.customer_id), NOW_MS)
    live.take_step()
    live.expire_due(NOW_MS + TTL_MS)
    assert live.take_step() == []


def test_restored_live_holds_keep_their_deadlines_and_ended_ones_have_none() -> None:
    before = start()
    kept, ended, extended = hold(ID, 0), hold(ID, 1), hold(ID, 2)
    before.run(kept, NOW_MS)
    before.run(ended, NOW_MS)
    before.run(extended, NOW_MS)
    before.run(ReleaseHold(ended.hold_id, ended.customer_id), NOW_MS)
    before.run(extend(extended), NOW_MS + 500)
    seat_map = SeatMap(SHOW, SeatChooser(SHOW.plan))
    holds = sorted(before.seat_map.holds.values(), key=lambda each: each.ended_at_ms or 0)
    seat_map.restore(holds, [])
    after = LiveShow(seat_map, 2, NOW_MS, NOW_MS)
    after.expire_due(NOW_MS + TTL_MS)
    assert after.take_step() == [HoldExpired(kept.hold_id, NOW_MS + TTL_MS)]
    assert after.next_deadline_ms == NOW_MS + 500 + TTL_MS


def test_a_show_is_idle_without_live_holds_and_recent_commands() -> None:
    live = start()
    assert not live.is_idle(NOW_MS + 999, 1_000)
    assert live.is_idle(NOW_MS + 1_000, 1_000)
    held = hold(ID, 0)
    live.run(held, NOW_MS)
    assert not live.is_idle(NOW_MS + 1_000, 1_000)
    live.run(confirm(held), NOW_MS)
    assert live.is_idle(NOW_MS + 1_000, 1_000)


def test_a_rejected_command_keeps_a_show_awake_too() -> None:
    live = start()
    held = hold(ID, 0)
    live.run(held, NOW_MS)
    live.run(confirm(held), NOW_MS)
    outcome = live.run(hold(ID, 0), NOW_MS + 900)
    assert outcome == Rejected(Rejection.SEAT_UNAVAILABLE, (0,))
    assert not live.is_idle(NOW_MS + 1_000, 1_000)


async def test_a_show_waits_for_its_newest_append_until_that_is_durable() -> None:
    live = start()
    assert live.tail is None
    older: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    newer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    live.appended(older)
    live.appended(newer)
    assert live.tail is newer
    older.set_result(1)
    assert live.tail is newer
    newer.set_result(2)
    assert live.tail is None


async def test_a_failed_append_is_never_taken_for_none() -> None:
    live = start()
    durable: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    live.appended(durable)
    durable.set_exception(Fenced("a newer owner exists"))
    assert live.tail is durable
    assert live.tail is durable
