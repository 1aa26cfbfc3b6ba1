"""What an organiser does with money: terms, refunds, cancellations, the ledger, alarms."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from persistence.payment_books import PaymentBooks
from reservation.access import Role
from reservation.commands import ConfirmHold
from reservation.ids import CustomerId, HoldId, ShowId
from reservation.refunds import RefundReason
from tests.support.access import OTHER_TENANT, account_named
from tests.support.http_house import BOOKING, as_customer, code_of, fields_of, numbers, open_client
from tests.support.organiser_house import (
    ORGANISER,
    Organiser,
    OrganiserHouse,
    open_organiser_house,
)
from tests.support.paid_bookings import Sold, sell_paid


@pytest.fixture(scope="module")
async def house() -> AsyncIterator[OrganiserHouse]:
    async with open_organiser_house() as house:
        yield house


@pytest.fixture(scope="module")
async def client(house: OrganiserHouse) -> AsyncIterator[httpx.AsyncClient]:
    async with open_client(house.app(), ORGANISER) as client:
        yield client


@pytest.fixture(scope="module")
def olga(client: httpx.AsyncClient) -> Organiser:
    return Organiser(client)


@pytest.fixture(scope="module")
def strangers(client: httpx.AsyncClient) -> Organiser:
    return Organiser(client, "omar", tenant_id=OTHER_TENANT)


@pytest.fixture(scope="module")
async def booking(house: OrganiserHouse) -> AsyncIterator[httpx.AsyncClient]:
    async with open_client(house.house.booking_app(), BOOKING) as client:
        yield client


@pytest.fixture
def sell(house: OrganiserHouse, booking: httpx.AsyncClient) -> Any:
    async def sold(show: Any, *seats: str, name: str = "ann", fee_minor: int = 0) -> Sold:
        show_id = ShowId(show["show_id"])
        return await sell_paid(house, booking, show_id, *seats, name=name, fee_minor=fee_minor)

    return sold


async def audited(olga: Organiser, object_id: str) -> list[str]:
    entries = (await olga.get("/audit-log", limit=100))["entries"]
    return [entry["action"] for entry in reversed(entries) if entry["object_id"] == object_id]


async def test_fees_and_taxes_are_set_and_seen_with_their_version(
    olga: Organiser, strangers: Organiser
) -> None:
    show_id = (await olga.make_show())["show_id"]
    path = f"/shows/{show_id}/price-terms"
    assert await olga.get(path) == {"fees": [], "taxes": [], "version": 0, "updated_at": None}
    terms = {
        "fees": [
            {"name": "Booking fee", "basis": "order", "amount_minor": 150},
            {"name": "Service", "basis": "percentage", "basis_points": 250},
        ],
        "taxes": [{"name": "VAT", "on": "places", "basis_points": 700, "is_included": True}],
    }
    put = await olga.ask("PUT", path, {**terms, "version": 0})
    assert put.status_code == 200, put.text
    assert (await olga.get(path)) == put.json()
    assert put.json()["version"] == 1
    assert put.json()["fees"] == terms["fees"]
    assert put.json()["taxes"] == terms["taxes"]
    stale = await olga.ask("PUT", path, {**terms, "version": 0})
    assert (stale.status_code, code_of(stale)) == (409, "version_conflict")
    assert await audited(olga, show_id) == ["show_created", "price_terms_changed"]
    for method, body in (("GET", None), ("PUT", terms)):
        refused = await strangers.ask(method, path, body)
        assert (refused.status_code, code_of(refused)) == (404, "show_not_found")


async def test_a_refund_policy_does_not_touch_the_fees_beside_it(olga: Organiser) -> None:
    show_id = (await olga.make_show())["show_id"]
    terms = {"fees": [{"name": "Fee", "basis": "place", "amount_minor": 50}], "taxes": []}
    assert (await olga.ask("PUT", f"/shows/{show_id}/price-terms", terms)).status_code == 200
    policy = {
        "bands": [
            {"before_start_ms": 604_800_000, "share_basis_points": 10_000},
            {"before_start_ms": 0, "share_basis_points": 2_500},
        ],
        "kept_minor": 100,
    }
    put = await olga.ask("PUT", f"/shows/{show_id}/refund-policy", policy)
    assert put.status_code == 200, put.text
    assert {**policy, "version": 2} == {k: v for k, v in put.json().items() if k != "updated_at"}
    assert (await olga.get(f"/shows/{show_id}/price-terms"))["fees"] == terms["fees"]
    assert "refund_policy_changed" in await audited(olga, show_id)


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        (
            "price-terms",
            {"fees": [{"name": "A", "basis": "order", "basis_points": 5}], "taxes": []},
            "fees[0]",
        ),
        (
            "price-terms",
            {"fees": [{"name": "A", "basis": "percentage", "amount_minor": 5}], "taxes": []},
            "fees[0]",
        ),
        (
            "price-terms",
            {"fees": [{"name": "\n", "basis": "order", "amount_minor": 5}], "taxes": []},
            "fees[0]",
        ),
        (
            "price-terms",
            {
                "fees": [],
                "taxes": [
                    {"name": "A", "on": "places", "basis_points": 1, "is_included": True},
                    {"name": "B", "on": "places", "basis_points": 1, "is_included": False},
                ],
            },
            "taxes",
        ),
        (
            "refund-policy",
            {
                "bands": [
                    {"before_start_ms": 0, "share_basis_points": 1},
                    {"before_start_ms": 5, "share_basis_points": 1},
                ]
            },
            "bands",
        ),
    ],
)
async def test_terms_that_make_no_sense_are_refused_by_their_field(
    olga: Organiser, path: str, body: Any, field: str
) -> None:
    show_id = (await olga.make_show())["show_id"]
    refused = await olga.ask("PUT", f"/shows/{show_id}/{path}", body)
    assert (refused.status_code, fields_of(refused)) == (422, [field])
    assert (await olga.get(f"/shows/{show_id}/{path}"))["version"] == 0


async def test_a_part_is_paid_back_once_however_often_it_is_asked_for(
    olga: Organiser, sell: Any
) -> None:
    show = await olga.make_show()
    sale = await sell(show, "Stalls-A-1", "Stalls-A-2")
    path = f"/bookings/{sale.booking_id}/refunds"
    body = {"amount_minor": 1_000, "reason": "The view was blocked"}
    key = f"refund-{next(numbers)}"
    answers = [await olga.ask("POST", path, body, key=key) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [201] * 3
    assert [answer.headers.get("idempotent-replayed") for answer in answers] == [
        None,
        "true",
        "true",
    ]
    assert len({answer.json()["refund_id"] for answer in answers}) == 1
    assert (answers[0].json()["state"], answers[0].json()["reason"]) == ("due", "granted")
    other = await olga.ask("POST", path, {**body, "amount_minor": 1}, key=key)
    assert code_of(other) == "exists_with_different_request"
    checkout = await sale.checkout()
    assert [(each.amount_minor, each.reason) for each in checkout.refunds] == [
        (1_000, RefundReason.GRANTED)
    ]
    assert checkout.payment.due_at_ms is not None, "the worker has something to do"
    money = await olga.get(path)
    assert (money["amount_minor"], money["refundable_minor"]) == (9_000, 8_000)
    assert money["refunds"][0]["note"] == "The view was blocked"
    assert await audited(olga, sale.booking_id) == ["refund_granted"]


async def test_never_more_goes_back_than_is_there(olga: Organiser, sell: Any) -> None:
    sale = await sell(await olga.make_show(), "Stalls-A-1")
    path = f"/bookings/{sale.booking_id}/refunds"
    too_much = await olga.ask("POST", path, {"amount_minor": 4_501, "reason": "x"})
    assert (too_much.status_code, code_of(too_much)) == (409, "refund_not_possible")
    await olga.make(path, {"amount_minor": 4_000, "reason": "x"})
    too_much = await olga.ask("POST", path, {"amount_minor": 501, "reason": "x"})
    assert code_of(too_much) == "refund_not_possible"
    rest = await olga.make(path, {"reason": "All that is left"})
    assert rest["amount_minor"] == 500
    nothing = await olga.ask("POST", path, {"reason": "x"})
    assert code_of(nothing) == "refund_not_possible"
    assert len((await sale.checkout()).refunds) == 2


async def test_what_was_paid_for_a_place_contains_its_part_of_the_fee(
    olga: Organiser, sell: Any
) -> None:
    sale = await sell(
        await olga.make_show(), "Stalls-A-1", "Stalls-A-2", "Stalls-A-3", fee_minor=100
    )
    path = f"/bookings/{sale.booking_id}/refunds"
    unknown = await olga.ask(
        "POST", path, {"places": ["Stalls-A-1", "Stalls-A-1", "Stalls-B-1"], "reason": "x"}
    )
    assert (unknown.status_code, fields_of(unknown)) == (422, ["places[1]", "places[2]"])
    both = await olga.ask(
        "POST", path, {"places": ["Stalls-A-1"], "amount_minor": 1, "reason": "x"}
    )
    assert fields_of(both) == ["places"]
    parts = [
        (await olga.make(path, {"places": [seat], "reason": "x"}))["amount_minor"]
        for seat in ("Stalls-A-1", "Stalls-A-2", "Stalls-A-3")
    ]
    assert parts == [4_534, 4_533, 4_533]
    assert sum(parts) == 3 * 4_500 + 100


async def test_a_refund_of_a_booking_that_stands_leaves_the_books_in_order(
    olga: Organiser, sell: Any
) -> None:
    show = await olga.make_show()
    sale = await sell(show, "Stalls-A-1")
    await sell(show, "Stalls-A-2", name="bob")
    await olga.make(f"/bookings/{sale.booking_id}/refunds", {"amount_minor": 700, "reason": "x"})
    for made, in_flight, refunded in ((False, 0, 0), (True, 0, 700)):
        if made:
            await sale.made(1)
        (money,) = (await olga.get(f"/shows/{show['show_id']}/money"))["money"]
        assert money["disagreements"] == []
        assert (money["refunded_minor"], money["in_flight_minor"]) == (refunded, in_flight)
        parts = money["earned_minor"] + money["refunded_minor"] + money["in_flight_minor"]
        assert money["captured_minor"] == parts == 9_000
    # What is given up is a part of the full refund that a cancellation gives.
    cancelled = await olga.do(f"/bookings/{sale.booking_id}/cancel", {"reason": "The actor is ill"})
    assert cancelled["refund"] == "full"
    (money,) = (await olga.get(f"/shows/{show['show_id']}/money"))["money"]
    assert (money["earned_minor"], money["in_flight_minor"]) == (4_500, 3_800)
    assert money["disagreements"] == []


async def test_staff_cancels_on_full_terms_unless_it_says_otherwise(
    olga: Organiser, client: httpx.AsyncClient, sell: Any
) -> None:
    show = await olga.make_show()
    seller = Organiser(client, "bert", Role.BOX_OFFICE)
    for seat, body, terms in (
        ("Stalls-A-1", {"reason": "x"}, "full"),
        ("Stalls-A-2", {"reason": "x", "refund": "policy"}, "policy"),
        ("Stalls-A-3", {"reason": "x", "refund": "none"}, "none"),
    ):
        sale = await sell(show, seat)
        path = f"/bookings/{sale.booking_id}/cancel"
        assert (await seller.do(path, body))["refund"] == terms
        payment = (await sale.checkout()).payment
        assert payment.refund_terms is not None
        assert payment.refund_terms.value == terms
        again = await seller.ask("POST", path, {"reason": "other", "refund": "none"})
        assert again.headers["idempotent-replayed"] == "true"
        assert again.json()["refund"] == terms
        assert await audited(olga, sale.booking_id) == ["booking_cancelled"]


async def test_a_booking_of_another_house_is_not_there(
    olga: Organiser, strangers: Organiser, sell: Any
) -> None:
    show = await olga.make_show()
    sale = await sell(show, "Stalls-A-1")
    booking = f"/bookings/{sale.booking_id}"
    for method, path, body, code in (
        ("GET", f"{booking}/refunds", None, "booking_not_found"),
        ("POST", f"{booking}/refunds", {"reason": "x"}, "booking_not_found"),
        ("POST", f"{booking}/cancel", {"reason": "x"}, "booking_not_found"),
        ("GET", f"/shows/{show['show_id']}/ledger", None, "show_not_found"),
        ("GET", f"/shows/{show['show_id']}/money", None, "show_not_found"),
        ("GET", f"/shows/{show['show_id']}/refund-job", None, "show_not_found"),
    ):
        refused = await strangers.ask(method, path, body)
        assert (refused.status_code, code_of(refused)) == (404, code), path
    assert (await sale.checkout()).refunds == ()
    assert (await sale.checkout()).payment.cancelled_at_ms is None


async def test_a_booking_that_was_paid_at_the_counter_has_no_payment_to_refund(
    house: OrganiserHouse, olga: Organiser, booking: httpx.AsyncClient
) -> None:
    show = await olga.make_show()
    held = await booking.post(
        f"/shows/{show['show_id']}/holds",
        json={"seats": ["Stalls-A-1"]},
        headers=as_customer("ann"),
    )
    hold_id = HoldId(held.json()["hold_id"])
    command = ConfirmHold(hold_id, CustomerId(account_named("ann")), "counter")
    await house.house.refs.ask(ShowId(show["show_id"]), command)
    refused = await olga.ask("POST", f"/bookings/bkg_{hold_id[4:]}/refunds", {"reason": "x"})
    assert (refused.status_code, code_of(refused)) == (404, "payment_not_found")


async def test_the_ledger_is_read_page_by_page_without_a_gap(olga: Organiser, sell: Any) -> None:
    show = await olga.make_show()
    for seat in ("Stalls-A-1", "Stalls-A-2", "Stalls-A-3"):
        await sell(show, seat)
    path = f"/shows/{show['show_id']}/ledger"
    entries, cursor = [], None
    while True:
        page = await olga.get(path, limit=2, **({"cursor": cursor} if cursor else {}))
        assert len(page["entries"]) <= 2
        entries += page["entries"]
        cursor = page.get("next")
        if cursor is None:
            break
    assert [entry["number"] for entry in entries] == list(range(1, 7))
    assert [entry["kind"] for entry in entries] == ["captured", "booked"] * 3
    foreign = await olga.ask("GET", "/audit-log", params={"cursor": "WzEsImxlZGdlciJd"})
    assert fields_of(foreign) == ["cursor"]


async def test_cancelling_a_show_starts_its_refunds_and_says_whose_doing_it_was(
    olga: Organiser, sell: Any
) -> None:
    show = await olga.make_show()
    path = f"/shows/{show['show_id']}/refund-job"
    before = await olga.ask("GET", path)
    assert (before.status_code, code_of(before)) == (404, "not_found")
    await sell(show, "Stalls-A-1")
    await sell(show, "Stalls-A-2", name="bob")
    await olga.do(f"/shows/{show['show_id']}/cancel", {"reason": "The roof leaks"})
    job = await olga.get(path)
    assert (job["state"], job["bookings"], job["cancelled"]) == ("running", 2, 0)
    assert job["requested_by"] == account_named("olga")
    assert job["finished_at"] is None


async def test_lists_of_attendees_tell_what_became_of_the_money(
    olga: Organiser, client: httpx.AsyncClient, sell: Any
) -> None:
    show = await olga.make_show()
    sale = await sell(show, "Stalls-A-1")
    attendees = f"/shows/{show['show_id']}/attendees"

    async def states() -> tuple[str, int, int]:
        (attendee,) = (await olga.get(attendees))["attendees"]
        return (
            attendee["payment_state"],
            attendee["refunded_minor"],
            attendee["refunding_minor"],
        )

    assert await states() == ("paid", 0, 0)
    await olga.make(f"/bookings/{sale.booking_id}/refunds", {"amount_minor": 500, "reason": "x"})
    assert await states() == ("refunding", 0, 500)
    await sale.made(1)
    assert await states() == ("partly_refunded", 500, 0)
    await olga.make(f"/bookings/{sale.booking_id}/refunds", {"reason": "x"})
    await sale.made(2)
    assert await states() == ("refunded", 4_500, 0)
    gate = Organiser(client, "gina", Role.GATE)
    (seen,) = (await gate.get(attendees))["attendees"]
    assert not seen.keys() & {"payment_state", "paid_minor", "refunded_minor", "refunding_minor"}
    exported = await olga.get(f"/shows/{show['show_id']}/booking-export", format="json")
    assert exported["rows"][0]["payment_state"] == "refunded"
    assert exported["rows"][0]["paid_minor"] == 4_500
    by_payment = (await olga.get(f"/shows/{show['show_id']}"))["sales"]["by_payment"]
    assert [(each["payment"], each["bookings"]) for each in by_payment] == [("stripe", 1)]


async def test_alarms_are_seen_and_resolved_by_their_own_house(
    house: OrganiserHouse, olga: Organiser, strangers: Organiser, client: httpx.AsyncClient
) -> None:
    show_id = ShowId((await olga.make_show())["show_id"])
    books = PaymentBooks(house.admin_pool)
    await books.raise_alarm("foreign_refund", "pay_x", "somebody did", show_id)
    await books.raise_alarm("unknown_payment", "stripe:pi_9", "nobody knows it")

    async def kinds(who: Organiser, **query: str) -> list[str]:
        return [alarm["kind"] for alarm in (await who.get("/alarms", **query))["alarms"]]

    assert await kinds(olga) == ["foreign_refund"]
    assert await kinds(strangers) == []
    admin = Organiser(client, "ada", Role.ADMIN)
    assert await kinds(admin, tenant_id=str(OTHER_TENANT)) == ["unknown_payment"]
    (alarm,) = (await olga.get("/alarms"))["alarms"]
    path = f"/alarms/{alarm['alarm_id']}/resolve"
    refused = await strangers.ask("POST", path)
    assert (refused.status_code, code_of(refused)) == (404, "not_found")
    assert (await olga.ask("POST", path)).status_code == 204
    assert await kinds(olga) == []
    assert (await olga.ask("POST", path)).status_code == 404
    assert await audited(olga, alarm["alarm_id"]) == ["alarm_resolved"]
