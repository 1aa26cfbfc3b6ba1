"""Browsing over HTTP, on a real database, each response held against the OpenAPI description."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import httpx
import pytest

from persistence.plan_codec import plan_id_of
from reservation.commands import BlockSeats
from reservation.events import SeatsBlocked
from reservation.fares import CategoryFare, FareTable, FareWindow
from reservation.ids import ShowId
from reservation.plan_export import write_plan
from reservation.show import SalesPolicy
from tests.support.http_house import (
    BOOKING,
    BROWSE,
    HALL,
    HOUR_MS,
    NOW_MS,
    STARTS_AT_MS,
    House,
    as_seller,
    numbers,
    open_client,
    open_new_house,
    selling,
)
from tests.support.plans import arena


@pytest.fixture(scope="module")
async def house() -> AsyncIterator[House]:
    async with open_new_house() as house:
        yield house


@pytest.fixture(scope="module")
async def browse(house: House) -> AsyncIterator[httpx.AsyncClient]:
    async with open_client(house.browse_app(), BROWSE) as client:
        yield client


@pytest.fixture(scope="module")
async def booking(house: House) -> AsyncIterator[httpx.AsyncClient]:
    async with open_client(house.booking_app(), BOOKING) as client:
        yield client


async def hold(booking: httpx.AsyncClient, show_id: ShowId, **body: object) -> str:
    answer = await booking.post(
        f"/shows/{show_id}/holds", json=body, headers=as_seller(f"guest{next(numbers)}")
    )
    assert answer.status_code == 201, answer.text
    hold_id: str = answer.json()["hold_id"]
    return hold_id


async def confirm(booking: httpx.AsyncClient, hold_id: str, customer: str) -> None:
    answer = await booking.post(
        f"/holds/{hold_id}/confirm",
        json={"payment": "counter"},
        headers=selling(customer),
    )
    assert answer.status_code == 201, answer.text


def letters(view: dict[str, object]) -> str:
    sections = view["sections"]
    assert isinstance(sections, list)
    return "".join(row["status"] for section in sections for row in section["rows"])


async def titles(browse: httpx.AsyncClient, **parameters: str) -> list[str]:
    answer = await browse.get("/shows", params=parameters)
    assert answer.status_code == 200, answer.text
    return [show["title"] for show in answer.json()["shows"]]


async def test_shows_are_found_by_words_kind_and_time(
    house: House, browse: httpx.AsyncClient
) -> None:
    await house.add_show("Žižkov Nights", starts_at_ms=NOW_MS + HOUR_MS)
    await house.add_show("Zizkov Days", starts_at_ms=NOW_MS + 30 * HOUR_MS)
    await house.add_show("Zizkov Past", starts_at_ms=NOW_MS - HOUR_MS)
    assert await titles(browse, q="zizkov") == ["Žižkov Nights", "Zizkov Days"]
    assert await titles(browse, q="ZIZ day") == ["Zizkov Days"]
    assert await titles(browse, q="zizkov", kind="train") == []
    # 1,790,000,000,000 ms is 2026-09-21T14:13:20Z.
    assert await titles(browse, q="zizkov", date="2026-09-21") == ["Zizkov Past", "Žižkov Nights"]
    assert await titles(browse, q="zizkov", date="2026-09-22") == ["Zizkov Days"]
    bounds = {"starts_from": "2026-09-21T16:13:20+01:00", "starts_before": "2026-09-22T00:00:00Z"}
    assert await titles(browse, q="zizkov", **bounds) == ["Žižkov Nights"]
    late = "2026-09-21T15:13:20.001Z"
    assert await titles(browse, q="zizkov", starts_from=late) == ["Zizkov Days"]
    assert await titles(browse, q="  ") != []
    assert await titles(browse, q="!?") == []


async def test_pages_of_shows_join_without_gap_or_repetition(
    house: House, browse: httpx.AsyncClient
) -> None:
    expected = [await house.add_show("Paged Show", starts_at_ms=NOW_MS + 9) for _ in range(7)]
    seen: list[str] = []
    parameters = {"q": "paged", "limit": "3"}
    while True:
        page = (await browse.get("/shows", params=parameters)).json()
        seen += [show["show_id"] for show in page["shows"]]
        if "next" not in page:
            break
        parameters["cursor"] = page["next"]
    assert seen == sorted(expected)


async def test_runs_are_found_by_the_stops_they_call_at(
    house: House, browse: httpx.AsyncClient
) -> None:
    show_id = await house.add_run("Pendolino")
    answer = await browse.get("/shows", params={"from": "kolin", "to": "OLO", "q": "pendolino"})
    (show,) = answer.json()["shows"]
    assert show["show_id"] == show_id
    assert show["amount_from_minor"] == 1_000 + 300 + 700
    assert show["ride"]["from"] == "KOL"
    assert show["ride"]["to_name"] == "Olomouc"
    assert show["ride"]["departs_at"] < show["ride"]["arrives_at"]
    backwards = await browse.get("/shows", params={"from": "OLO", "to": "KOL"})
    assert backwards.json() == {"shows": []}
    (whole,) = (await browse.get("/shows", params={"q": "pendolino"})).json()["shows"]
    assert whole["amount_from_minor"] == 1_000 + 500 + 300 + 700 + 400
    assert "ride" not in whole


async def test_a_run_in_detail_has_its_stops_and_the_fares_of_the_segment(
    house: House, browse: httpx.AsyncClient
) -> None:
    show_id = await house.add_run()
    whole = (await browse.get(f"/shows/{show_id}")).json()
    assert [stop["code"] for stop in whole["stops"]] == ["PRG", "KOL", "PCE", "OLO", "OVA"]
    assert whole["stops"][0]["departure_at"] == whole["starts_at"]
    assert (whole["from"], whole["to"]) == ("PRG", "OVA")
    assert whole["categories"] == [{"name": "Standard", "amount_minor": 2_900}]
    part = (await browse.get(f"/shows/{show_id}", params={"from": "PCE", "to": "OLO"})).json()
    assert part["categories"][0]["amount_minor"] == 1_700
    assert (part["from"], part["to"]) == ("PCE", "OLO")


async def test_a_performance_in_detail_has_categories_tiers_and_policy(
    house: House, browse: httpx.AsyncClient
) -> None:
    policy = SalesPolicy(on_sale_from_at_ms=NOW_MS, seats_per_customer_max=6)
    show_id = await house.add_show("Lear", policy=policy)
    show = (await browse.get(f"/shows/{show_id}")).json()
    assert show["stops"] == []
    assert "from" not in show
    assert [(tier["tier"], tier["capacity"]) for tier in show["admission_tiers"]] == [
        ("standing", 100),
        ("lawn", 3),
    ]
    assert [category["amount_minor"] for category in show["categories"]] == [4_500, 2_000]
    assert show["policy"]["seats_per_customer_max"] == 6
    assert show["policy"]["on_sale_from"] == "2026-09-21T14:13:20.000Z"
    assert "on_sale_until" not in show["policy"]


async def test_a_show_whose_price_changes_with_time_says_what_it_costs_now(
    house: House, browse: httpx.AsyncClient
) -> None:
    early, now, late = ((CategoryFare(n), CategoryFare(n)) for n in (1_000, 2_000, 3_000))
    windows = (FareWindow(NOW_MS, now), FareWindow(NOW_MS + 1, late))
    show_id = await house.add_show("Windows", fares=FareTable("EUR", early, windows))
    show = (await browse.get(f"/shows/{show_id}")).json()
    assert [category["amount_minor"] for category in show["categories"]] == [2_000, 2_000]
    found = (await browse.get("/shows", params={"q": "Windows"})).json()["shows"]
    assert [item["amount_from_minor"] for item in found] == [2_000]


async def test_the_drawing_is_sent_once_and_again_when_it_was_renewed(
    house: House, browse: httpx.AsyncClient
) -> None:
    show_id = await house.add_show()
    first = await browse.get(f"/shows/{show_id}/seating-plan")
    assert first.json()["document"] == write_plan(HALL)[0]
    assert first.json()["plan_id"] == plan_id_of(HALL)
    assert first.headers["cache-control"] == "public, max-age=60"
    tag = {"If-None-Match": first.headers["etag"]}
    again = await browse.get(f"/shows/{show_id}/seating-plan", headers=tag)
    assert (again.status_code, again.content) == (304, b"")
    document, extras = write_plan(HALL)
    await house.catalogue.put_plan(plan_id_of(HALL), HALL, {**document, "name": "Redrawn"}, extras)
    # Another process, which has kept nothing yet, sees the new drawing of the same seats.
    async with open_client(house.browse_app(), BROWSE) as elsewhere:
        renewed = await elsewhere.get(f"/shows/{show_id}/seating-plan", headers=tag)
    assert renewed.status_code == 200
    assert renewed.json()["document"]["name"] == "Redrawn"


async def test_a_seat_map_tells_free_held_booked_and_blocked(
    house: House, browse: httpx.AsyncClient, booking: httpx.AsyncClient
) -> None:
    show_id = await house.add_show()
    empty = (await browse.get(f"/shows/{show_id}/seat-map")).json()
    assert (empty["version"], letters(empty)) == (0, "f" * 20)
    assert [section["name"] for section in empty["sections"]] == ["Stalls", "Balcony"]
    assert empty["sections"][0]["rows"][1] == {
        "name": "B",
        "first_seat_index": 8,
        "labels": [f"Stalls-B-{number}" for number in range(1, 9)],
        "status": "ffffffff",
    }
    guest = as_seller("map-guest")
    sold = await booking.post(
        f"/shows/{show_id}/holds", json={"seats": ["Stalls-A-1"]}, headers=guest
    )
    await confirm(booking, sold.json()["hold_id"], "map-guest")
    await hold(booking, show_id, seats=["Stalls-B-1", "Balcony-A-4"])
    blocked = await house.refs.ask(show_id, BlockSeats((2, 3), "house seats"))
    assert isinstance(blocked, SeatsBlocked)
    view = (await browse.get(f"/shows/{show_id}/seat-map")).json()
    assert letters(view) == "bfxxffff" + "hfffffff" + "fffh"
    assert view["counts"] == {"free": 15, "held": 2, "booked": 1, "blocked": 2}
    assert view["version"] > 0
    short = (await browse.get(f"/shows/{show_id}/seat-map", params={"labels": "false"})).json()
    assert letters(short) == letters(view)
    assert "labels" not in short["sections"][0]["rows"][0]


async def test_a_seat_map_of_a_segment_shows_the_worst_of_its_legs(
    house: House, browse: httpx.AsyncClient, booking: httpx.AsyncClient
) -> None:
    show_id = await house.add_run()
    guest = as_seller("rider")
    sold = await booking.post(
        f"/shows/{show_id}/holds",
        json={"seats": ["Coach-1-1"], "from": "PRG", "to": "KOL"},
        headers=guest,
    )
    await confirm(booking, sold.json()["hold_id"], "rider")
    await hold(booking, show_id, **{"seats": ["Coach-1-1"], "from": "KOL", "to": "PCE"})

    async def first_letter(**parameters: str) -> str:
        answer = await browse.get(f"/shows/{show_id}/seat-map", params=parameters)
        view = answer.json()
        assert view["from"] == parameters.get("from", "PRG")
        return letters(view)[0]

    assert await first_letter() == "b"
    assert await first_letter(**{"from": "KOL"}) == "h"
    assert await first_letter(to="KOL") == "b"
    assert await first_letter(**{"from": "PCE", "to": "OVA"}) == "f"


async def test_a_seat_map_that_has_not_changed_is_not_sent_again(
    house: House, browse: httpx.AsyncClient, booking: httpx.AsyncClient
) -> None:
    show_id = await house.add_show()
    address = f"/shows/{show_id}/seat-map"
    first = await browse.get(address)
    assert first.headers["cache-control"] == "public, max-age=1"
    tag = first.headers["etag"]
    for sent in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        same = await browse.get(address, headers={"If-None-Match": sent})
        assert (same.status_code, same.content) == (304, b"")
        assert same.headers["etag"] == tag
    assert (await browse.get(address, headers={"If-None-Match": '"other"'})).status_code == 200
    other_form = await browse.get(
        address, params={"labels": "false"}, headers={"If-None-Match": tag}
    )
    assert other_form.status_code == 200
    await hold(booking, show_id, seats=["Stalls-A-1"])
    changed = await browse.get(address, headers={"If-None-Match": tag})
    assert changed.status_code == 200
    assert changed.headers["etag"] != tag
    assert letters(changed.json())[0] == "h"


async def test_many_readers_share_queries_and_each_sees_what_was_done_before(
    house: House, browse: httpx.AsyncClient, booking: httpx.AsyncClient
) -> None:
    show_id = await house.add_show()
    asked = 0
    read = house.claims.seat_map

    async def counted(show_id: ShowId) -> object:
        nonlocal asked
        asked += 1
        return await read(show_id)

    house.claims.seat_map = counted  # type: ignore[method-assign, assignment]
    try:
        answers = await asyncio.gather(
            *(browse.get(f"/shows/{show_id}/seat-map") for _ in range(50))
        )
        assert {answer.status_code for answer in answers} == {200}
        assert asked <= 2
    finally:
        house.claims.seat_map = read  # type: ignore[method-assign]
    for number in range(1, 6):
        await hold(booking, show_id, seats=[f"Stalls-B-{number}"])
        views = await asyncio.gather(*(browse.get(f"/shows/{show_id}/seat-map") for _ in range(5)))
        assert {view.json()["counts"]["held"] for view in views} == {number}


async def test_an_arena_of_fifty_thousand_seats_has_a_letter_for_each(
    house: House, browse: httpx.AsyncClient, booking: httpx.AsyncClient
) -> None:
    plan = arena(50_000)
    await house.add_plan(plan)
    fares = FareTable("EUR", tuple(CategoryFare(100 * index) for index in range(4)))
    show_id = await house.add_show("Stadium", plan=plan, fares=fares)
    await hold(booking, show_id, seats=[plan.labels[0], plan.labels[49_999]])
    view = (await browse.get(f"/shows/{show_id}/seat-map")).json()
    assert len(letters(view)) == 50_000
    assert (letters(view)[0], letters(view)[49_999]) == ("h", "h")
    assert view["counts"]["held"] == 2
    listed = [label for s in view["sections"] for row in s["rows"] for label in row["labels"]]
    assert tuple(listed) == plan.labels


async def test_stops_are_suggested(house: House, browse: httpx.AsyncClient) -> None:
    await house.add_run()
    found = (await browse.get("/stops", params={"q": "par"})).json()
    assert found == {"stops": [{"code": "PCE", "name": "Pardubice"}]}
    assert (await browse.get("/stops", params={"q": ""})).json() == {"stops": []}
    by_code = (await browse.get("/stops", params={"q": "OVA", "limit": "1"})).json()
    assert by_code["stops"][0]["name"] == "Ostrava"


async def test_reading_never_wakes_an_actor(house: House, browse: httpx.AsyncClient) -> None:
    show_id = await house.add_show()
    for path in ("", "/seat-map", "/seating-plan"):
        assert (await browse.get(f"/shows/{show_id}{path}")).status_code == 200
    assert await house.stored(show_id) == (0, 0)
    assert (await browse.get("/readyz")).status_code == 200


async def test_a_renewed_listing_is_seen_by_a_process_that_had_none(
    house: House, browse: httpx.AsyncClient
) -> None:
    show_id = await house.add_show("Old Title")
    listing = await house.catalogue.find_listing(show_id)
    assert listing is not None
    await house.catalogue.put_shows([replace(listing, title="New Title")])
    assert (await browse.get(f"/shows/{show_id}")).json()["title"] == "New Title"
    assert listing.starts_at_ms == STARTS_AT_MS
