"""Letters that go out after the answer: tried again when that may help, and never in the way."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from integrations.mail.mailbox import Letter, LetterRefused
from reservation.faults import NotDone, OutcomeUnknown
from serve_app.api.account.post_office import ERRANDS_WAITING_MAX, PostOffice, open_post_office
from tests.support.house import until

LETTER = Letter("ada@customer.example", "Subject", "Text\n")


class FakeMailbox:
    """Raises what it is told to, one after the other, and then takes letters."""

    def __init__(self, *faults: Exception) -> None:
        self.faults = list(faults)
        self.taken: list[Letter] = []
        self.attempts = 0
        self.is_closed = False
        self.is_open = asyncio.Event()
        self.is_open.set()

    async def send(self, letter: Letter) -> None:
        self.attempts += 1
        await self.is_open.wait()
        if self.faults:
            raise self.faults.pop(0)
        self.taken.append(letter)

    async def close(self) -> None:
        self.is_closed = True


async def letter() -> Letter:
    return LETTER


async def no_letter() -> None:
    return None


@asynccontextmanager
async def at_work(office: PostOffice) -> AsyncIterator[PostOffice]:
    task = asyncio.create_task(office.run())
    yield office
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    await office.close()


async def until_quiet(office: PostOffice) -> None:
    """Everything was tried, and nothing waits for another attempt."""
    await office.is_idle()
    await until(lambda: not office._later)


async def test_posting_returns_before_anything_is_looked_up_or_sent() -> None:
    mailbox = FakeMailbox()
    async with at_work(PostOffice(mailbox)) as office:
        office.post(letter)
        assert mailbox.attempts == 0
        await office.is_idle()
    assert mailbox.taken == [LETTER]


async def test_an_errand_without_a_recipient_sends_nothing() -> None:
    mailbox = FakeMailbox()
    async with at_work(PostOffice(mailbox)) as office:
        office.post(no_letter)
        await office.is_idle()
    assert mailbox.attempts == 0


@pytest.mark.parametrize("fault", [NotDone("away"), OutcomeUnknown("silent")])
async def test_a_fault_is_met_with_another_attempt(fault: Exception) -> None:
    mailbox = FakeMailbox(fault, fault)
    async with at_work(PostOffice(mailbox, pauses_s=(0.001, 0.001, 0.001))) as office:
        office.post(letter)
        await until_quiet(office)
    assert (mailbox.attempts, mailbox.taken) == (3, [LETTER])


async def test_a_database_that_is_away_is_asked_again() -> None:
    faults = [NotDone("no database")]

    async def errand() -> Letter:
        if faults:
            raise faults.pop()
        return LETTER

    mailbox = FakeMailbox()
    async with at_work(PostOffice(mailbox, pauses_s=(0.001,))) as office:
        office.post(errand)
        await until_quiet(office)
    assert mailbox.taken == [LETTER]


async def test_after_the_last_attempt_a_letter_is_dropped_and_that_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    mailbox = FakeMailbox(*[NotDone("away") for _ in range(3)])
    async with at_work(PostOffice(mailbox, pauses_s=(0.001, 0.001))) as office:
        office.post(letter)
        await until_quiet(office)
    assert (mailbox.attempts, mailbox.taken) == (3, [])
    (said,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert said.getMessage() == "a letter is dropped after 3 attempts"
    assert LETTER.recipient not in caplog.text


async def test_a_letter_that_nobody_will_take_is_not_tried_again() -> None:
    mailbox = FakeMailbox(LetterRefused("no such mailbox"))
    async with at_work(PostOffice(mailbox, pauses_s=(0.001,))) as office:
        office.post(letter)
        await until_quiet(office)
    assert mailbox.attempts == 1


async def test_a_bug_in_one_errand_does_not_stop_the_others() -> None:
    async def broken() -> Letter:
        raise KeyError("a bug")

    mailbox = FakeMailbox()
    async with at_work(PostOffice(mailbox)) as office:
        for _ in range(5):
            office.post(broken)
        office.post(letter)
        await office.is_idle()
    assert mailbox.taken == [LETTER]


async def test_letters_that_wait_for_another_attempt_hold_up_nobody() -> None:
    mailbox = FakeMailbox(*[NotDone("away") for _ in range(10)])
    async with at_work(PostOffice(mailbox, pauses_s=(3_600.0,))) as office:
        for _ in range(11):
            office.post(letter)
        await office.is_idle()
    assert mailbox.taken == [LETTER]


async def test_too_many_letters_are_refused_and_not_piled_up() -> None:
    mailbox = FakeMailbox()
    office = PostOffice(mailbox)
    for _ in range(ERRANDS_WAITING_MAX):
        office.post(letter)
    with pytest.raises(NotDone):
        office.post(letter)


async def test_what_was_posted_is_tried_before_the_office_closes() -> None:
    mailbox = FakeMailbox()
    async with open_post_office(mailbox) as office:
        for _ in range(20):
            office.post(letter)
    assert len(mailbox.taken) == 20
    assert mailbox.is_closed


async def test_a_mail_server_that_hangs_does_not_keep_the_office_from_closing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("serve_app.api.account.post_office.STOP_TIMEOUT_S", 0.05)
    mailbox = FakeMailbox()
    mailbox.is_open.clear()
    async with asyncio.timeout(10), open_post_office(mailbox) as office:
        office.post(letter)
    assert (mailbox.taken, mailbox.is_closed) == ([], True)
