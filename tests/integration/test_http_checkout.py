"""Paying for a hold over HTTP, with a real database, real gateways and the sandbox provider."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from actors.checkouts import CheckoutRefusal
from persistence.promo_codes import PromoCodes
from persistence.show_terms import ShowTermsStore
from reservation.access import HOUSE_TENANT
from reservation.ids import ShowId
from reservation.organiser_ids import ObjectKind, PromoCodeId, derive_object_id
from reservation.price import FeeBasis, FeeTerm, PriceTerms, TaxBase, TaxTerm
from reservation.promo_codes import PercentageOff, PromoTerms
from reservation.refunds import RefundBand, RefundPolicy
from serve_app.api.problems import KINDS
from tests.support.access import signed_in
from tests.support.http_house import as_customer, code_of, fields_of, numbers, selling
from tests.support.paying import PayingHouse, open_paying_house

SEAT = "Stalls-A-1"
PRICE = 4_500
EVERYTHING = RefundPolicy()
HALF = RefundPolicy((RefundBand(0, 5_000),), 100)
TERMS = PriceTerms(
    fees=(FeeTerm("Booking fee", FeeBasis.ORDER, 150),),
    taxes=(TaxTerm("VAT", TaxBase.PLACES, 1_000, is_included=True),),
)


@pytest.fixture(scope="module")
async def paying() -> AsyncIterator[PayingHouse]:
    async with open_paying_house() as paying:
        yield paying


@pytest.fixture
async def show_id(paying: PayingHouse) -> ShowId:
    return await paying.house.add_show()


async def set_terms(
    paying: PayingHouse, show_id: ShowId, policy: RefundPolicy = EVERYTHING
) -> None:
    store = ShowTermsStore(paying.house.pool)
    put = await store.put(HOUSE_TENANT, show_id, TERMS, policy)
    assert put.row is not None


async def add_code(paying: PayingHouse, percent: int, **terms: Any) -> str:
    code = f"CODE-{next(numbers)}"
    promo = PromoTerms(code, PercentageOff(percent * 100), **terms)
    promo_code_id = PromoCodeId(derive_object_id(ObjectKind.PROMO_CODE, HOUSE_TENANT, code))
    put = await PromoCodes(paying.house.pool).create(HOUSE_TENANT, promo_code_id, promo)
    assert put.row is not None
    return code


@pytest.mark.parametrize("provider", ["stripe", "razorpay"])
async def test_a_hold_that_is_paid_becomes_a_booking_with_a_receipt(
    paying: PayingHouse, show_id: ShowId, provider: str
) -> None:
    await set_terms(paying, show_id)
    hold_id = await paying.hold(show_id, SEAT)
    payment = await paying.opened(hold_id, provider=provider)
    assert payment["state"] == "waiting"
    assert (payment["amount_minor"], payment["currency"]) == (PRICE + 150, "EUR")
    assert [(line["kind"], line["amount_minor"]) for line in payment["lines"]] == [
        ("place", PRICE),
        ("fee", 150),
        ("tax", 409),
    ]
    sums = [line["amount_minor"] for line in payment["lines"] if not line["is_included"]]
    assert sum(sums) == payment["amount_minor"]
    names = {"stripe": {"client_secret", "publishable_key"}, "razorpay": {"order_id", "key_id"}}
    assert payment["client"].keys() == names[provider]
    after = await paying.booked(payment)
    assert "client" not in after
    answer = await paying.booking.get(f"/bookings/{after['booking_id']}", headers=signed_in("ann"))
    booking = answer.json()
    assert (booking["state"], booking["payment"]) == ("confirmed", payment["payment_id"])
    assert booking["receipt"]["lines"] == payment["lines"]
    assert booking["receipt"]["amount_minor"] == PRICE + 150
    listed = (await paying.booking.get("/bookings?limit=1", headers=signed_in("ann"))).json()
    assert listed["bookings"] == [booking]
    assert await paying.books(payment) == (PRICE + 150, 0)


async def test_the_same_request_again_gives_the_same_payment(
    paying: PayingHouse, show_id: ShowId
) -> None:
    hold_id = await paying.hold(show_id, SEAT)
    first = await paying.checkout(hold_id, key="mine")
    assert "idempotent-replayed" not in first.headers
    payment = first.json()
    assert first.headers["location"] == f"/api/payments/payments/{payment['payment_id']}"
    again = await paying.checkout(hold_id, key="mine")
    assert (again.status_code, again.headers["idempotent-replayed"]) == (201, "true")
    assert again.json() == payment
    other = await paying.checkout(hold_id, key="mine", provider="razorpay")
    assert (other.status_code, code_of(other)) == (422, "exists_with_different_request")
    second = await paying.checkout(hold_id, key="another")
    assert (second.status_code, code_of(second)) == (409, "hold_has_payment")
    await paying.booked(payment)
    late = await paying.checkout(hold_id, key="mine")
    assert (late.status_code, late.json()["state"]) == (201, "booked")


async def test_one_of_many_checkouts_at_once_is_begun(paying: PayingHouse, show_id: ShowId) -> None:
    hold_id = await paying.hold(show_id, SEAT)
    answers = await asyncio.gather(*(paying.checkout(hold_id, key=f"k{n}") for n in range(5)))
    codes = sorted("" if answer.is_success else code_of(answer) for answer in answers)
    assert codes == ["", *["hold_has_payment"] * 4]


async def test_without_a_key_nothing_is_begun(paying: PayingHouse, show_id: ShowId) -> None:
    hold_id = await paying.hold(show_id, SEAT)
    answer = await paying.booking.post(f"/holds/{hold_id}/checkout", headers=signed_in("ann"))
    assert (answer.status_code, code_of(answer)) == (400, "idempotency_key_missing")
    assert await paying.house.payment_stores.payments[0].list_by_show(show_id) == []


async def test_a_hold_that_is_over_is_not_paid_for(paying: PayingHouse, show_id: ShowId) -> None:
    hold_id = await paying.hold(show_id, SEAT)
    await paying.booking.delete(f"/holds/{hold_id}", headers=signed_in("ann"))
    answer = await paying.checkout(hold_id)
    assert (answer.status_code, code_of(answer)) == (410, "hold_released")
    sold = await paying.hold(show_id, SEAT, customer="sue")
    await paying.booking.post(
        f"/holds/{sold}/confirm", json={"payment": "counter"}, headers=selling("sue")
    )
    answer = await paying.checkout(sold, customer="sue")
    assert (answer.status_code, code_of(answer)) == (409, "hold_already_confirmed")
    receipts = (await paying.booking.get("/bookings", headers=signed_in("sue"))).json()["bookings"]
    assert "receipt" not in receipts[0], "the counter gives its own"


async def test_a_payment_that_was_given_up_makes_way_for_another(
    paying: PayingHouse, show_id: ShowId
) -> None:
    hold_id = await paying.hold(show_id, SEAT)
    payment = await paying.opened(hold_id)
    address = f"/payments/{payment['payment_id']}/cancel"
    answer = await paying.payments.post(address, headers=signed_in("ann"))
    assert (answer.status_code, answer.json()["state"]) == (200, "cancelled")
    await paying.house.work()
    again = await paying.payments.post(address, headers=signed_in("ann"))
    assert again.json()["state"] == "cancelled"
    assert "client" not in again.json()
    second = await paying.booked(await paying.opened(hold_id, provider="razorpay"))
    refused = await paying.payments.post(
        f"/payments/{second['payment_id']}/cancel", headers=signed_in("ann")
    )
    assert (refused.status_code, code_of(refused)) == (409, "payment_is_booked")


async def test_a_try_that_failed_can_be_followed_by_another(
    paying: PayingHouse, show_id: ShowId
) -> None:
    payment = await paying.opened(await paying.hold(show_id, SEAT))
    await paying.pay(payment, succeeds=False)
    await paying.house.payment_stores.payments[0].wake(payment["payment_id"])
    await paying.house.work()
    failed = await paying.seen(payment["payment_id"])
    assert failed["state"] == "failed"
    assert failed["client"] == payment["client"]
    await paying.booked(payment)


async def test_a_customer_who_cancels_gets_what_the_policy_says_and_whom_the_house_cancels_all(
    paying: PayingHouse,
) -> None:
    tomorrow_ms = (int(time.time()) + 86_400) * 1_000
    show_id = await paying.house.add_show(starts_at_ms=tomorrow_ms)
    await set_terms(paying, show_id, HALF)
    expected = {"ann": ("policy", (PRICE + 150) // 2 - 100), "house": ("full", PRICE + 150)}
    for seat, (who, (terms, back)) in zip((SEAT, "Stalls-B-1"), expected.items(), strict=True):
        payment = await paying.booked(await paying.opened(await paying.hold(show_id, seat)))
        headers = signed_in("ann") if who == "ann" else selling("sue")
        address = f"/bookings/{payment['booking_id']}/cancel"
        cancelled = await paying.booking.post(address, headers=headers)
        assert cancelled.json()["refund"] == terms
        assert (await paying.seen(payment["payment_id"]))["state"] == "refunding"
        await paying.house.work()
        after = await paying.seen(payment["payment_id"])
        assert (after["state"], after["refunded_minor"]) == ("refunded", back)
        assert await paying.books(payment) == (PRICE + 150, back)


async def test_a_promo_code_makes_it_cheaper_or_free(paying: PayingHouse, show_id: ShowId) -> None:
    half, free = await add_code(paying, 50), await add_code(paying, 100)
    payment = await paying.opened(await paying.hold(show_id, SEAT), promo_code=half.lower())
    assert payment["amount_minor"] == PRICE // 2
    assert payment["lines"][-1] == {
        "kind": "discount",
        "name": half,
        "amount_minor": -PRICE // 2,
        "is_included": False,
    }
    hold_id = await paying.hold(show_id, "Stalls-B-1")
    answer = await paying.checkout(hold_id, promo_code=free, key="free")
    booked = answer.json()
    assert (answer.status_code, booked["state"], booked["amount_minor"]) == (201, "booked", 0)
    assert "payment_id" not in booked
    assert answer.headers["location"] == f"/api/booking/bookings/{booked['booking_id']}"
    again = await paying.checkout(hold_id, promo_code=free, key="free")
    assert again.headers["idempotent-replayed"] == "true"
    assert again.json()["booking_id"] == booked["booking_id"]


async def test_a_promo_code_that_is_not_for_this_is_refused_by_name(
    paying: PayingHouse, show_id: ShowId
) -> None:
    once = await add_code(paying, 10, uses_max=1)
    await paying.opened(await paying.hold(show_id, SEAT), promo_code=once)
    codes = {
        once: "promo_used_up",
        "NOBODY-KNOWS": "promo_code_unknown",
        "two words": "promo_code_unknown",
        await add_code(paying, 10, is_active=False): "promo_not_active",
        await add_code(paying, 10, valid_until_at_ms=1): "promo_no_longer_valid",
        await add_code(paying, 10, show_ids=frozenset({ShowId("shw_" + "0" * 16)})): (
            "promo_for_other_shows"
        ),
        await add_code(paying, 10, category_names=frozenset({"Balcony"})): (
            "promo_for_other_categories"
        ),
    }
    hold_id = await paying.hold(show_id, "Stalls-B-1", customer="bob")
    for code, expected in codes.items():
        answer = await paying.checkout(hold_id, customer="bob", promo_code=code)
        assert code_of(answer) == expected, code
        assert fields_of(answer) == ["promo_code"]


async def test_a_provider_that_does_not_answer_is_asked_later(
    paying: PayingHouse, show_id: ShowId
) -> None:
    operation = "stripe.payment_intents.create"
    await paying.tell("faults", operation=operation, kind="error_before", times=10)
    payment = await paying.opened(await paying.hold(show_id, SEAT))
    assert payment["state"] == "processing"
    assert "client" not in payment
    await asyncio.to_thread(paying.sandbox.control, "DELETE", "faults")


def test_every_refusal_of_a_checkout_has_its_problem() -> None:
    assert {refusal.value for refusal in CheckoutRefusal} <= KINDS.keys()


async def test_a_hold_of_somebody_else_is_not_there_to_be_paid(
    paying: PayingHouse, show_id: ShowId
) -> None:
    hold_id = await paying.hold(show_id, SEAT)
    answer = await paying.booking.post(
        f"/holds/{hold_id}/checkout", json={"provider": "stripe"}, headers=as_customer("eve")
    )
    assert (answer.status_code, code_of(answer)) == (404, "hold_not_found")
