"""Booking over HTTP, on a real database, each response held against the OpenAPI description."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from datetime import datetime

import httpx
import jsonschema
import pytest

from actors.messages import Reply, Request
from actors.show_ref import ShowRefs, Submit
from reservation.faults import Fault, OutcomeUnknown, Overloaded, ShowUnavailable
from reservation.ids import CustomerId, ShowId, derive_hold_id, derive_show_id
from reservation.rejections import Rejection
from reservation.show import OrphanRule, SalesPolicy
from serve_app.api.problems import REJECTIONS
from tests.support.access import account_named, signed_in
from tests.support.http_house import (
    BOOKING,
    BROWSE,
    STARTS_AT_MS,
    Described,
    House,
    as_seller,
    code_of,
    numbers,
    open_client,
    open_new_house,
    selling,
)


@pytest.fixture(scope="module")
async def house() -> AsyncIterator[House]:
    async with open_new_house() as house:
        yield house


@pytest.fixture(scope="module")
async def booking(house: House) -> AsyncIterator[httpx.AsyncClient]:
    async with open_client(house.booking_app(), BOOKING) as client:
        yield client


@pytest.fixture(scope="module")
async def browse(house: House) -> AsyncIterator[httpx.AsyncClient]:
    async with open_client(house.browse_app(), BROWSE) as client:
        yield client


@pytest.fixture
def ann() -> str:
    return f"ann{next(numbers)}@example.org"


@pytest.fixture
def bob() -> str:
    return f"bob{next(numbers)}"


async def hold(
    client: httpx.AsyncClient, show_id: ShowId, customer: str, body: object, key: str | None = None
) -> httpx.Response:
    headers = as_seller(customer, key)
    return await client.post(f"/shows/{show_id}/holds", json=body, headers=headers)


async def held(
    client: httpx.AsyncClient, show_id: ShowId, customer: str, *seats: str
) -> dict[str, object]:
    response = await hold(client, show_id, customer, {"seats": seats})
    assert response.status_code == 201, response.text
    view: dict[str, object] = response.json()
    return view


def labels(response: httpx.Response) -> list[str]:
    return [seat["label"] for seat in response.json()["seats"]]


async def test_somebody_finds_a_show_holds_two_seats_books_and_cancels(
    house: House, booking: httpx.AsyncClient, browse: httpx.AsyncClient, ann: str, bob: str
) -> None:
    show_id = await house.add_show("The Winter's Tale")

    found = await browse.get("/shows", params={"q": "winter tale"})
    assert [show["show_id"] for show in found.json()["shows"]] == [show_id]
    seat_map = (await browse.get(f"/shows/{show_id}/seat-map")).json()
    assert seat_map["counts"] == {"free": 20, "held": 0, "booked": 0, "blocked": 0}

    body = {"seats": ["Stalls-A-2", "Stalls-A-1"]}
    first = await hold(booking, show_id, ann, body, "party of two")
    assert first.status_code == 400, "a space is not visible"
    first = await hold(booking, show_id, ann, body, "party-of-two")
    assert first.status_code == 201
    assert labels(first) == ["Stalls-A-1", "Stalls-A-2"]
    assert first.json()["amount_minor"] == 9_000
    assert first.json()["currency"] == "EUR"
    assert first.json()["arrangement"] == "named"
    assert "from" not in first.json()
    hold_id = first.json()["hold_id"]
    assert first.headers["location"] == f"/api/booking/holds/{hold_id}"
    assert "idempotent-replayed" not in first.headers

    again = await hold(
        booking, show_id, ann, {"seats": ["Stalls-A-1", "Stalls-A-2"]}, "party-of-two"
    )
    assert again.status_code == 201
    assert again.content == first.content
    assert again.headers["idempotent-replayed"] == "true"

    other = await hold(booking, show_id, bob, {"seats": ["Stalls-A-2", "Stalls-A-3"]})
    assert other.status_code == 409
    assert code_of(other) == "seat_unavailable"
    assert other.json()["seats"] == ["Stalls-A-2"]

    confirmed = await booking.post(
        f"/holds/{hold_id}/confirm", json={"payment": "counter"}, headers=selling(ann)
    )
    assert confirmed.status_code == 201
    booking_id = confirmed.json()["booking_id"]
    assert confirmed.headers["location"] == f"/api/booking/bookings/{booking_id}"
    assert confirmed.json()["amount_minor"] == 9_000

    listed = await booking.get("/bookings", headers=selling(ann))
    (mine,) = listed.json()["bookings"]
    assert mine["booking_id"] == booking_id
    assert [seat["label"] for seat in mine["seats"]] == ["Stalls-A-1", "Stalls-A-2"]
    address = "http://house" + confirmed.headers["location"]
    found_booking = await booking.get(address, headers=selling(ann))
    assert found_booking.json() == mine

    cancelled = await booking.post(f"/bookings/{booking_id}/cancel", headers=selling(ann))
    assert cancelled.status_code == 200
    assert cancelled.json()["state"] == "cancelled"
    seat_map = (await browse.get(f"/shows/{show_id}/seat-map")).json()
    assert seat_map["counts"]["free"] == 20


async def test_the_same_key_with_other_content_is_refused(
    house: House, booking: httpx.AsyncClient, ann: str, bob: str
) -> None:
    show_id = await house.add_show()
    await hold(booking, show_id, ann, {"seats": ["Stalls-A-1"]}, "k")
    for body in (
        {"seats": ["Stalls-A-2"]},
        {"seats": ["Stalls-A-1"], "or_nearest": True},
        {"seats": ["Stalls-A-1"], "admissions": [{"tier": "lawn", "count": 1}]},
        {"best_available": {"count": 1}},
    ):
        refused = await hold(booking, show_id, ann, body, "k")
        assert refused.status_code == 422
        assert code_of(refused) == "exists_with_different_request"
    # Somebody else's key of the same name is another key.
    assert (await hold(booking, show_id, bob, {"seats": ["Stalls-A-2"]}, "k")).status_code == 201


async def test_one_of_many_who_want_the_same_seat_gets_it(
    house: House, booking: httpx.AsyncClient
) -> None:
    show_id = await house.add_show()
    names = [f"racer{next(numbers)}" for _ in range(30)]
    answers = await asyncio.gather(
        *(hold(booking, show_id, name, {"seats": ["Stalls-B-4"]}) for name in names)
    )
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 29


async def test_many_equal_requests_at_once_make_one_hold(
    house: House, booking: httpx.AsyncClient, ann: str
) -> None:
    show_id = await house.add_show()
    answers = await asyncio.gather(
        *(hold(booking, show_id, ann, {"seats": ["Stalls-B-1"]}, "same") for _ in range(20))
    )
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert sum("idempotent-replayed" not in answer.headers for answer in answers) == 1
    assert (await house.stored(show_id))[0] == 1


async def test_the_nearest_equivalent_is_held_when_asked_for(
    house: House, booking: httpx.AsyncClient, ann: str, bob: str
) -> None:
    show_id = await house.add_show()
    await held(booking, show_id, bob, "Stalls-B-3", "Stalls-B-4")
    body = {"seats": ["Stalls-B-4", "Stalls-B-5"], "or_nearest": True}
    answer = await hold(booking, show_id, ann, body)
    assert answer.status_code == 201
    assert answer.json()["arrangement"] == "nearest"
    assert labels(answer) == ["Stalls-B-5", "Stalls-B-6"]


async def test_the_house_chooses_the_best_seats(
    house: House, booking: httpx.AsyncClient, ann: str, bob: str
) -> None:
    show_id = await house.add_show()
    best = await hold(booking, show_id, ann, {"best_available": {"count": 2}})
    assert labels(best) == ["Stalls-A-1", "Stalls-A-2"]
    assert best.json()["arrangement"] == "row"
    balcony = {"best_available": {"count": 3, "category": "Balcony", "orphan_rule": "off"}}
    chosen = await hold(booking, show_id, ann, balcony)
    assert labels(chosen) == ["Balcony-A-1", "Balcony-A-2", "Balcony-A-3"]
    wheels = {"best_available": {"count": 2, "accessible": 1, "companions": 1}}
    assert labels(await hold(booking, show_id, bob, wheels)) == ["Stalls-A-7", "Stalls-A-8"]
    many = await hold(
        booking, show_id, bob, {"best_available": {"count": 5, "category": "Balcony"}}
    )
    assert (many.status_code, code_of(many)) == (409, "not_enough_seats")


async def test_admissions_are_counted_and_refused_when_the_tier_is_full(
    house: House, booking: httpx.AsyncClient, browse: httpx.AsyncClient, ann: str, bob: str
) -> None:
    show_id = await house.add_show()
    body = {
        "seats": ["Stalls-A-1"],
        "admissions": [{"tier": "lawn", "count": 2}, {"tier": "standing", "count": 1}],
    }
    mixed = await hold(booking, show_id, ann, body)
    assert mixed.status_code == 201
    assert mixed.json()["admissions"] == [
        {"tier": "standing", "count": 1, "amount_minor": 4_500},
        {"tier": "lawn", "count": 2, "amount_minor": 9_000},
    ]
    assert mixed.json()["amount_minor"] == 4 * 4_500
    full = await hold(booking, show_id, bob, {"admissions": [{"tier": "lawn", "count": 2}]})
    assert (full.status_code, code_of(full)) == (409, "capacity_unavailable")
    assert full.json()["tiers"] == ["lawn"]
    only = await hold(booking, show_id, bob, {"admissions": [{"tier": "lawn", "count": 1}]})
    assert only.json()["arrangement"] == "admission"
    tiers = (await browse.get(f"/shows/{show_id}/seat-map")).json()["admissions"]
    assert {tier["tier"]: tier["free"] for tier in tiers} == {"standing": 99, "lawn": 0}


async def test_two_passengers_share_a_seat_on_different_parts_of_a_run(
    house: House, booking: httpx.AsyncClient, ann: str, bob: str
) -> None:
    show_id = await house.add_run()
    seat = {"seats": ["Coach-1-1"]}
    ann_holds = await hold(booking, show_id, ann, {**seat, "from": "PRG", "to": "PCE"})
    assert ann_holds.status_code == 201
    assert (ann_holds.json()["from"], ann_holds.json()["to"]) == ("PRG", "PCE")
    assert ann_holds.json()["amount_minor"] == 1_000 + 500 + 300
    clash = await hold(booking, show_id, bob, {**seat, "from": "KOL", "to": "OVA"})
    assert (clash.status_code, clash.json()["seats"]) == (409, ["Coach-1-1"])
    bob_holds = await hold(booking, show_id, bob, {**seat, "from": "PCE"})
    assert bob_holds.status_code == 201
    assert (bob_holds.json()["from"], bob_holds.json()["to"]) == ("PCE", "OVA")


async def test_writing_out_the_ends_of_the_route_is_the_same_request(
    house: House, booking: httpx.AsyncClient, ann: str
) -> None:
    show_id = await house.add_run()
    first = await hold(booking, show_id, ann, {"seats": ["Coach-1-1"]}, "whole")
    whole = {"seats": ["Coach-1-1"], "from": "PRG", "to": "OVA"}
    again = await hold(booking, show_id, ann, whole, "whole")
    assert again.content == first.content
    assert again.headers["idempotent-replayed"] == "true"


async def test_a_hold_is_extended_up_to_its_cap(
    house: House, booking: httpx.AsyncClient, ann: str
) -> None:
    policy = SalesPolicy(hold_ttl_ms=60_000, hold_life_ms_max=60_100)
    show_id = await house.add_show(policy=policy)
    view = await held(booking, show_id, ann, "Stalls-A-1")
    customer = selling(ann)
    await asyncio.sleep(0.15)
    extended = await booking.post(f"/holds/{view['hold_id']}/extend", headers=customer)
    assert extended.status_code == 200
    assert extended.json()["expires_at"] == view["expires_at_latest"]
    assert extended.json()["expires_at"] > str(view["expires_at"])
    capped = await booking.post(f"/holds/{view['hold_id']}/extend", json={}, headers=customer)
    assert (capped.status_code, code_of(capped)) == (409, "extension_cap_reached")
    seen = (await booking.get(f"/holds/{view['hold_id']}", headers=customer)).json()
    assert seen["expires_at"] == extended.json()["expires_at"]


async def test_a_released_hold_stays_released_and_its_seats_are_free(
    house: House, booking: httpx.AsyncClient, ann: str, bob: str
) -> None:
    show_id = await house.add_show()
    view = await held(booking, show_id, ann, "Stalls-A-1")
    address, customer = f"/holds/{view['hold_id']}", selling(ann)
    assert (await booking.get("/holds", headers=customer)).json() == {"holds": [view]}
    released = await booking.delete(address, headers=customer)
    assert (released.status_code, released.content) == (204, b"")
    again = await booking.delete(address, headers=customer)
    assert (again.status_code, again.headers["idempotent-replayed"]) == (204, "true")
    for method, path in (("extend", None), ("confirm", {"payment": "counter"})):
        gone = await booking.post(f"{address}/{method}", json=path, headers=customer)
        assert (gone.status_code, code_of(gone)) == (410, "hold_released")
    assert (await booking.get(address, headers=customer)).json()["state"] == "released"
    assert (await booking.get("/holds", headers=customer)).json() == {"holds": []}
    await held(booking, show_id, bob, "Stalls-A-1")


async def test_an_expired_hold_is_gone(house: House, booking: httpx.AsyncClient, ann: str) -> None:
    policy = SalesPolicy(hold_ttl_ms=1_000, hold_life_ms_max=1_000)
    show_id = await house.add_show(policy=policy)
    view = await held(booking, show_id, ann, "Stalls-A-1")
    await asyncio.sleep(1.5)
    address, customer = f"/holds/{view['hold_id']}", selling(ann)
    body = {"payment": "counter"}
    gone = await booking.post(f"{address}/confirm", json=body, headers=customer)
    assert (gone.status_code, code_of(gone)) == (410, "hold_expired")
    assert (await booking.get(address, headers=customer)).json()["state"] == "expired"


async def test_confirming_and_cancelling_twice_is_harmless(
    house: House, booking: httpx.AsyncClient, ann: str
) -> None:
    show_id = await house.add_show()
    view = await held(booking, show_id, ann, "Stalls-A-1")
    address, customer = f"/holds/{view['hold_id']}", as_seller(ann)
    body = {"payment": "counter"}
    first = await booking.post(f"{address}/confirm", json=body, headers=customer)
    again = await booking.post(f"{address}/confirm", json=body, headers=customer)
    assert (again.status_code, again.content) == (201, first.content)
    assert again.headers["idempotent-replayed"] == "true"
    kept = await booking.delete(address, headers=customer)
    assert (kept.status_code, code_of(kept)) == (409, "hold_already_confirmed")
    hold_view = (await booking.get(address, headers=customer)).json()
    assert hold_view["state"] == "confirmed"
    assert hold_view["booking_id"] == first.json()["booking_id"]

    booked = f"/bookings/{first.json()['booking_id']}"
    cancelled = await booking.post(f"{booked}/cancel", headers=customer)
    again = await booking.post(f"{booked}/cancel", headers=customer)
    assert (again.status_code, again.content) == (200, cancelled.content)
    late = await booking.post(f"{address}/confirm", json=body, headers=customer)
    assert (late.status_code, code_of(late)) == (409, "booking_cancelled")
    seen = (await booking.get(booked, headers=customer)).json()
    assert seen["state"] == "cancelled"
    assert seen["cancelled_at"] == cancelled.json()["cancelled_at"]


async def test_what_belongs_to_somebody_else_does_not_exist(
    house: House, booking: httpx.AsyncClient, ann: str, bob: str
) -> None:
    show_id = await house.add_show()
    view = await held(booking, show_id, ann, "Stalls-A-1")
    mine, other = f"/holds/{view['hold_id']}", signed_in(bob)

    async def is_missing(answer: Awaitable[httpx.Response], code: str) -> None:
        response = await answer
        assert (response.status_code, code_of(response)) == (404, code)

    await is_missing(booking.get(mine, headers=other), "hold_not_found")
    await is_missing(booking.delete(mine, headers=other), "hold_not_found")
    await is_missing(booking.post(f"{mine}/extend", headers=other), "hold_not_found")
    payment = {"payment": "counter"}
    colleague = selling(bob)
    await is_missing(
        booking.post(f"{mine}/confirm", json=payment, headers=colleague), "hold_not_found"
    )
    confirmed = await booking.post(f"{mine}/confirm", json=payment, headers=selling(ann))
    booked = f"/bookings/{confirmed.json()['booking_id']}"
    await is_missing(booking.get(booked, headers=other), "booking_not_found")
    await is_missing(booking.post(f"{booked}/cancel", headers=other), "booking_not_found")
    assert (await booking.get("/bookings", headers=other)).json() == {"bookings": []}


async def test_ids_of_nothing_are_not_found(
    house: House, booking: httpx.AsyncClient, ann: str
) -> None:
    customer = as_seller(ann)
    unknown_show = derive_show_id("no such show")
    stranger = derive_hold_id(unknown_show, CustomerId(account_named(ann)), "k")
    known = derive_hold_id(await house.add_show(), CustomerId(account_named(ann)), "never")
    for hold_id in (stranger, known, "hld_", "x", "hld_" + "u" * 32):
        for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/extend")):
            answer = await booking.request(method, f"/holds/{hold_id}{path}", headers=customer)
            assert (answer.status_code, code_of(answer)) == (404, "hold_not_found")
        body = {"payment": "counter"}
        answer = await booking.post(f"/holds/{hold_id}/confirm", json=body, headers=customer)
        assert (answer.status_code, code_of(answer)) == (404, "hold_not_found")
    for booking_id in ("bkg_" + stranger[4:], "bkg_" + known[4:], "bkg_", stranger):
        for method, path in (("GET", ""), ("POST", "/cancel")):
            answer = await booking.request(
                method, f"/bookings/{booking_id}{path}", headers=customer
            )
            assert (answer.status_code, code_of(answer)) == (404, "booking_not_found")
    for show_id in (unknown_show, "shw_", "x", "shw_" + "U" * 16):
        answer = await hold(booking, ShowId(show_id), ann, {"seats": ["Stalls-A-1"]})
        assert (answer.status_code, code_of(answer)) == (404, "show_not_found")


async def test_limits_and_sales_windows_are_said(
    house: House, booking: httpx.AsyncClient, ann: str, bob: str
) -> None:
    few = await house.add_show(
        policy=SalesPolicy(live_holds_per_customer_max=1, seats_per_customer_max=2)
    )
    many = await hold(booking, few, ann, {"seats": ["Stalls-A-1", "Stalls-A-2", "Stalls-A-3"]})
    assert (many.status_code, code_of(many)) == (409, "too_many_seats")
    await held(booking, few, ann, "Stalls-A-1")
    second = await hold(booking, few, ann, {"seats": ["Stalls-A-2"]})
    assert (second.status_code, code_of(second)) == (409, "too_many_holds")
    over = await house.add_show(policy=SalesPolicy(on_sale_until_at_ms=1))
    closed = await hold(booking, over, ann, {"seats": ["Stalls-A-1"]})
    assert (closed.status_code, code_of(closed)) == (409, "not_on_sale")
    strict = await house.add_show(policy=SalesPolicy(orphan_rule=OrphanRule.STRICT))
    orphan = await hold(booking, strict, bob, {"seats": ["Stalls-B-2"]})
    assert (orphan.status_code, code_of(orphan)) == (409, "orphan_seat")
    assert orphan.json()["seats"] == ["Stalls-B-1"]
    companion = await hold(booking, strict, bob, {"seats": ["Stalls-A-8"]})
    assert (companion.status_code, code_of(companion)) == (422, "companion_alone")
    assert companion.json()["seats"] == ["Stalls-A-8"]


async def test_bookings_come_in_pages_the_newest_first(
    house: House, booking: httpx.AsyncClient, ann: str
) -> None:
    customer = selling(ann)
    made = []
    for number in range(5):
        show_id = await house.add_show() if number % 2 else await house.add_run()
        seat = "Stalls-A-1" if number % 2 else "Coach-1-1"
        view = await held(booking, show_id, ann, seat)
        confirmed = await booking.post(
            f"/holds/{view['hold_id']}/confirm", json={"payment": "counter"}, headers=customer
        )
        made.append(confirmed.json()["booking_id"])
    seen: list[str] = []
    parameters = {"limit": "2"}
    sizes = []
    while True:
        page = (await booking.get("/bookings", params=parameters, headers=customer)).json()
        sizes.append(len(page["bookings"]))
        seen += [entry["booking_id"] for entry in page["bookings"]]
        if "next" not in page:
            break
        parameters["cursor"] = page["next"]
    assert sizes == [2, 2, 1]
    assert seen == made[::-1]


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        (Overloaded("full", retry_after_ms=2_500), 503, "overloaded"),
        (ShowUnavailable("gone", retry_after_ms=100), 503, "not_done"),
        (OutcomeUnknown("lost"), 504, "outcome_unknown"),
    ],
)
async def test_faults_of_the_actor_are_told_apart(
    house: House, ann: str, fault: Fault, status: int, code: str
) -> None:
    show_id = await house.add_show()

    async def submit(requests: list[Request]) -> Reply:
        raise fault

    async def connect(name: str) -> Submit:
        return submit

    async def locate(show_id: ShowId) -> str:
        return f"show:{show_id}"

    refs = ShowRefs(locate, connect, ask_deadline_ms=200)
    async with open_client(house.booking_app(refs), BOOKING) as booking:
        answer = await hold(booking, show_id, ann, {"seats": ["Stalls-A-1"]})
        assert (answer.status_code, code_of(answer)) == (status, code)
        assert answer.headers.get("retry-after") == {"overloaded": "3", "not_done": "1"}.get(code)
        if status == 504:
            assert "same Idempotency-Key" in answer.json()["retry"]
        hold_id = derive_hold_id(show_id, CustomerId(account_named(ann)), "k")
        settled = await booking.delete(f"/holds/{hold_id}", headers=selling(ann))
        assert (settled.status_code, code_of(settled)) == (status, code)
        if status == 504:
            assert "Idempotency-Key" not in settled.json()["retry"]


async def test_addresses_that_a_request_names_say_nothing_about_who_sent_it(
    house: House, booking: httpx.AsyncClient, ann: str
) -> None:
    show_id = await house.add_show()
    view = await held(booking, show_id, ann, "Stalls-A-1")
    nobody = await booking.get("/holds", headers={"X-Forwarded-For": "127.0.0.1"})
    assert (nobody.status_code, code_of(nobody)) == (401, "token_missing")
    far = ("203.0.113.9", 4_711)
    async with open_client(house.booking_app(), BOOKING, peer=far) as remote:
        for forwarded in ("127.0.0.1", "203.0.113.9", "127.0.0.1, 203.0.113.9"):
            headers = {"X-Forwarded-For": forwarded, "X-Customer-Id": account_named(ann)}
            assert code_of(await remote.get("/holds", headers=headers)) == "token_missing"
            mine = await remote.get("/holds", headers=headers | signed_in(ann))
            assert mine.json() == {"holds": [view]}


async def test_health_says_whether_the_database_answers(booking: httpx.AsyncClient) -> None:
    assert (await booking.get("/healthz")).json() == {"status": "ok"}
    assert (await booking.get("/readyz")).json() == {"status": "ok"}


async def test_a_request_id_is_taken_over_or_made(booking: httpx.AsyncClient) -> None:
    kept = await booking.get("/healthz", headers={"X-Request-Id": "trace-1"})
    assert kept.headers.get_list("x-request-id") == ["trace-1"]
    made = await booking.get("/healthz", headers={"X-Request-Id": "two words"})
    assert len(made.headers["x-request-id"]) == 32


async def test_the_description_is_valid_and_names_every_rejection(house: House) -> None:
    document = house.booking_app().openapi()
    assert document["openapi"].startswith("3.1")
    described = Described(house.booking_app())
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    text = str(document)
    # Blocking and allocating seats is an organiser's affair and has no route here.
    for code in set(REJECTIONS) - {Rejection.SEAT_NOT_BLOCKED, Rejection.SEAT_NOT_ALLOCATED}:
        assert f"`{code.value}`" in text, code
    references = [part.split("'")[0] for part in text.split("#/components/schemas/")[1:]]
    assert references
    assert set(references) <= set(document["components"]["schemas"])
    hold_body = document["paths"]["/shows/{show_id}/holds"]["post"]["requestBody"]
    schema = hold_body["content"]["application/json"]["schema"]
    described.validate({"seats": ["A"], "from": "PRG"}, schema)
    described.validate({"best_available": {"count": 2}}, schema)
    with pytest.raises(jsonschema.ValidationError):
        described.validate({"best_available": {"count": 0}}, schema)


async def test_instants_are_of_now_and_of_the_policy(
    house: House, booking: httpx.AsyncClient, ann: str
) -> None:
    policy = SalesPolicy(hold_ttl_ms=120_000, hold_life_ms_max=300_000)
    view = await held(booking, await house.add_show(policy=policy), ann, "Stalls-A-1")
    at, end, latest = (
        datetime.fromisoformat(str(view[name]))
        for name in ("held_at", "expires_at", "expires_at_latest")
    )
    assert (end - at).total_seconds() == 120
    assert (latest - at).total_seconds() == 300
    assert STARTS_AT_MS > 0
