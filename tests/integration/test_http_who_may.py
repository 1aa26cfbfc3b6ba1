"""Whose holds and bookings are whose: every booking route with an id, and everybody who may ask.

What belongs to somebody else is answered as if it were not there, byte for byte.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import NamedTuple

import httpx
import pytest

from reservation.access import HOUSE_TENANT, Role
from reservation.ids import (
    CustomerId,
    HoldId,
    ShowId,
    booking_id_of,
    derive_hold_id,
    derive_show_id,
)
from reservation.show import Placement
from tests.support.access import OTHER_TENANT, account_named, signed_in
from tests.support.http_house import (
    BOOKING,
    House,
    as_customer,
    code_of,
    numbers,
    open_client,
    open_new_house,
    selling,
)

OWNER = "ann"
PAYMENT = {"payment": "counter"}

ASKERS: dict[str, Callable[[], dict[str, str]]] = {
    "nobody": dict,
    "the customer": lambda: signed_in(OWNER),
    "another customer": lambda: signed_in("bob"),
    "another house's box office": lambda: signed_in("eve", Role.BOX_OFFICE, OTHER_TENANT),
    "another house's organiser": lambda: signed_in("eva", Role.ORGANISER, OTHER_TENANT),
    "another house's gate": lambda: signed_in("ivo", Role.GATE, OTHER_TENANT),
    "the house's gate": lambda: signed_in("gus", Role.GATE),
    "the house's box office": lambda: signed_in("sue", Role.BOX_OFFICE),
    "the house's organiser": lambda: signed_in("tom", Role.ORGANISER),
    "an admin": lambda: signed_in("adam", Role.ADMIN),
}
"""Headers, made when they are needed: tokens live ten minutes, a run of all tests is longer."""

SELLERS = ("the house's box office", "the house's organiser", "an admin")


class Route(NamedTuple):
    """A route with an id; what its id names, and what is answered when it is not there."""

    method: str
    path: str
    absence: str
    status: int


ROUTES = [
    Route("GET", "/holds/{hold_id}", "hold_not_found", 200),
    Route("DELETE", "/holds/{hold_id}", "hold_not_found", 204),
    Route("POST", "/holds/{hold_id}/extend", "hold_not_found", 200),
    Route("POST", "/holds/{hold_id}/confirm", "hold_not_found", 201),
    # The house has no payment provider, which only the customer hears.
    Route("POST", "/holds/{hold_id}/checkout", "hold_not_found", 422),
    Route("GET", "/bookings/{booking_id}", "booking_not_found", 200),
    Route("POST", "/bookings/{booking_id}/cancel", "booking_not_found", 200),
]


def expected(route: Route, asker: str) -> tuple[int, str]:
    """Status and code; the rules, written down once more."""
    if asker == "nobody":
        return 401, "token_missing"
    if route.path.endswith("/confirm") and asker not in SELLERS:
        # Not even one's own: taking money at the counter is the box office's.
        return 403, "payment_not_allowed"
    if asker == "the customer" or (route.path.endswith("/cancel") and asker in SELLERS):
        return route.status, ""
    return 404, route.absence


@pytest.fixture(scope="module")
async def house() -> AsyncIterator[House]:
    async with open_new_house() as house:
        yield house


@pytest.fixture(scope="module")
async def booking(house: House) -> AsyncIterator[httpx.AsyncClient]:
    async with open_client(house.booking_app(), BOOKING) as client:
        yield client


async def add_show(house: House) -> ShowId:
    # Pooled: an actor for each of these many shows would take a connection for each.
    return await house.add_show(placement=Placement.POOLED)


async def owned(house: House, booking: httpx.AsyncClient, owner: dict[str, str]) -> dict[str, str]:
    """A hold of somebody's, and the booking of another one."""
    show_id = await add_show(house)
    ids = {}
    for name, seat in (("hold_id", "Stalls-A-1"), ("booked", "Stalls-B-1")):
        answer = await booking.post(
            f"/shows/{show_id}/holds",
            json={"seats": [seat]},
            headers={**owner, "Idempotency-Key": f"who-{next(numbers)}"},
        )
        assert answer.status_code == 201, answer.text
        ids[name] = answer.json()["hold_id"]
    # The box office sells to somebody who stands before it; the account is the same.
    answer = await booking.post(
        f"/holds/{ids['booked']}/confirm", json=PAYMENT, headers=selling(OWNER)
    )
    ids["booking_id"] = answer.json()["booking_id"]
    return ids


