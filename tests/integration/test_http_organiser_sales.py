"""What an organiser does around the sale: blocks, channels, series, codes, lists, the audit log."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from reservation.access import Role
from serve_app.api.organiser.plans import PLAN_BYTES_MAX, PLANS_AT_ONCE_MAX
from tests.support.access import OTHER_TENANT, principal_named, signed_in
from tests.support.http_house import (
    BODY_BYTES_MAX,
    BOOKING,
    HALL,
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
    drawing_of,
    open_organiser_house,
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


async def hold(
    booking: httpx.AsyncClient, show_id: str, *seats: str, name: str | None = None, **more: Any
) -> httpx.Response:
    headers = as_seller(name or f"seller{next(numbers)}")
    body = {"seats": seats, **more}
    return await booking.post(f"/shows/{show_id}/holds", json=body, headers=headers)


async def book(booking: httpx.AsyncClient, show_id: str, *seats: str, name: str) -> Any:
    held = await hold(booking, show_id, *seats, name=name)
    assert held.status_code == 201, held.text
    confirmed = await booking.post(
        f"/holds/{held.json()['hold_id']}/confirm",
        json={"payment": "counter"},
        headers=selling(name),
    )
    assert confirmed.status_code == 201, confirmed.text
    return confirmed.json()


async def actions(olga: Organiser, object_id: str) -> list[str]:
    """What the audit log has about an object, the oldest first."""
    entries = (await olga.get("/audit-log", limit=100))["entries"]
    return [entry["action"] for entry in reversed(entries) if entry["object_id"] == object_id]


# -- blocks ---------------------------------------------------------------------------------


async def test_blocked_seats_are_off_sale_until_they_are_unblocked(
    olga: Organiser, booking: httpx.AsyncClient
) -> None:
    show_id = (await olga.make_show())["show_id"]
    seats = ["Stalls-A-2", "Stalls-A-1"]
    done = await olga.do(f"/shows/{show_id}/block", {"seats": seats, "reason": "camera"})
    assert done == {"seats": seats}
    again = await olga.ask("POST", f"/shows/{show_id}/block", {"seats": seats, "reason": "camera"})
    assert again.headers["idempotent-replayed"] == "true"
    assert code_of(await hold(booking, show_id, "Stalls-A-1")) == "seat_unavailable"
    first = await olga.get(f"/shows/{show_id}/blocks", limit=1)
    rest = await olga.get(f"/shows/{show_id}/blocks", limit=1, cursor=first["next"])
    assert first["blocks"] == [{"seat": "Stalls-A-1", "reason": "camera"}]
    assert rest["blocks"] == [{"seat": "Stalls-A-2", "reason": "camera"}]
    await olga.do(f"/shows/{show_id}/unblock", {"seats": seats})
    assert (await hold(booking, show_id, "Stalls-A-1")).status_code == 201
    assert await actions(olga, show_id) == ["show_created", "seats_blocked", "seats_unblocked"]


async def test_blocks_name_the_seats_that_are_taken_or_unknown(
    olga: Organiser, booking: httpx.AsyncClient
) -> None:
    show_id = (await olga.make_show())["show_id"]
    assert (await hold(booking, show_id, "Stalls-A-1")).status_code == 201
    path = f"/shows/{show_id}/block"
    taken = await olga.ask("POST", path, {"seats": ["Stalls-A-1", "Stalls-A-2"], "reason": "x"})
    assert code_of(taken) == "seat_unavailable"
    assert taken.json()["seats"] == ["Stalls-A-1"]
    odd = await olga.ask(
        "POST", path, {"seats": ["Stalls-A-3", "Z-9", "Stalls-A-3"], "reason": "x"}
    )
    assert fields_of(odd) == ["seats[1]", "seats[2]"]
    kept = await olga.ask("POST", path, {"seats": ["Stalls-A-3"], "reason": "plan_change"})
    assert fields_of(kept) == ["reason"]
    free = await olga.ask("POST", f"/shows/{show_id}/unblock", {"seats": ["Stalls-A-3"]})
    assert code_of(free) == "seat_not_blocked"


# -- channels -------------------------------------------------------------------------------


async def test_seats_of_a_channel_are_sold_with_its_key_only(
    house: OrganiserHouse, olga: Organiser, booking: httpx.AsyncClient
) -> None:
    show_id = (await olga.make_show())["show_id"]
    channel = await olga.make("/channels", {"name": "Hotel desk"})
    key, channel_id = channel["access_key"], channel["channel_id"]
    body = {"channel_id": channel_id, "seats": ["Stalls-B-1", "Stalls-B-2"]}
    assert await olga.do(f"/shows/{show_id}/allocate", body) == body
    listed = (await olga.get(f"/shows/{show_id}/allocations"))["allocations"]
    assert [each["seat"] for each in listed] == ["Stalls-B-1", "Stalls-B-2"]

    assert code_of(await hold(booking, show_id, "Stalls-B-1")) == "seat_unavailable"
    wrong = await hold(booking, show_id, "Stalls-B-1", access_key=key + "x")
    assert code_of(wrong) == "channel_not_found"
    held = await hold(booking, show_id, "Stalls-B-1", access_key=key)
    assert held.status_code == 201, held.text

    replaced = await olga.do(f"/channels/{channel_id}/key")
    assert replaced["access_key"] != key
    # A process of its own, which does not remember the key.
    async with open_client(house.house.booking_app(), BOOKING) as other:
        old = await hold(other, show_id, "Stalls-B-2", access_key=key)
        assert code_of(old) == "channel_not_found"
        new = await hold(other, show_id, "Stalls-B-1", access_key=replaced["access_key"])
        assert code_of(new) == "seat_unavailable"
    back = {"channel_id": channel_id, "seats": ["Stalls-B-2"]}
    await olga.do(f"/shows/{show_id}/take-back", back)
    assert (await hold(booking, show_id, "Stalls-B-2")).status_code == 201


async def test_closing_a_channel_puts_its_free_seats_of_every_show_on_general_sale(
    olga: Organiser, booking: httpx.AsyncClient
) -> None:
    shows = [(await olga.make_show())["show_id"] for _ in range(2)]
    channel = await olga.make("/channels", {"name": "Agency"})
    channel_id = channel["channel_id"]
    for show_id in shows:
        await olga.do(
            f"/shows/{show_id}/allocate", {"channel_id": channel_id, "seats": ["Stalls-A-1"]}
        )
    closed = await olga.do(f"/channels/{channel_id}/close")
    assert closed["is_open"] is False
    for show_id in shows:
        late = await hold(booking, show_id, "Stalls-A-1", access_key=channel["access_key"])
        assert code_of(late) == "channel_not_found"
        assert (await hold(booking, show_id, "Stalls-A-1")).status_code == 201
    refused = await olga.ask(
        "POST",
        f"/shows/{shows[0]}/allocate",
        {"channel_id": channel_id, "seats": ["Stalls-A-2"]},
    )
    assert code_of(refused) == "channel_is_closed"
    again = await olga.ask("POST", f"/channels/{channel_id}/close")
    assert again.status_code == 200, again.text


async def test_the_key_of_a_channel_is_told_once(olga: Organiser, house: OrganiserHouse) -> None:
    first = await olga.ask("POST", "/channels", {"name": "Once"}, key="channel-once")
    again = await olga.ask("POST", "/channels", {"name": "Once"}, key="channel-once")
    assert "access_key" in first.json()
    assert "access_key" not in again.json()
    assert again.headers["idempotent-replayed"] == "true"
    channel_id = first.json()["channel_id"]
    assert "access_key" not in await olga.get(f"/channels/{channel_id}")
    logged = json.dumps((await olga.get("/audit-log", limit=100))["entries"])
    assert first.json()["access_key"] not in logged
    taken = await olga.ask("POST", "/channels", {"name": "once"})
    assert code_of(taken) == "name_taken"


# -- series ---------------------------------------------------------------------------------


async def test_a_series_gets_a_show_for_every_evening_of_its_pattern(olga: Organiser) -> None:
    series = await olga.make(
        "/series",
        {
            "title": "Hamlet",
            "venue_id": await olga.make_venue(),
            "seating_plan_id": await olga.make_plan(),
            "duration_ms": 10_800_000,
            "prices": HALL_PRICES,
            "policy": {"seats_per_order_max": 4},
        },
    )
    path = f"/series/{series['series_id']}"
    pattern = {
        "from_date": "2026-12-01",
        "to_date": "2026-12-13",
        "times": {"fri": ["19:30"], "sat": ["15:00", "19:30"]},
        "except_dates": ["2026-12-05"],
    }
    added = await olga.do(f"{path}/shows", {"pattern": pattern, "is_on_sale": True})
    assert (added["created"], added["unchanged"], added["refused"]) == (4, 0, [])
    shows = (await olga.get("/shows", series_id=series["series_id"]))["shows"]
    assert [show["starts_at"] for show in shows] == [
        "2026-12-04T18:30:00.000Z",
        "2026-12-11T18:30:00.000Z",
        "2026-12-12T14:00:00.000Z",
        "2026-12-12T18:30:00.000Z",
    ]
    assert [show["show_id"] for show in shows] == added["show_ids"]
    assert {show["policy"]["seats_per_order_max"] for show in shows} == {4}

    again = await olga.do(f"{path}/shows", {"pattern": pattern, "is_on_sale": True})
    assert (again["created"], again["unchanged"]) == (0, 4)
    await olga.change(path, {"title": "Hamlet, new cast"})
    more = await olga.do(
        f"{path}/shows",
        {"pattern": pattern, "starts_at": ["2026-12-24T18:00:00Z"], "is_on_sale": True},
    )
    assert (more["created"], more["unchanged"], more["refused"]) == (1, 4, [])
    assert await actions(olga, series["series_id"]) == [
        "series_created",
        "series_shows_added",
        "series_changed",
        "series_shows_added",
    ]


async def test_a_series_says_what_it_still_needs_before_it_has_shows(olga: Organiser) -> None:
    series = await olga.make("/series", {"title": "Bare"})
    path = f"/series/{series['series_id']}/shows"
    bare = await olga.ask("POST", path, {"starts_at": ["2026-12-24T18:00:00Z"]})
    assert fields_of(bare) == ["venue_id", "seating_plan_id", "duration_ms", "prices"]
    unpriced = await olga.ask("POST", "/series", {"title": "x", "prices": HALL_PRICES})
    assert fields_of(unpriced) == ["prices"]


async def test_a_start_that_the_clock_skips_is_told(olga: Organiser) -> None:
    series = await olga.make(
        "/series",
        {
            "title": "Night",
            "venue_id": await olga.make_venue(),
            "seating_plan_id": await olga.make_plan(),
            "duration_ms": 0,
            "prices": HALL_PRICES,
        },
    )
    pattern = {
        "from_date": "2027-03-27",
        "to_date": "2027-03-28",
        "times": {"sat": ["02:30"], "sun": ["02:30"]},
    }
    added = await olga.do(f"/series/{series['series_id']}/shows", {"pattern": pattern})
    assert added["created"] == 1
    assert [each["starts_at"] for each in added["refused"]] == ["2027-03-28T02:30:00"]


# -- promo codes ------------------------------------------------------------------------------


async def test_a_promo_code_is_made_changed_and_taken_out_of_use(olga: Organiser) -> None:
    show_id = (await olga.make_show())["show_id"]
    code = f"summer-{next(numbers)}"
    promo = await olga.make(
        "/promo-codes",
        {
            "code": code,
            "reduction": {"basis_points": 2_500},
            "show_ids": [show_id],
            "category_names": ["Stalls"],
            "uses_max": 10,
        },
    )
    path = f"/promo-codes/{promo['promo_code_id']}"
    assert promo["show_ids"] == [show_id]
    amount = {"amount_minor": 500, "currency": "EUR"}
    changed = await olga.change(path, {"reduction": amount, "uses_max": None})
    assert changed["reduction"] == {**amount, "each_place": False}
    assert changed["uses_max"] is None
    assert changed["category_names"] == ["Stalls"], "what is absent stays"
    taken = await olga.ask(
        "POST", "/promo-codes", {"code": code.upper(), "reduction": {"basis_points": 1}}
    )
    assert code_of(taken) == "name_taken"
    for _ in range(2):
        assert (await olga.ask("DELETE", path)).status_code == 204
    assert (await olga.get(path))["is_active"] is False
    assert await actions(olga, promo["promo_code_id"]) == [
        "promo_code_created",
        "promo_code_changed",
        "promo_code_deleted",
    ]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"code": "no spaces"}, "code"),
        ({"reduction": {"basis_points": 0}}, "reduction.PercentBody.basis_points"),
        ({"show_ids": ["shw_" + "0" * 16]}, "show_ids"),
        ({"series_ids": ["nonsense"]}, "series_ids"),
        (
            {"valid_from": "2027-01-01T00:00:00Z", "valid_until": "2026-01-01T00:00:00Z"},
            "valid_until",
        ),
        ({"uses_max": 0}, "uses_max"),
    ],
)
async def test_a_promo_code_that_cannot_be_names_its_field(
    olga: Organiser, change: dict[str, Any], field: str
) -> None:
    body = {"code": f"bad-{next(numbers)}", "reduction": {"basis_points": 100}, **change}
    refused = await olga.ask("POST", "/promo-codes", body)
    assert refused.status_code == 422
    assert field in fields_of(refused)


# -- plans ------------------------------------------------------------------------------------


async def test_versions_of_a_plan_stay_what_they_were(olga: Organiser) -> None:
    plan_id = await olga.make_plan()
    document, extras = drawing_of(HALL)
    document["name"] = "Hall, second"
    path = f"/seating-plans/{plan_id}"
    added = await olga.make(f"{path}/versions", {"document": document, "extras": extras})
    assert added["newest"] == 2
    same = await olga.ask("POST", f"{path}/versions", {"document": document, "extras": extras})
    assert same.headers["idempotent-replayed"] == "true"
    versions = (await olga.get(f"{path}/versions"))["versions"]
    assert [version["number"] for version in versions] == [2, 1]
    assert [version["seat_count"] for version in versions] == [20, 20]
    first = await olga.get(f"{path}/versions/1")
    assert first["document"]["name"] == "Hall"
    assert (await olga.get(f"{path}/versions/2"))["document"]["name"] == "Hall, second"
    for number in ("3", "0", "-1", "9999999999999", "x"):
        missing = await olga.ask("GET", f"{path}/versions/{number}")
        assert missing.status_code == 404


async def test_a_plan_may_be_larger_than_other_bodies_and_not_without_end(olga: Organiser) -> None:
    arena = build_plan([("Arena", str(row), 100, ()) for row in range(30)], name="Arena")
    document, extras = drawing_of(arena)
    body = {"name": "Arena", "document": document, "extras": extras}
    assert len(json.dumps(body)) > 4 * BODY_BYTES_MAX
    made = await olga.make("/seating-plans", body)
    assert (await olga.get(f"/seating-plans/{made['seating_plan_id']}"))["newest"] == 1
    huge = json.dumps({**body, "name": "x" * PLAN_BYTES_MAX}).encode()
    headers = {"Content-Type": "application/json"}
    refused = await olga.ask("POST", "/seating-plans", content=huge, headers=headers)
    assert code_of(refused) == "body_too_large"
    small = await olga.ask("POST", "/venues", {"name": "x" * BODY_BYTES_MAX, "time_zone": "UTC"})
    assert code_of(small) == "body_too_large"


async def test_only_so_many_plans_are_taken_at_once(olga: Organiser) -> None:
    document, _ = drawing_of(HALL)
    content = json.dumps({"name": "Slow", "document": document}).encode()
    may_end = asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield content[:100]
        await may_end.wait()
        yield content[100:]

    headers = {"Content-Type": "application/json"}

    async def upload() -> httpx.Response:
        return await olga.ask("POST", "/seating-plans", content=slowly(), headers=headers)

    uploads = [asyncio.create_task(upload()) for _ in range(PLANS_AT_ONCE_MAX + 1)]
    done, waiting = await asyncio.wait(uploads, return_when=asyncio.FIRST_COMPLETED)
    assert [code_of(each.result()) for each in done] == ["overloaded"]
    assert done.pop().result().headers["retry-after"] == "5"
    may_end.set()
    answers = await asyncio.gather(*waiting)
    # One name, so one of them; the others were refused for that and not for room.
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]


async def test_what_is_wrong_with_a_plan_is_told_with_its_path(olga: Organiser) -> None:
    document, _ = drawing_of(HALL)
    document["zones"][0]["rows"][0]["seats"][0]["category"] = "Nowhere"
    document["zones"][0]["rows"][0]["seats"][1]["seat_guid"] = ""
    body = {"name": "Broken", "document": document}
    refused = await olga.ask("POST", "/seating-plans", body)
    assert code_of(refused) == "plan_not_accepted"
    assert fields_of(refused)[:2] == [
        "document.zones[0].rows[0].seats[0].category",
        "document.zones[0].rows[0].seats[1].seat_guid",
    ]
    taken = await olga.make("/seating-plans", {**body, "accept_findings": True})
    assert len(taken["findings"]) == refused.json()["finding_count"]
    empty = await olga.ask(
        "POST", "/seating-plans", {"name": "x", "document": {}, "accept_findings": True}
    )
    assert code_of(empty) == "plan_not_accepted"
    deep: dict[str, Any] = {}
    for _ in range(100):
        deep = {"a": deep}
    nested = await olga.ask("POST", "/seating-plans", {"name": "x", "document": deep})
    assert fields_of(nested) == ["document"]


async def test_nobody_redraws_the_hall_of_another_house(
    olga: Organiser, house: OrganiserHouse
) -> None:
    document, _ = drawing_of(HALL)
    ours = await olga.make("/seating-plans", {"name": "Ours", "document": document})
    before = await house.catalogue.load_plan_document(ours["plan_id"])
    document["size"]["height"] += 1
    stranger = Organiser(olga.client, "oscar", tenant_id=OTHER_TENANT)
    theirs = await stranger.make("/seating-plans", {"name": "Theirs", "document": document})
    assert theirs["plan_id"] == ours["plan_id"], "it is the same hall, drawn otherwise"
    assert "others have the same seats" in theirs["findings"][0]["reason"]
    assert await house.catalogue.load_plan_document(ours["plan_id"]) == before


async def test_a_hall_of_ones_own_may_be_drawn_anew(olga: Organiser, house: OrganiserHouse) -> None:
    hall = build_plan([("Loft", "A", 3, ())], name=f"Loft {next(numbers)}")
    document, extras = drawing_of(hall)
    body = {"name": hall.name, "document": document, "extras": extras}
    made = await olga.make("/seating-plans", body)
    document["size"]["height"] += 1
    path = f"/seating-plans/{made['seating_plan_id']}/versions"
    again = await olga.ask("POST", path, {"document": document, "extras": extras})
    assert (again.status_code, again.json()["newest"]) == (201, 1)
    found = await house.catalogue.load_plan_document(made["plan_id"])
    assert found is not None
    assert found[0]["size"] == document["size"]


# -- attendees and exports ---------------------------------------------------------------------


async def test_attendees_are_listed_and_the_gate_is_told_names_and_places_only(
    olga: Organiser, booking: httpx.AsyncClient, house: OrganiserHouse
) -> None:
    show_id = (await olga.make_show())["show_id"]
    for name, seat in (("dora", "Stalls-A-1"), ("emil", "Stalls-A-2"), ("fred", "Stalls-A-3")):
        await house.add_account(name, name.title())
        await book(booking, show_id, seat, name=name)
    path = f"/shows/{show_id}/attendees"
    first = await olga.get(path, limit=2)
    rest = await olga.get(path, limit=2, cursor=first["next"])
    assert "next" not in rest
    everybody = [*first["attendees"], *rest["attendees"]]
    assert {each["email"] for each in everybody} == {
        f"{name}@example.org" for name in ("dora", "emil", "fred")
    }
    assert {each["amount_minor"] for each in everybody} == {4_500}
    guard = Organiser(olga.client, "gustav", Role.GATE)
    seen = (await guard.get(path))["attendees"]
    assert [each["name"] for each in seen] == [each["name"] for each in everybody]
    assert not {"email", "amount_minor", "payment"} & set(seen[0])
    assert "sales" not in await guard.get(f"/shows/{show_id}")
    assert "sales" not in (await guard.get("/shows", sales="true"))["shows"][0]
    odd = await olga.ask("GET", path, params={"cursor": "WzAsImJrZ18iXQ"})
    assert fields_of(odd) == ["cursor"]


async def test_exports_are_whole_and_harmless_in_a_spreadsheet(
    olga: Organiser, booking: httpx.AsyncClient, house: OrganiserHouse
) -> None:
    show = await olga.make_show(title='=cmd|" /C calc"!A0')
    show_id = show["show_id"]
    await house.add_account("mallory", "=HYPERLINK(1)")
    await book(booking, show_id, "Stalls-A-1", "Stalls-A-2", name="mallory")
    cancelled = await book(booking, show_id, "Stalls-B-1", name="mallory")
    done = await booking.post(
        f"/bookings/{cancelled['booking_id']}/cancel", headers=selling("mallory")
    )
    assert done.status_code == 200

    seats = await olga.ask("GET", f"/shows/{show_id}/attendee-export")
    assert seats.headers["content-type"].startswith("text/csv")
    assert f'filename="attendees-{show_id}.csv"' in seats.headers["content-disposition"]
    assert seats.headers["cache-control"] == "no-store"
    rows = list(csv.DictReader(io.StringIO(seats.text)))
    assert [row["place"] for row in rows] == ["Stalls-A-1", "Stalls-A-2"]
    assert {row["name"] for row in rows} == {"'=HYPERLINK(1)"}

    bookings = await olga.ask("GET", f"/shows/{show_id}/booking-export", params={"format": "json"})
    exported = {row["booking_id"]: row for row in bookings.json()["rows"]}
    assert exported[cancelled["booking_id"]]["state"] == "cancelled"
    assert len(exported) == 2

    sales = await olga.ask("GET", "/sales-export")
    lines = {row["show_id"]: row for row in csv.DictReader(io.StringIO(sales.text))}
    assert lines[show_id]["title"] == "'" + show["title"]
    assert lines[show_id]["amount_minor"] == "9000"
    assert lines[show_id]["cancelled_bookings"] == "1"
    assert "list_exported" in await actions(olga, show_id)
    for path in ("/shows/shw_0000000000000000/attendee-export", "/sales-export?format=xml"):
        assert (await olga.ask("GET", path)).status_code in (404, 422)


# -- the audit log ---------------------------------------------------------------------------


async def test_the_audit_log_says_who_changed_what_from_what_to_what(olga: Organiser) -> None:
    venue_id = await olga.make_venue(f"Old name {next(numbers)}")
    before = await olga.get(f"/venues/{venue_id}")
    headers = {"X-Request-Id": "the-change"}
    changed = await olga.ask("PATCH", f"/venues/{venue_id}", {"name": "New name"}, headers=headers)
    assert changed.status_code == 200
    newest = (await olga.get("/audit-log", limit=1))["entries"][0]
    assert newest["action"] == "venue_changed"
    assert newest["object_id"] == venue_id
    assert newest["account_id"] == principal_named("olga").account_id
    assert newest["request_id"] == "the-change"
    assert newest["before"]["name"] == before["name"]
    assert newest["after"]["name"] == "New name"
    assert "time_zone" not in newest["before"], "what stayed the same is not told"
    stranger = Organiser(olga.client, "oscar", tenant_id=OTHER_TENANT)
    theirs = (await stranger.get("/audit-log", limit=100))["entries"]
    assert venue_id not in {entry["object_id"] for entry in theirs}


async def test_a_venue_in_use_stays_and_another_one_goes(olga: Organiser) -> None:
    used, unused = await olga.make_venue(), await olga.make_venue()
    await olga.make_show(venue_id=used)
    assert code_of(await olga.ask("DELETE", f"/venues/{used}")) == "in_use"
    assert (await olga.ask("DELETE", f"/venues/{unused}")).status_code == 204
    assert (await olga.ask("GET", f"/venues/{unused}")).status_code == 404
    assert (await olga.ask("DELETE", f"/venues/{unused}")).status_code == 404


async def test_an_admin_acts_for_the_tenant_that_is_named(olga: Organiser) -> None:
    venue_id = await olga.make_venue()
    headers = signed_in("ada", Role.ADMIN)
    path = f"/venues/{venue_id}"
    unnamed = await olga.client.get(path, headers=headers)
    assert fields_of(unnamed) == ["tenant_id"]
    own = await olga.client.get(path, params={"tenant_id": "tnt_" + "0" * 20}, headers=headers)
    assert own.status_code == 200
    other = await olga.client.get(path, params={"tenant_id": OTHER_TENANT}, headers=headers)
    assert other.status_code == 404
    for nobody in ("tnt_" + "9" * 20, "nonsense"):
        missing = await olga.client.get(path, params={"tenant_id": nobody}, headers=headers)
        assert missing.status_code == 404
    forbidden = await olga.ask("GET", path, params={"tenant_id": "tnt_" + "0" * 20})
    assert fields_of(forbidden) == ["tenant_id"]
