"""Holds through a channel: who has its access key may have its seats, and nobody else."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from typing import NamedTuple

import httpx
import pytest

from persistence.channels import ChannelDraft, Channels
from persistence.sessions import open_pool
from reservation.access import HOUSE_TENANT
from reservation.commands import AllocateSeats
from reservation.events import SeatsAllocated
from reservation.ids import ChannelId, ShowId
from reservation.show import Placement
from serve_app.api import channel_keys
from tests.support.http_house import (
    BOOKING,
    House,
    as_customer,
    as_seller,
    code_of,
    fields_of,
    numbers,
    open_client,
    open_new_house,
)


class Club(NamedTuple):
    """A channel, its key, and a show of which it has Stalls-A-1 to 4."""

    channel_id: ChannelId
    access_key: str
    show_id: ShowId


@pytest.fixture(scope="module")
async def house() -> AsyncIterator[House]:
    async with open_new_house() as house:
        yield house


@pytest.fixture(scope="module")
async def booking(house: House) -> AsyncIterator[httpx.AsyncClient]:
    async with open_client(house.booking_app(), BOOKING) as client:
        yield client


@pytest.fixture(scope="module")
async def channels(house: House) -> AsyncIterator[Channels]:
    pool = await open_pool(house.dsn, "tests", size_max=1)
    yield Channels(pool)
    await pool.close()


@pytest.fixture
async def club(house: House, channels: Channels) -> Club:
    number = next(numbers)
    club = Club(
        ChannelId(f"chn_{number:020}"),
        f"key {number} of the club",
        await house.add_show(placement=Placement.POOLED),
    )
    await channels.create(
        HOUSE_TENANT, club.channel_id, ChannelDraft(f"Club {number}"), digest_of(club.access_key)
    )
    allocated = await house.refs.ask(club.show_id, AllocateSeats(club.channel_id, (0, 1, 2, 3)))
    assert isinstance(allocated, SeatsAllocated)
    return club


def digest_of(access_key: str) -> bytes:
    return hashlib.sha256(access_key.encode()).digest()


async def hold(
    booking: httpx.AsyncClient, show_id: ShowId, body: object, key: str | None = None
) -> httpx.Response:
    return await booking.post(f"/shows/{show_id}/holds", json=body, headers=as_customer("fan", key))


async def test_seats_of_a_channel_are_held_with_its_key_only(
    booking: httpx.AsyncClient, club: Club
) -> None:
    body: dict[str, object] = {"seats": ["Stalls-A-1", "Stalls-B-1"]}
    refused = await hold(booking, club.show_id, body)
    assert (refused.status_code, code_of(refused)) == (409, "seat_unavailable")
    assert refused.json()["seats"] == ["Stalls-A-1"]
    held = await hold(booking, club.show_id, {**body, "access_key": club.access_key}, "mine")
    assert held.status_code == 201, held.text
    assert [seat["label"] for seat in held.json()["seats"]] == body["seats"]
    assert club.access_key not in held.text
    again = await hold(booking, club.show_id, {**body, "access_key": club.access_key}, "mine")
    assert again.content == held.content
    assert again.headers["idempotent-replayed"] == "true"
    # With the same key of the request and without that of the channel it is another wish.
    other = await hold(booking, club.show_id, body, "mine")
    assert (other.status_code, code_of(other)) == (422, "exists_with_different_request")


async def test_the_best_seats_may_be_the_channel_s(booking: httpx.AsyncClient, club: Club) -> None:
    wish = {"best_available": {"count": 2}}
    outside = await hold(booking, club.show_id, wish)
    assert outside.status_code == 201, outside.text
    assert not {seat["label"] for seat in outside.json()["seats"]} & {
        f"Stalls-A-{number}" for number in (1, 2, 3, 4)
    }
    inside = await hold(booking, club.show_id, {**wish, "access_key": club.access_key})
    assert [seat["label"] for seat in inside.json()["seats"]] == ["Stalls-A-1", "Stalls-A-2"]


async def test_seats_that_are_let_go_are_the_channel_s_again(
    booking: httpx.AsyncClient, club: Club
) -> None:
    body = {"seats": ["Stalls-A-3"], "access_key": club.access_key}
    held = await hold(booking, club.show_id, body)
    await booking.delete(f"/holds/{held.json()['hold_id']}", headers=as_customer("fan"))
    assert (await hold(booking, club.show_id, {"seats": ["Stalls-A-3"]})).status_code == 409
    mine = await booking.post(
        f"/shows/{club.show_id}/holds", json=body, headers=as_seller("fan", "again")
    )
    sold = await booking.post(
        f"/holds/{mine.json()['hold_id']}/confirm",
        json={"payment": "counter"},
        headers=as_seller("fan"),
    )
    assert sold.status_code == 201, sold.text


async def test_a_key_that_opens_nothing_here_is_answered_as_if_there_were_no_channel(
    house: House,
    booking: httpx.AsyncClient,
    channels: Channels,
    club: Club,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(channel_keys, "FRESH_S", 0.0)
    answers = [
        await hold(booking, club.show_id, {"seats": ["Stalls-A-1"], "access_key": key})
        for key in ("wrong", club.access_key.upper(), club.channel_id)
    ]
    elsewhere = await house.add_show(placement=Placement.POOLED)
    answers.append(
        await hold(booking, elsewhere, {"seats": ["Stalls-A-1"], "access_key": club.access_key})
    )
    closed = await channels.set_open(HOUSE_TENANT, club.channel_id, False)
    assert closed.row is not None
    body = {"seats": ["Stalls-A-1"], "access_key": club.access_key}
    answers.append(await hold(booking, club.show_id, body))
    assert {(answer.status_code, code_of(answer)) for answer in answers} == {
        (404, "channel_not_found")
    }
    assert len({answer.content for answer in answers}) == 1
    await channels.set_open(HOUSE_TENANT, club.channel_id, True)
    assert (await hold(booking, club.show_id, body)).status_code == 201


async def test_a_key_has_a_reasonable_form(booking: httpx.AsyncClient, club: Club) -> None:
    for broken in ("", "k" * 201, 7, ["k"], {"k": 1}, True):
        answer = await hold(booking, club.show_id, {"seats": ["Stalls-A-1"], "access_key": broken})
        assert (answer.status_code, fields_of(answer)) == (422, ["access_key"])
    # None is no key.
    answer = await hold(booking, club.show_id, {"seats": ["Stalls-B-5"], "access_key": None})
    assert answer.status_code == 201