async def ask(
    booking: httpx.AsyncClient, route: Route, ids: dict[str, str], headers: dict[str, str]
) -> httpx.Response:
    body = PAYMENT if route.path.endswith("/confirm") else None
    if route.path.endswith("/checkout"):
        headers = {**headers, "Idempotency-Key": f"pays-{next(numbers)}"}
    return await booking.request(
        route.method, route.path.format_map(ids), json=body, headers=headers
    )


async def state(booking: httpx.AsyncClient, ids: dict[str, str]) -> list[object]:
    """What the owner sees."""
    views = [
        (await booking.get(path, headers=signed_in(OWNER))).json()
        for path in (f"/holds/{ids['hold_id']}", f"/bookings/{ids['booking_id']}", "/bookings")
    ]
    assert "state" in views[0], "or nothing is compared"
    assert "state" in views[1]
    return views


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
@pytest.mark.parametrize("asker", ASKERS)
async def test_only_those_who_may_touch_a_hold_or_booking_know_that_it_is_there(
    house: House, booking: httpx.AsyncClient, route: Route, asker: str
) -> None:
    ids = await owned(house, booking, signed_in(OWNER))
    before = await state(booking, ids)
    answer = await ask(booking, route, ids, ASKERS[asker]())
    status, code = expected(route, asker)
    assert answer.status_code == status, answer.text
    if not code:
        return
    assert code_of(answer) == code
    assert account_named(OWNER) not in answer.text
    assert await state(booking, ids) == before, "and nothing has happened"
    # Of a show that exists, but under an id that was never given out.
    show_id = derive_show_id("a show of nobody")
    hold_id = derive_hold_id(show_id, CustomerId(account_named(OWNER)), "never")
    known = "hld_" + ids["hold_id"][4:20] + hold_id[20:]
    nothing = {"hold_id": known, "booking_id": "bkg_" + known[4:]}
    assert (await ask(booking, route, nothing, ASKERS[asker]())).content == answer.content


@pytest.mark.parametrize(
    "asker", [name for name in ASKERS if name not in ("nobody", "the customer")]
)
async def test_lists_are_one_s_own(house: House, booking: httpx.AsyncClient, asker: str) -> None:
    await owned(house, booking, signed_in(OWNER))
    assert (await booking.get("/holds", headers=ASKERS[asker]())).json() == {"holds": []}
    assert (await booking.get("/bookings", headers=ASKERS[asker]())).json() == {"bookings": []}


async def test_a_customer_may_hold_and_not_take_the_money_for_it(
    house: House, booking: httpx.AsyncClient
) -> None:
    show_id = await add_show(house)
    held = await booking.post(
        f"/shows/{show_id}/holds", json={"seats": ["Stalls-A-1"]}, headers=as_customer("cat")
    )
    address = f"/holds/{held.json()['hold_id']}/confirm"
    refused = await booking.post(address, json=PAYMENT, headers=signed_in("cat"))
    assert (refused.status_code, code_of(refused)) == (403, "payment_not_allowed")
    assert [error["field"] for error in refused.json()["errors"]] == ["payment"]
    # What is wrong with the request itself is said first.
    wrong = await booking.post(address, json={"payment": "card"}, headers=signed_in("cat"))
    assert (wrong.status_code, code_of(wrong)) == (422, "invalid_request")


