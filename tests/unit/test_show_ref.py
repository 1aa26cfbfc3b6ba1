"""Refs without Ray: what leaves when, and what bad news turns into."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from actors import show_ref
from actors.show_ref import ShowRefs, Submit
from reservation.commands import Command, HoldSeats
from reservation.events import SeatsHeld
from reservation.faults import (
    Diverged,
    Fenced,
    NotDone,
    OutcomeUnknown,
    Overloaded,
    ShowMoved,
    ShowNotFound,
    ShowUnavailable,
)
from reservation.ids import ShowId
from reservation.rejections import Rejected, Rejection
from tests.support.house import FakeActor, confirm, hold, make_show, turn

ID = make_show("hamlet").show_id
OTHER = make_show("macbeth").show_id
STALLED = [1, show_ref.SECOND_BATCH_COMMANDS_MIN]
TAKEN = Rejected(Rejection.SEAT_UNAVAILABLE, (0,))


class House:
    """Actors by name, and which of them owns which show."""

    def __init__(self, *, ask_deadline_ms: int = 5_000) -> None:
        self.actors = {"one": FakeActor()}
        self.owner_of: dict[ShowId, str] = {ID: "one", OTHER: "one"}
        self.located: list[ShowId] = []
        self.connected: list[str] = []
        self.refs = ShowRefs(self._locate, self._connect, ask_deadline_ms=ask_deadline_ms)

    @property
    def actor(self) -> FakeActor:
        return self.actors["one"]

    async def _locate(self, show_id: ShowId) -> str:
        self.located.append(show_id)
        await asyncio.sleep(0)
        if show_id not in self.owner_of:
            raise ShowNotFound(f"no show {show_id}")
        return self.owner_of[show_id]

    async def _connect(self, name: str) -> Submit:
        self.connected.append(name)
        await asyncio.sleep(0)
        return self.actors[name]

    def ask(
        self, command: Command, *, show_id: ShowId = ID, deadline_ms: int | None = None
    ) -> asyncio.Task[object]:
        return asyncio.ensure_future(self.refs.ask(show_id, command, deadline_ms=deadline_ms))


@pytest.fixture
def house() -> House:
    return House()


async def stall(house: House) -> None:
    """Let as many batches leave as may, and not come back: what follows has to wait in line."""
    house.actor.gate.clear()
    for count in STALLED:
        for _ in range(count):
            house.ask(hold(ID, 99))
        await turn()
    assert [len(batch) for batch in house.actor.batches] == STALLED


# -- coalescing -----------------------------------------------------------------------------------


async def test_a_lone_command_leaves_at_once(house: House) -> None:
    await house.ask(hold(ID, 0))
    house.actor.gate.clear()
    house.ask(hold(ID, 1))
    await turn(3)
    assert len(house.actor.batches) == 2


async def test_what_comes_while_batches_are_under_way_is_shared_evenly(house: House) -> None:
    await stall(house)
    asking = [house.ask(hold(ID, seat)) for seat in range(500)]
    await turn()
    house.actor.gate.set()
    answers = await asyncio.gather(*asking)
    assert all(isinstance(answer, SeatsHeld) for answer in answers)
    sizes = [len(batch) for batch in house.actor.batches]
    assert tuple(sizes[: len(STALLED)]) == tuple(STALLED)
    # Few batches, and none that takes all and leaves nothing to do for the other.
    assert sum(sizes) == sum(STALLED) + 500
    assert 2 <= len(sizes) - len(STALLED) <= 12
    assert max(sizes) <= (500 + sum(STALLED)) // 2 + 1


async def test_a_crowd_that_asks_again_and_again_keeps_two_batches_going(house: House) -> None:
    answered = 0

    async def buyer(number: int) -> None:
        nonlocal answered
        for turn_number in range(20):
            await house.refs.ask(ID, hold(ID, number * 20 + turn_number))
            answered += 1

    await asyncio.gather(*(buyer(number) for number in range(256)))
    assert answered == 256 * 20
    sizes = [len(batch) for batch in house.actor.batches]
    # With one batch of 256 going round, Postgres would wait for the actor and the actor for it.
    assert max(sizes[2:]) <= 160


async def test_a_second_batch_does_not_leave_for_a_few_commands(house: House) -> None:
    house.actor.gate.clear()
    house.ask(hold(ID, 0))
    await turn()
    asking = [house.ask(hold(ID, 1)) for _ in range(show_ref.SECOND_BATCH_COMMANDS_MIN - 1)]
    await turn()
    assert len(house.actor.batches) == 1
    house.actor.gate.set()
    await asyncio.gather(*asking)
    assert [len(batch) for batch in house.actor.batches] == [1, len(asking)]


async def test_every_caller_gets_the_answer_to_its_own_command(house: House) -> None:
    commands = [hold(ID, seat) for seat in range(300)]
    answers = await asyncio.gather(*(house.ask(command) for command in commands))
    assert [answer.hold_id for answer in answers if isinstance(answer, SeatsHeld)] == [
        command.hold_id for command in commands
    ]


async def test_a_batch_is_never_longer_than_its_limit(house: House) -> None:
    await stall(house)
    asking = [house.ask(hold(ID, 0)) for _ in range(2 * show_ref.BATCH_COMMANDS_MAX + 1)]
    await turn()
    house.actor.gate.set()
    await asyncio.gather(*asking)
    lengths = [len(batch) for batch in house.actor.batches[len(STALLED) :]]
    assert sum(lengths) == len(asking)
    assert max(lengths) == show_ref.BATCH_COMMANDS_MAX


async def test_shows_of_one_actor_travel_together(house: House) -> None:
    await stall(house)
    asking = [house.ask(hold(ID, 0)), house.ask(hold(OTHER, 0), show_id=OTHER)]
    await turn()
    house.actor.gate.set()
    await asyncio.gather(*asking)
    assert {show_id for show_id, _ in house.actor.batches[-1]} == {ID, OTHER}
    assert house.connected == ["one"]


async def test_settling_commands_leave_before_claims_that_came_earlier(house: House) -> None:
    await stall(house)
    house.actor.answer = lambda request: TAKEN
    claims = [hold(ID, 0), hold(ID, 1)]
    settling = [confirm(hold(ID, 2)), confirm(hold(ID, 3))]
    asking = [house.ask(command) for command in [*claims, *settling]]
    await turn()
    house.actor.gate.set()
    await asyncio.gather(*asking)
    assert house.actor.commands[sum(STALLED) :] == [*settling, *claims]


async def test_concurrent_first_callers_look_the_actor_up_and_connect_once(house: House) -> None:
    await asyncio.gather(*(house.ask(hold(ID, seat)) for seat in range(20)))
    assert house.connected == ["one"]
    house.located.clear()
    await house.ask(hold(ID, 0))
    assert house.located == []


# -- company --------------------------------------------------------------------------------------


def space_batches(monkeypatch: pytest.MonkeyPatch, few_s: float, crowd_s: float) -> None:
    monkeypatch.setattr(show_ref, "BATCH_SPACING_S", few_s)
    monkeypatch.setattr(show_ref, "BATCH_SPACING_MAX_S", crowd_s)


async def together(house: House, count: int) -> None:
    """So many commands in one batch."""
    await house.ask(hold(ID, 9))  # The first one leaves alone: it finds the actor.
    before = len(house.actor.batches)
    await asyncio.gather(*(house.ask(hold(ID, seat)) for seat in range(count)))
    assert [len(batch) for batch in house.actor.batches[before:]] == [count]


@pytest.mark.parametrize("count", [show_ref.COMPANY_COMMANDS_MIN, show_ref.CROWD_COMMANDS_MIN])
async def test_in_company_the_next_batch_waits_for_more(
    house: House, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    space_batches(monkeypatch, 0.2, 0.2)
    await together(house, count)
    first = house.ask(hold(ID, 20))
    await turn()
    assert len(house.actor.batches) == 2
    second = house.ask(hold(ID, 21))
    await asyncio.gather(first, second)
    assert [len(batch) for batch in house.actor.batches[2:]] == [2]


async def test_after_a_crowd_the_next_batch_waits_as_long_again_as_the_one_before_it_took(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    space_batches(monkeypatch, 0, 60)
    await together(house, show_ref.CROWD_COMMANDS_MIN)
    house.actor.gate.clear()
    slow = [house.ask(hold(ID, 20 + seat)) for seat in range(show_ref.CROWD_COMMANDS_MIN)]
    await asyncio.sleep(0.1)
    house.actor.gate.set()
    await asyncio.gather(*slow)
    before = len(house.actor.batches)
    first = house.ask(hold(ID, 40))
    await turn()
    assert len(house.actor.batches) == before
    second = house.ask(hold(ID, 41))
    await asyncio.gather(first, second)
    assert [len(batch) for batch in house.actor.batches[before:]] == [2]


async def test_after_fewer_than_a_crowd_it_does_not_matter_how_long_they_took(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    space_batches(monkeypatch, 0, 60)
    await together(house, show_ref.CROWD_COMMANDS_MIN - 1)
    house.actor.gate.clear()
    slow = [house.ask(hold(ID, 20 + seat)) for seat in range(show_ref.CROWD_COMMANDS_MIN - 1)]
    await asyncio.sleep(0.1)
    house.actor.gate.set()
    await asyncio.gather(*slow)
    async with asyncio.timeout(10):
        await house.ask(hold(ID, 40))


async def test_a_full_batch_does_not_wait_for_company(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    space_batches(monkeypatch, 60, 60)
    await together(house, show_ref.COMPANY_COMMANDS_MIN)
    lonely = house.ask(hold(ID, 20))
    await turn()
    assert len(house.actor.batches) == 2
    count = show_ref.SECOND_BATCH_COMMANDS_MIN - 1
    async with asyncio.timeout(10):
        await asyncio.gather(lonely, *(house.ask(hold(ID, 21 + seat)) for seat in range(count)))
    assert [len(batch) for batch in house.actor.batches[2:]] == [count + 1]


async def test_a_lone_caller_never_waits_for_company(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    space_batches(monkeypatch, 60, 60)
    async with asyncio.timeout(10):
        for seat in range(5):
            await house.ask(hold(ID, seat))
    assert len(house.actor.batches) == 5


# -- deadlines ------------------------------------------------------------------------------------


async def test_a_command_whose_deadline_passes_in_line_is_not_done_and_never_leaves(
    house: House,
) -> None:
    await stall(house)
    late = hold(ID, 5)
    with pytest.raises(NotDone):
        await house.ask(late, deadline_ms=20)
    house.actor.gate.set()
    await house.ask(hold(ID, 6))
    assert late not in house.actor.commands


async def test_a_command_whose_deadline_passes_under_way_has_an_unknown_outcome(
    house: House,
) -> None:
    house.actor.gate.clear()
    late = hold(ID, 5)
    with pytest.raises(OutcomeUnknown):
        await house.ask(late, deadline_ms=20)
    assert house.actor.commands == [late]


async def test_a_deadline_of_nothing_is_not_the_configured_one(house: House) -> None:
    house.actor.gate.clear()
    with pytest.raises((NotDone, OutcomeUnknown)):
        async with asyncio.timeout(2):
            await house.ask(hold(ID, 0), deadline_ms=0)


async def test_an_owner_that_cannot_be_found_in_time_is_not_done(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(_: ShowId) -> str:
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    monkeypatch.setattr(house.refs, "_locate", never)
    with pytest.raises(ShowUnavailable):
        await house.ask(hold(ID, 0), deadline_ms=20)


async def test_thousands_of_deadlines_at_one_time_are_met_in_one_go(house: House) -> None:
    await stall(house)
    asking = [house.ask(hold(ID, 0), deadline_ms=50) for _ in range(show_ref.WAITING_COMMANDS_MAX)]
    results = await asyncio.gather(*asking, return_exceptions=True)
    assert {type(result) for result in results} == {ShowUnavailable}
    house.actor.gate.set()
    assert isinstance(await house.ask(hold(ID, 1)), SeatsHeld)


# -- asking again ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [
        ShowUnavailable("being activated", retry_after_ms=1),
        Fenced("a newer owner", retry_after_ms=1),
        Diverged("reloading", retry_after_ms=1),
        ShowMoved("elsewhere", retry_after_ms=1),
    ],
    ids=lambda fault: type(fault).__name__,
)
async def test_what_did_not_happen_and_may_pass_is_asked_again(
    house: House, fault: NotDone
) -> None:
    answers: list[object] = [fault, fault]
    house.actor.answer = _in_turn(answers, house.actor.answer)
    command = hold(ID, 0)
    assert isinstance(await house.ask(command), SeatsHeld)
    assert house.actor.commands == [command] * 3


@pytest.mark.parametrize(
    "fault", [Overloaded("full"), ShowNotFound("none"), OutcomeUnknown("who knows")]
)
async def test_what_will_not_pass_or_may_have_happened_is_not_asked_again(
    house: House, fault: Exception
) -> None:
    house.actor.answer = _in_turn([fault], house.actor.answer)
    with pytest.raises(type(fault)):
        await house.ask(hold(ID, 0))
    assert len(house.actor.batches) == 1


async def test_a_rejection_is_an_answer_and_not_asked_again(house: House) -> None:
    house.actor.answer = lambda request: TAKEN
    assert await house.ask(hold(ID, 0)) == TAKEN
    assert len(house.actor.batches) == 1


async def test_asking_again_ends_with_the_deadline_and_the_last_reason(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(show_ref, "RETRY_PAUSE_MS", 400)
    house.actor.answer = lambda request: Fenced("a newer owner", retry_after_ms=400)
    with pytest.raises(Fenced):
        await house.ask(hold(ID, 0), deadline_ms=600)
    assert len(house.actor.batches) == 2


async def test_a_show_that_moved_is_looked_up_again_and_found(house: House) -> None:
    await house.ask(hold(ID, 0))
    house.actors["two"] = FakeActor(epoch=2)
    house.owner_of[ID] = "two"
    house.actor.answer = lambda request: ShowMoved("elsewhere", retry_after_ms=1)
    command = hold(ID, 1)
    assert isinstance(await house.ask(command), SeatsHeld)
    assert house.actors["two"].commands == [command]
    assert house.located == [ID, ID]


async def test_an_unknown_show_is_not_found_and_not_asked_for_again(house: House) -> None:
    stranger = make_show("nobody knows it").show_id
    with pytest.raises(ShowNotFound):
        await house.ask(hold(stranger, 0), show_id=stranger)
    assert house.located == [stranger]


# -- replaced owners ------------------------------------------------------------------------------


async def test_an_answer_of_an_older_epoch_is_not_trusted(house: House) -> None:
    house.actor.epoch = 7
    await house.ask(hold(ID, 0))
    house.actor.epoch = 6
    house.actor.answer = lambda request: TAKEN
    with pytest.raises(OutcomeUnknown):
        await house.ask(hold(ID, 1))
    house.actor.epoch = 7
    assert await house.ask(hold(ID, 1)) == TAKEN


async def test_epochs_of_different_shows_are_not_compared(house: House) -> None:
    house.actor.epoch = 7
    await house.ask(hold(ID, 0))
    house.actor.epoch = 1
    assert isinstance(await house.ask(hold(OTHER, 0), show_id=OTHER), SeatsHeld)


async def test_an_older_epoch_may_still_say_that_nothing_happened(house: House) -> None:
    house.actor.epoch = 7
    await house.ask(hold(ID, 0))
    house.actor.epoch = 6
    house.actor.answer = lambda request: Overloaded("full")
    with pytest.raises(Overloaded):
        await house.ask(hold(ID, 1))


# -- when the line is full ------------------------------------------------------------------------


async def test_a_full_line_refuses_claims_and_takes_settling_commands(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stall(house)
    monkeypatch.setattr(show_ref, "WAITING_COMMANDS_MAX", 3)
    house.actor.answer = lambda request: TAKEN
    claims = [house.ask(hold(ID, seat)) for seat in range(3)]
    await turn()
    with pytest.raises(Overloaded):
        await house.ask(hold(ID, 9))
    settling = [house.ask(confirm(hold(ID, seat))) for seat in range(3)]
    await turn()
    with pytest.raises(Overloaded):
        await house.ask(confirm(hold(ID, 9)))
    house.actor.gate.set()
    assert await asyncio.gather(*claims, *settling) == [TAKEN] * 6
    assert await house.ask(hold(ID, 9)) == TAKEN


# -- when things break ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trouble", "news"),
    [
        (OutcomeUnknown("the actor crashed"), OutcomeUnknown),
        (Overloaded("full"), Overloaded),
        (ZeroDivisionError(), OutcomeUnknown),
    ],
    ids=lambda case: getattr(case, "__name__", type(case).__name__),
)
async def test_a_batch_that_fails_fails_alone(
    house: House, trouble: Exception, news: type[Exception]
) -> None:
    house.actor.gate.clear()
    doomed = house.ask(hold(ID, 0))
    await turn()
    waiting = [house.ask(hold(ID, seat)) for seat in range(5)]
    await turn()
    house.actor.faults = [trouble]
    house.actor.gate.set()
    with pytest.raises(news):
        await doomed
    assert all(isinstance(answer, SeatsHeld) for answer in await asyncio.gather(*waiting))
    assert len(house.actor.batches) == 2


async def test_everybody_in_a_failed_batch_hears_of_it(house: House) -> None:
    await stall(house)
    asking = [house.ask(hold(ID, seat)) for seat in range(3)]
    await turn()
    house.actor.faults = [OutcomeUnknown("crashed")] * 3
    house.actor.gate.set()
    results = await asyncio.gather(*asking, return_exceptions=True)
    assert {type(result) for result in results} == {OutcomeUnknown}


async def test_a_reply_that_misses_an_answer_is_not_dealt_out_in_part(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stall(house)
    asking = [house.ask(hold(ID, seat)) for seat in range(3)]
    await turn()
    honest = FakeActor.__call__

    async def forgetful(actor: FakeActor, requests: list[tuple[ShowId, Command]]) -> object:
        reply = await honest(actor, requests)
        return reply._replace(answers=reply.answers[:-1])

    monkeypatch.setattr(FakeActor, "__call__", forgetful)
    house.actor.gate.set()
    results = await asyncio.gather(*asking, return_exceptions=True)
    assert {type(result) for result in results} == {OutcomeUnknown}


# -- callers that hang up -------------------------------------------------------------------------


async def test_a_caller_that_hangs_up_in_line_takes_its_command_along(house: House) -> None:
    await stall(house)
    unwanted, wanted = hold(ID, 5), hold(ID, 6)
    asking, other = house.ask(unwanted), house.ask(wanted)
    await turn()
    asking.cancel()
    await turn()
    house.actor.gate.set()
    assert isinstance(await other, SeatsHeld)
    assert wanted in house.actor.commands
    assert unwanted not in house.actor.commands


async def test_a_caller_that_hangs_up_under_way_disturbs_nobody(house: House) -> None:
    await stall(house)
    asking = [house.ask(hold(ID, seat)) for seat in range(3)]
    await turn()
    house.actor.gate.set()
    await turn(2)
    asking[1].cancel()
    results = await asyncio.gather(*asking, return_exceptions=True)
    assert [type(result) for result in results] == [SeatsHeld, asyncio.CancelledError, SeatsHeld]


async def test_a_caller_that_hangs_up_while_the_owner_is_looked_up_leaves_it_findable(
    house: House,
) -> None:
    impatient = house.ask(hold(ID, 0))
    await turn(1)
    impatient.cancel()
    await turn()
    assert isinstance(await house.ask(hold(ID, 1)), SeatsHeld)


def _in_turn(
    answers: list[object], afterwards: Callable[..., object]
) -> Callable[..., Awaitable[object] | object]:
    left = list(answers)

    def answer(request: tuple[ShowId, HoldSeats]) -> object:
        return left.pop(0) if left else afterwards(request)

    return answer
