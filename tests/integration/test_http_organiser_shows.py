"""From an empty house to a show on sale, and everything that may change while it is sold."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from persistence.organiser_rows import Put, PutOutcome
from persistence.organiser_shows import ShowRow
from persistence.plan_change_locks import PlanChangeLocks
from reservation.access import Role
from reservation.commands import BlockSeats
from reservation.ids import ShowId
from reservation.seating_plan import SeatingPlan
from tests.support.access import signed_in
from tests.support.http_house import (
    BOOKING,
    BROWSE,
    HALL,
    as_customer,
    as_seller,
    code_of,
    fields_of,
    numbers,
    open_client,
    selling,
)
from tests.support.organiser_house import (
    HALL_PRICES,
    ORGANISER,
    Organiser,
    OrganiserHouse,
    open_organiser_house,
    plan_body,
    show_body,
)
from tests.support.plans import build_plan


@pytest.fixture(scope="module")
async def house() -> AsyncIterator[OrganiserHouse]:
    async with open_organiser_house() as house:
        yield house


@pytest.fixture(scope="module")
async def olga(house: OrganiserHouse) -> AsyncIterator[Organiser]:
    async with open_client(house.app(), ORGANISER) as client:
        yield Organiser(client)


@pytest.fixture(scope="module")
async def booking(house: OrganiserHouse) -> AsyncIterator[httpx.AsyncClient]:
    async with open_client(house.house.booking_app(), BOOKING) as client:
        yield client


@pytest.fixture
async def browse(house: OrganiserHouse) -> AsyncIterator[httpx.AsyncClient]:
    # A process of its own each time, so that nothing is remembered from another test.
    async with open_client(house.house.browse_app(), BROWSE) as client:
        yield client


async def hold(
    booking: httpx.AsyncClient, show_id: str, *seats: str, name: str | None = None
) -> httpx.Response:
    headers = as_seller(name or f"seller{next(numbers)}")
    return await booking.post(f"/shows/{show_id}/holds", json={"seats": seats}, headers=headers)


async def book(booking: httpx.AsyncClient, show_id: str, *seats: str) -> Any:
    name = f"seller{next(numbers)}"
    held = await hold(booking, show_id, *seats, name=name)
    assert held.status_code == 201, held.text
    confirmed = await booking.post(
        f"/holds/{held.json()['hold_id']}/confirm",
        json={"payment": "counter"},
        headers=selling(name),
    )
    assert confirmed.status_code == 201, confirmed.text
    return confirmed.json()


def without_seats(plan: SeatingPlan, row_name: str, section: str = "Stalls") -> SeatingPlan:
    """The hall without one of its rows."""
    rows = [
        (row.section, row.name, row.end - row.first, ())
        for row in plan.rows
        if (row.section, row.name) != (section, row_name)
    ]
    count = 16 if row_name not in ("A", "B") or section != "Stalls" else 8
    return build_plan(
        rows,
        name=plan.name,
        categories=("Stalls", "Balcony"),
        category_of=lambda seat: 1 if seat >= count else 0,
        admission_tiers=[("standing", 100), ("lawn", 3)],
    )


async def test_a_show_goes_from_a_venue_to_its_first_customer(
    olga: Organiser, booking: httpx.AsyncClient, browse: httpx.AsyncClient
) -> None:
    venue_id = await olga.make_venue("Grand Theatre")
    plan = await olga.make(
        "/seating-plans", {"name": "Main hall", "venue_id": venue_id, **plan_body(HALL)}
    )
    assert plan["findings"] == []
    assert plan["newest"] == 1
    show = await olga.make_show(
        venue_id=venue_id,
        seating_plan_id=plan["seating_plan_id"],
        title="The Tempest",
        is_on_sale=False,
    )
    show_id = show["show_id"]
    assert show["status"] == "draft"
    assert show["venue"] == "Grand Theatre"
    assert show["plan_id"] == plan["plan_id"]
    assert (await browse.get(f"/shows/{show_id}")).status_code == 404
    refused = await hold(booking, show_id, "Stalls-A-1")
    assert code_of(refused) == "show_not_found"

    published = await olga.do(f"/shows/{show_id}/publish")
    assert published["status"] == "on_sale"
    again = await olga.ask("POST", f"/shows/{show_id}/publish")
    assert again.headers["idempotent-replayed"] == "true"

    found = await browse.get("/shows", params={"q": "tempest"})
    assert [each["show_id"] for each in found.json()["shows"]] == [show_id]


async def test_what_is_sold_of_a_show_is_told_with_it(
    olga: Organiser, booking: httpx.AsyncClient
) -> None:
    show_id = (await olga.make_show())["show_id"]
    await book(booking, show_id, "Stalls-A-1", "Stalls-A-2")
    assert (await hold(booking, show_id, "Balcony-A-1")).status_code == 201
    sales = (await olga.get(f"/shows/{show_id}"))["sales"]
    assert sales["bookings"] == 1
    assert sales["seats"] == 2
    assert sales["amount_minor"] == 9_000
    assert sales["held_seats"] == 1
    assert sales["by_category"] == [{"category": "Stalls", "places": 2, "amount_minor": 9_000}]
    listed = await olga.get("/shows", sales="true", limit=100)
    (mine,) = [show for show in listed["shows"] if show["show_id"] == show_id]
    assert mine["sales"] == sales
    assert "sales" not in (await olga.get("/shows", limit=1))["shows"][0]


async def test_a_plan_that_drops_a_sold_seat_is_refused_with_the_seats_named(
    olga: Organiser, booking: httpx.AsyncClient
) -> None:
    show = await olga.make_show()
    show_id = show["show_id"]
    await book(booking, show_id, "Stalls-B-3")
    assert (await hold(booking, show_id, "Stalls-B-5")).status_code == 201
    smaller = await olga.make_plan(without_seats(HALL, "B"))

    refused = await olga.ask("PUT", f"/shows/{show_id}/seating-plan", {"seating_plan_id": smaller})
    assert code_of(refused) == "plan_drops_sold_seats"
    assert refused.status_code == 409
    assert refused.json()["seats"] == ["Stalls-B-3", "Stalls-B-5"]
    assert (await olga.get(f"/shows/{show_id}"))["plan_id"] == show["plan_id"]
    assert (await hold(booking, show_id, "Stalls-B-8")).status_code == 201, "nothing is blocked"


async def test_a_plan_that_drops_free_seats_is_taken_while_the_show_is_sold(
    olga: Organiser, booking: httpx.AsyncClient, browse: httpx.AsyncClient
) -> None:
    hall_id = await olga.make_plan()
    show = await olga.make_show(seating_plan_id=hall_id)
    show_id = show["show_id"]
    receipt = await book(booking, show_id, "Stalls-A-3", "Stalls-A-4")
    smaller = await olga.make_plan(without_seats(HALL, "B"))
    path = f"/shows/{show_id}/seating-plan"

    changed = await olga.ask("PUT", path, {"seating_plan_id": smaller})
    assert changed.status_code == 200, changed.text
    assert changed.json()["plan_id"] != show["plan_id"]
    counts = (await browse.get(f"/shows/{show_id}/seat-map")).json()["counts"]
    assert counts == {"free": 10, "held": 0, "booked": 2, "blocked": 0}
    gone = await hold(booking, show_id, "Stalls-B-1")
    assert gone.status_code in (409, 422)
    assert (await hold(booking, show_id, "Stalls-A-5")).status_code == 201
    attendees = (await olga.get(f"/shows/{show_id}/attendees"))["attendees"]
    (mine,) = [each for each in attendees if each["booking_id"] == receipt["booking_id"]]
    assert [place["place"] for place in mine["places"]] == ["Stalls-A-3", "Stalls-A-4"]

    again = await olga.ask("PUT", path, {"seating_plan_id": smaller})
    assert again.status_code == 200, again.text
    assert again.headers["idempotent-replayed"] == "true"

    back = await olga.ask("PUT", path, {"seating_plan_id": hall_id})
    assert back.status_code == 200, back.text
    assert (await olga.get(f"/shows/{show_id}/blocks"))["blocks"] == []
    held = await hold(booking, show_id, "Stalls-B-1")
    assert held.status_code == 201, held.text


async def test_blocks_that_a_broken_off_change_of_plan_left_are_lifted_by_the_next_one(
    house: OrganiserHouse, olga: Organiser, booking: httpx.AsyncClient
) -> None:
    show_id = (await olga.make_show())["show_id"]
    seats = tuple(index for index, label in enumerate(HALL.labels) if label.startswith("Stalls-B"))
    await house.house.refs.ask(ShowId(show_id), BlockSeats(seats, "plan_change"))
    await olga.do(f"/shows/{show_id}/block", {"seats": ["Stalls-A-1"], "reason": "camera"})
    assert code_of(await hold(booking, show_id, "Stalls-B-1")) == "seat_unavailable"
    larger = replace(HALL, name="Hall, painted anew")
    plan_id = await olga.make_plan(larger)
    changed = await olga.ask("PUT", f"/shows/{show_id}/seating-plan", {"seating_plan_id": plan_id})
    assert changed.status_code == 200, changed.text
    assert (await hold(booking, show_id, "Stalls-B-1")).status_code == 201
    blocks = (await olga.get(f"/shows/{show_id}/blocks"))["blocks"]
    assert blocks == [{"seat": "Stalls-A-1", "reason": "camera"}]


async def test_while_a_plan_is_changed_nobody_else_changes_it(
    house: OrganiserHouse, olga: Organiser, booking: httpx.AsyncClient
) -> None:
    hall_id = await olga.make_plan()
    show_id = (await olga.make_show(seating_plan_id=hall_id))["show_id"]
    path, body = f"/shows/{show_id}/seating-plan", {"seating_plan_id": hall_id}
    other_process = PlanChangeLocks(house.admin_pool)
    async with other_process.held(ShowId(show_id)) as is_ours:
        assert is_ours
        first = HALL.labels.index("Stalls-B-1")
        await house.house.refs.ask(ShowId(show_id), BlockSeats((first,), "plan_change"))
        assert code_of(await olga.ask("PUT", path, body)) == "version_conflict"
        assert code_of(await hold(booking, show_id, "Stalls-B-1")) == "seat_unavailable"
        elsewhere = await olga.make_show(seating_plan_id=hall_id)
        free = await olga.ask("PUT", f"/shows/{elsewhere['show_id']}/seating-plan", body)
        assert free.status_code == 200, "another show has a lock of its own"
    repeated = await olga.ask("PUT", path, body)
    assert repeated.headers["idempotent-replayed"] == "true"
    assert (await hold(booking, show_id, "Stalls-B-1")).status_code == 201


async def test_a_change_that_the_store_refuses_leaves_nothing_blocked(
    house: OrganiserHouse, olga: Organiser, monkeypatch: pytest.MonkeyPatch
) -> None:
    show_id = (await olga.make_show())["show_id"]
    smaller = await olga.make_plan(without_seats(HALL, "B"))

    async def stale(*_: Any) -> Put[ShowRow]:
        return Put(PutOutcome.STALE)

    monkeypatch.setattr(house.organisers.shows, "change_plan", stale)
    path = f"/shows/{show_id}/seating-plan"
    refused = await olga.ask("PUT", path, {"seating_plan_id": smaller})
    assert code_of(refused) == "version_conflict"
    assert (await olga.get(f"/shows/{show_id}/blocks"))["blocks"] == []


async def test_a_draft_may_be_changed_in_every_way_and_cancelled(
    olga: Organiser, booking: httpx.AsyncClient
) -> None:
    draft = await olga.make_show(is_on_sale=False)
    path = f"/shows/{draft['show_id']}"
    await olga.do(f"{path}/block", {"seats": ["Stalls-A-1"], "reason": "camera"})
    smaller = await olga.make_plan(without_seats(HALL, "B"))
    changed = await olga.ask("PUT", f"{path}/seating-plan", {"seating_plan_id": smaller})
    assert changed.status_code == 200, changed.text
    prices = {**HALL_PRICES, "currency": "CZK"}
    assert (await olga.change(path, {"prices": prices}))["prices"]["currency"] == "CZK"
    await olga.do(f"{path}/publish")
    refused = await olga.ask("PATCH", path, {"prices": HALL_PRICES})
    assert refused.status_code == 422, "what is sold is sold in one currency"
    assert code_of(await hold(booking, draft["show_id"], "Stalls-A-1")) == "seat_unavailable"
    held = await hold(booking, draft["show_id"], "Stalls-A-2")
    assert held.json()["currency"] == "CZK"
    unused = await olga.make_show(is_on_sale=False)
    gone = await olga.do(f"/shows/{unused['show_id']}/cancel", {"reason": "no cast"})
    assert gone["status"] == "cancelled"


async def test_a_plan_with_a_new_category_needs_its_price(
    olga: Organiser, booking: httpx.AsyncClient
) -> None:
    show_id = (await olga.make_show())["show_id"]
    boxes = build_plan(
        [
            ("Stalls", "A", 8, ()),
            ("Stalls", "B", 8, ()),
            ("Balcony", "A", 4, ()),
            ("Box", "1", 2, ()),
        ],
        name="Hall",
        categories=("Stalls", "Balcony", "Box"),
        category_of=lambda seat: 2 if seat >= 20 else 1 if seat >= 16 else 0,
        admission_tiers=[("standing", 100), ("lawn", 3)],
    )
    body: dict[str, Any] = {"seating_plan_id": await olga.make_plan(boxes)}
    path = f"/shows/{show_id}/seating-plan"
    refused = await olga.ask("PUT", path, body)
    assert refused.status_code == 422
    assert fields_of(refused) == ["prices"]
    prices = {**HALL_PRICES["categories"], "Box": {"amount_minor": 9_900}}
    body["prices"] = {"currency": "EUR", "categories": prices}
    changed = await olga.ask("PUT", path, body)
    assert changed.status_code == 200, changed.text
    held = await hold(booking, show_id, "Box-1-1")
    assert held.json()["amount_minor"] == 9_900


async def test_prices_of_a_window_are_charged_from_its_beginning_on(
    olga: Organiser, booking: httpx.AsyncClient
) -> None:
    prices = {
        **HALL_PRICES,
        "windows": [
            {
                "from": "2020-01-01T00:00:00Z",
                "categories": {"Stalls": {"amount_minor": 5_000}, "Balcony": {"amount_minor": 1}},
            },
            {
                "from": "2999-01-01T00:00:00Z",
                "categories": {"Stalls": {"amount_minor": 9_000}, "Balcony": {"amount_minor": 2}},
            },
        ],
    }
    show = await olga.make_show(prices=prices)
    assert [window["from"] for window in show["prices"]["windows"]] == [
        "2020-01-01T00:00:00.000Z",
        "2999-01-01T00:00:00.000Z",
    ]
    show_id = show["show_id"]
    held = await hold(booking, show_id, "Stalls-A-1")
    assert held.json()["amount_minor"] == 5_000

    await olga.change(f"/shows/{show_id}", {"prices": HALL_PRICES})
    later = await hold(booking, show_id, "Stalls-A-2")
    assert later.json()["amount_minor"] == 4_500, "the actor goes by the new prices at once"
    kept = await booking.get(f"/holds/{held.json()['hold_id']}", headers=_headers_of(held))
    assert kept.json()["amount_minor"] == 5_000, "a hold keeps its price"


def _headers_of(response: httpx.Response) -> dict[str, str]:
    return {"Authorization": response.request.headers["Authorization"]}


async def test_limits_and_sales_times_are_those_that_the_organiser_set_last(
    olga: Organiser, booking: httpx.AsyncClient
) -> None:
    show = await olga.make_show(policy={"seats_per_order_max": 2, "seats_per_customer_max": 3})
    assert show["policy"]["seats_per_order_max"] == 2
    path = f"/shows/{show['show_id']}"
    seats = ["Stalls-A-1", "Stalls-A-2", "Stalls-A-3"]
    refused = await hold(booking, show["show_id"], *seats)
    assert code_of(refused) == "too_many_seats_per_hold"
    changed = await olga.change(path, {"policy": {"seats_per_order_max": 3}})
    assert changed["policy"]["seats_per_order_max"] == 3
    assert changed["policy"]["seats_per_customer_max"] == 3, "what is absent stays"
    assert (await hold(booking, show["show_id"], *seats)).status_code == 201

    await olga.change(path, {"policy": {"sales_start": "2999-01-01T00:00:00Z"}})
    early = await hold(booking, show["show_id"], "Balcony-A-1")
    assert code_of(early) == "not_on_sale"
    opened = await olga.change(path, {"policy": {"sales_start": None}})
    assert opened["policy"]["sales_start"] is None
    assert (await hold(booking, show["show_id"], "Balcony-A-1")).status_code == 201
    bad = await olga.ask(
        "PATCH",
        path,
        {"policy": {"sales_start": "2027-01-01T00:00:00Z", "sales_end": "2026-01-01T00:00:00Z"}},
    )
    assert fields_of(bad) == ["policy.sales_end"]


async def test_a_cancelled_show_sells_nothing_and_keeps_its_bookings(
    olga: Organiser, booking: httpx.AsyncClient, browse: httpx.AsyncClient
) -> None:
    show_id = (await olga.make_show(title="Doomed"))["show_id"]
    receipt = await book(booking, show_id, "Stalls-A-1")
    held = await hold(booking, show_id, "Stalls-A-2")
    path = f"/shows/{show_id}/cancel"
    assert code_of(await olga.ask("POST", path, {})) == "invalid_request"
    cancelled = await olga.do(path, {"reason": "The roof leaks"})
    assert cancelled["status"] == "cancelled"
    again = await olga.ask("POST", path, {"reason": "The roof leaks"})
    assert again.headers["idempotent-replayed"] == "true"

    late = await hold(booking, show_id, "Stalls-A-3")
    assert code_of(late) == "show_cancelled"
    confirmed = await booking.post(
        f"/holds/{held.json()['hold_id']}/confirm",
        json={"payment": "counter"},
        headers=_headers_of(held),
    )
    assert confirmed.status_code == 410, confirmed.text
    sales = (await olga.get(f"/shows/{show_id}"))["sales"]
    assert (sales["bookings"], sales["live_holds"]) == (1, 0)
    assert sales["by_payment"][0]["payment"] == "counter"
    assert receipt["state"] == "confirmed"
    found = await browse.get("/shows", params={"q": "doomed"})
    assert found.json()["shows"] == []
    for change in ({"title": "x"}, {"prices": HALL_PRICES}):
        refused = await olga.ask("PATCH", f"/shows/{show_id}", change)
        assert code_of(refused) == "show_is_cancelled"
    assert code_of(await olga.ask("POST", f"/shows/{show_id}/publish")) == "show_is_cancelled"


async def test_a_repeated_creation_makes_one_show_and_another_content_is_refused(
    olga: Organiser,
) -> None:
    body = {
        **show_body(),
        "venue_id": await olga.make_venue(),
        "seating_plan_id": await olga.make_plan(),
    }
    first = await olga.ask("POST", "/shows", body, key="only-once")
    again = await olga.ask("POST", "/shows", body, key="only-once")
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    other = await olga.ask("POST", "/shows", {**body, "title": "Other"}, key="only-once")
    assert code_of(other) == "exists_with_different_request"
    missing = await olga.client.post("/shows", json=body, headers=signed_in("olga", Role.ORGANISER))
    assert code_of(missing) == "idempotency_key_missing"


async def test_two_people_who_change_a_show_notice_each_other(olga: Organiser) -> None:
    show = await olga.make_show()
    path = f"/shows/{show['show_id']}"
    mine = await olga.change(path, {"title": "Mine", "version": show["version"]})
    assert mine["version"] == show["version"] + 1
    theirs = await olga.ask("PATCH", path, {"title": "Theirs", "version": show["version"]})
    assert code_of(theirs) == "version_conflict"
    assert (await olga.get(path))["title"] == "Mine"


async def test_shows_are_found_by_words_status_and_time(olga: Organiser) -> None:
    plan_id, venue_id = await olga.make_plan(), await olga.make_venue()
    common = {"seating_plan_id": plan_id, "venue_id": venue_id}
    draft = await olga.make_show(title="Ozymandias, a draft", is_on_sale=False, **common)
    early = await olga.make_show(
        title="Ozymandias",
        starts_at="2026-12-01T18:00:00Z",
        ends_at="2026-12-01T20:00:00Z",
        **common,
    )
    ids = {"draft": draft["show_id"], "early": early["show_id"]}

    async def found(**query: Any) -> list[str]:
        shows = (await olga.get("/shows", q="ozymandias", **query))["shows"]
        return [show["show_id"] for show in shows]

    assert await found() == [ids["early"], ids["draft"]]
    assert await found(status="draft") == [ids["draft"]]
    assert await found(starts_before="2026-12-02T00:00:00Z") == [ids["early"]]
    assert await found(kind="train") == []
    first = await olga.get("/shows", q="ozymandias", limit=1)
    rest = await olga.get("/shows", q="ozymandias", limit=1, cursor=first["next"])
    assert [page["shows"][0]["show_id"] for page in (first, rest)] == [ids["early"], ids["draft"]]
    assert "next" not in rest


async def test_a_customer_may_hold_what_an_organiser_put_on_sale(
    olga: Organiser, booking: httpx.AsyncClient
) -> None:
    show_id = (await olga.make_show())["show_id"]
    held = await booking.post(
        f"/shows/{show_id}/holds", json={"seats": ["Stalls-A-1"]}, headers=as_customer("carol")
    )
    assert held.status_code == 201, held.text