@pytest.mark.parametrize("role", [Role.BOX_OFFICE, Role.ORGANISER, Role.ADMIN])
async def test_who_sells_for_the_house_holds_and_confirms_for_whoever_stands_there(
    house: House, booking: httpx.AsyncClient, role: Role
) -> None:
    name = f"seller{next(numbers)}"
    me = signed_in(name, role, HOUSE_TENANT)
    show_id = await add_show(house)
    for seat in ("Stalls-A-1", "Stalls-A-2"):
        held = await booking.post(
            f"/shows/{show_id}/holds",
            json={"seats": [seat]},
            headers={**me, "Idempotency-Key": seat},
        )
        sold = await booking.post(
            f"/holds/{held.json()['hold_id']}/confirm", json=PAYMENT, headers=me
        )
        assert sold.status_code == 201, sold.text
    listed = (await booking.get("/bookings", headers=me)).json()["bookings"]
    assert len(listed) == 2
    again = await booking.post(
        f"/bookings/{listed[0]['booking_id']}/cancel", headers=signed_in("sue", Role.BOX_OFFICE)
    )
    assert again.json()["state"] == "cancelled"


async def test_a_staff_member_of_another_house_buys_like_any_customer(
    house: House, booking: httpx.AsyncClient
) -> None:
    eve = ASKERS["another house's box office"]()
    ids = await owned(house, booking, signed_in(OWNER))
    show_id = "shw_" + ids["hold_id"][4:20]
    held = await booking.post(
        f"/shows/{show_id}/holds",
        json={"seats": ["Stalls-A-5"]},
        headers={**eve, "Idempotency-Key": "own"},
    )
    assert held.status_code == 201
    mine = f"/holds/{held.json()['hold_id']}"
    assert (await booking.get(mine, headers=eve)).status_code == 200
    refused = await booking.post(f"{mine}/confirm", json=PAYMENT, headers=eve)
    assert code_of(refused) == "payment_not_allowed"
    assert (await booking.delete(mine, headers=eve)).status_code == 204


async def test_a_booking_that_was_never_made_cannot_be_cancelled_by_staff(
    house: House, booking: httpx.AsyncClient
) -> None:
    ids = await owned(house, booking, signed_in(OWNER))
    # The hold is there, but it is no booking.
    held = f"/bookings/{booking_id_of(HoldId(ids['hold_id']))}/cancel"
    for asker in SELLERS:
        answer = await booking.post(held, headers=ASKERS[asker]())
        assert (answer.status_code, code_of(answer)) == (404, "booking_not_found")


async def test_what_answers_say_cannot_be_said_in_requests(
    house: House, booking: httpx.AsyncClient
) -> None:
    show_id = await add_show(house)
    made = await booking.post(
        f"/shows/{show_id}/holds", json={"seats": ["Stalls-A-1"]}, headers=as_customer("mia")
    )
    said = made.json()
    askable = {"seats", "admissions"}
    more = {"customer_id": account_named("bob"), "price": 0, "role": "admin", "tenant_id": "x"}
    refused = 0
    for name, value in (said | more).items():
        if name in askable:
            continue
        answer = await booking.post(
            f"/shows/{show_id}/holds",
            json={"seats": ["Stalls-A-2"], name: value},
            headers=as_customer("mia"),
        )
        assert (answer.status_code, code_of(answer)) == (422, "invalid_request"), name
        assert [error["field"] for error in answer.json()["errors"]] == [name]
        refused += 1
    assert refused > 8
    for member in ("label", "category", "amount_minor"):
        wish = {"seats": [{"label": "Stalls-A-2", member: said["seats"][0][member]}]}
        answer = await booking.post(
            f"/shows/{show_id}/holds", json=wish, headers=as_customer("mia")
        )
        assert answer.status_code == 422
    assert (await house.stored(show_id))[0] == 1
