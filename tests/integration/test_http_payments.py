"""Payments and webhooks over HTTP: whose they are, and which webhooks are believed."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
from starlette.requests import Request

from integrations.payments.signed_body import MAX_BODY_BYTES
from persistence.memory_rate_limits import MemoryRateLimiter
from reservation.access import Role
from reservation.ids import ShowId
from serve_app.api.limits import UNLIMITED, RequestLimits
from serve_app.api.payments.webhooks import AT_ONCE_MAX, WebhookRoutes
from serve_app.api.problems import Problem
from tests.support.access import OTHER_TENANT, account_named, signed_in
from tests.support.http_house import (
    PAYMENTS,
    code_of,
    fields_of,
    numbers,
    open_client,
    selling,
)
from tests.support.paying import (
    PayingHouse,
    open_paying_house,
    signed_by_stripe,
    stripe_notice,
)
from tests.support.payment_benches import WEBHOOK_SECRET

NOBODY_S = "pay_" + "0" * 32
SEAT = "Stalls-A-1"


@pytest.fixture(scope="module")
async def paying() -> AsyncIterator[PayingHouse]:
    async with open_paying_house() as paying:
        yield paying


@pytest.fixture
async def show_id(paying: PayingHouse) -> ShowId:
    return await paying.house.add_show()


@pytest.fixture
async def payment(paying: PayingHouse, show_id: ShowId) -> dict[str, Any]:
    return await paying.opened(await paying.hold(show_id, SEAT))


async def taken(paying: PayingHouse) -> int:
    """How many notices are written down."""
    return int(await paying.house.pool.fetchval("SELECT count(*) FROM webhook_inbox"))


async def is_awake(paying: PayingHouse, payment: dict[str, Any]) -> bool:
    """Whether somebody is to look at the payment because its provider has news."""
    stored = await paying.house.payment_stores.payments[0].find(payment["payment_id"])
    assert stored is not None
    return stored.payment.is_noticed


# -- whose they are ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "asker",
    [
        lambda: signed_in("bob"),
        lambda: selling("sue"),
        lambda: signed_in("tom", Role.ORGANISER),
        lambda: signed_in("eve", Role.BOX_OFFICE, OTHER_TENANT),
        lambda: signed_in("adam", Role.ADMIN),
    ],
)
async def test_a_payment_is_its_customer_s_and_nobody_else_knows_that_it_is_there(
    paying: PayingHouse, payment: dict[str, Any], asker: Any
) -> None:
    for method, path in (("GET", "/payments/{}"), ("POST", "/payments/{}/cancel")):
        found = await paying.payments.request(
            method, path.format(payment["payment_id"]), headers=asker()
        )
        nothing = await paying.payments.request(method, path.format(NOBODY_S), headers=asker())
        assert (found.status_code, code_of(found)) == (404, "payment_not_found")
        assert found.content == nothing.content
        assert account_named("ann") not in found.text
    listed = await paying.payments.get("/payments", headers=asker())
    assert payment["payment_id"] not in listed.text
    assert (await paying.seen(payment["payment_id"]))["state"] == "waiting", "nothing happened"


@pytest.mark.parametrize("text", ["x", "pay_", "pay_" + "u" * 32, "hld_" + "0" * 32])
async def test_an_id_that_is_none_is_of_nothing(paying: PayingHouse, text: str) -> None:
    answer = await paying.payments.get(f"/payments/{text}", headers=signed_in("ann"))
    assert (answer.status_code, code_of(answer)) == (404, "payment_not_found")


async def test_a_payment_shows_what_its_customer_needs_as_long_as_it_can_be_paid(
    paying: PayingHouse, payment: dict[str, Any]
) -> None:
    assert await paying.seen(payment["payment_id"]) == payment
    after = await paying.booked(payment)
    assert after.keys() - payment.keys() == {"booking_id"}
    assert payment.keys() - after.keys() == {"client"}


async def test_the_list_is_the_newest_first_and_goes_on_where_it_ended(
    paying: PayingHouse, show_id: ShowId
) -> None:
    name = f"lister{next(numbers)}"
    ids = []
    for seat in range(1, 5):
        hold_id = await paying.hold(show_id, f"Stalls-B-{seat}", customer=name)
        ids.append((await paying.checkout(hold_id, customer=name)).json()["payment_id"])
    found: list[str] = []
    query: dict[str, Any] = {"limit": 2}
    while True:
        page = (
            await paying.payments.get("/payments", params=query, headers=signed_in(name))
        ).json()
        found += [one["payment_id"] for one in page["payments"]]
        assert all("client" not in one for one in page["payments"])
        if "next" not in page:
            break
        query["cursor"] = page["next"]
    assert found == ids[::-1]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=1e2", "limit"),
        ("cursor=x", "cursor"),
        ("colour=red", "colour"),
    ],
)
async def test_a_query_that_is_none_is_refused_by_name(
    paying: PayingHouse, query: str, field: str
) -> None:
    answer = await paying.payments.get(f"/payments?{query}", headers=signed_in("ann"))
    assert (answer.status_code, fields_of(answer)) == (422, [field])


async def test_a_cursor_of_another_list_is_refused(paying: PayingHouse) -> None:
    cursor = "WzEsInNod18wMCJd"  # [1,"shw_00"]
    answer = await paying.payments.get(f"/payments?cursor={cursor}", headers=signed_in("ann"))
    assert (answer.status_code, fields_of(answer)) == (422, ["cursor"])


async def test_giving_up_takes_no_content(paying: PayingHouse, payment: dict[str, Any]) -> None:
    answer = await paying.payments.post(
        f"/payments/{payment['payment_id']}/cancel", json={"refund": 1}, headers=signed_in("ann")
    )
    assert (answer.status_code, fields_of(answer)) == (422, ["refund"])


async def test_a_customer_who_paid_and_gives_up_has_his_money_or_his_places(
    paying: PayingHouse, payment: dict[str, Any]
) -> None:
    await paying.pay(payment)
    await paying.payments.post(
        f"/payments/{payment['payment_id']}/cancel", headers=signed_in("ann")
    )
    await paying.house.work()
    after = await paying.seen(payment["payment_id"])
    assert after["state"] in ("cancelled", "refunded")
    taken, given_back = await paying.books(payment)
    assert taken == given_back


# -- webhooks ---------------------------------------------------------------------------


async def send(
    paying: PayingHouse, body: bytes, headers: dict[str, str], provider: str = "stripe"
) -> httpx.Response:
    return await paying.payments.post(f"/webhooks/{provider}", content=body, headers=headers)


async def test_a_webhook_of_stripe_is_why_the_house_looks(
    paying: PayingHouse, payment: dict[str, Any]
) -> None:
    await paying.pay(payment)
    assert not await is_awake(paying, payment)
    body = stripe_notice(payment, "evt_paid")
    answer = await send(paying, body, signed_by_stripe(body))
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
    assert await is_awake(paying, payment)
    await paying.house.work()
    assert (await paying.seen(payment["payment_id"]))["state"] == "booked"


async def test_a_webhook_of_razorpay_is_why_the_house_looks(
    paying: PayingHouse, show_id: ShowId
) -> None:
    payment = await paying.opened(await paying.hold(show_id, SEAT), provider="razorpay")
    await paying.pay(payment)
    order = {"id": payment["client"]["order_id"], "notes": {"payment_id": payment["payment_id"]}}
    event = {"entity": "event", "event": "order.paid", "payload": {"order": {"entity": order}}}
    body = json.dumps(event).encode()
    signature = hmac.new(WEBHOOK_SECRET.encode(), body, hashlib.sha256).hexdigest()
    headers = {"X-Razorpay-Signature": signature, "X-Razorpay-Event-Id": "evt_1"}
    assert (await send(paying, body, headers, "razorpay")).status_code == 200
    await paying.house.work()
    assert (await paying.seen(payment["payment_id"]))["state"] == "booked"


async def test_a_webhook_is_no_proof_that_anything_was_paid(
    paying: PayingHouse, payment: dict[str, Any]
) -> None:
    body = stripe_notice(payment, "evt_early", type="payment_intent.succeeded")
    assert (await send(paying, body, signed_by_stripe(body))).status_code == 200
    await paying.house.work()
    assert (await paying.seen(payment["payment_id"]))["state"] == "waiting"


async def test_a_webhook_that_comes_again_is_taken_once(
    paying: PayingHouse, payment: dict[str, Any]
) -> None:
    before = await taken(paying)
    body = stripe_notice(payment, "evt_twice")
    answers = [await send(paying, body, signed_by_stripe(body)) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert await taken(paying) == before + 1
    await paying.house.work()
    assert (await send(paying, body, signed_by_stripe(body))).status_code == 200
    assert not await is_awake(paying, payment)


async def test_a_webhook_that_is_not_the_provider_s_changes_nothing(
    paying: PayingHouse, payment: dict[str, Any]
) -> None:
    before = await taken(paying)
    body = stripe_notice(payment, "evt_forged")
    good = signed_by_stripe(body)
    forged: dict[str, tuple[bytes, dict[str, str]]] = {
        "no signature": (body, {}),
        "a made-up one": (body, {"Stripe-Signature": "t=1,v1=00"}),
        "another secret": (body, signed_by_stripe(body, "whsec_of_somebody_else")),
        "altered": (body.replace(b"evt_forged", b"evt_other_"), good),
        "one byte more": (body + b" ", good),
        "old": (body, signed_by_stripe(body, age_s=600)),
        "of the future": (body, signed_by_stripe(body, age_s=-600)),
        "empty": (b"", good),
        "of live mode": (
            live := stripe_notice(payment, "evt_live", livemode=True),
            signed_by_stripe(live),
        ),
        "the other provider's": (body, {"X-Razorpay-Signature": "00"}),
    }
    for name, (content, headers) in forged.items():
        answer = await send(paying, content, headers)
        assert (answer.status_code, code_of(answer)) == (400, "webhook_refused"), name
        assert WEBHOOK_SECRET not in answer.text
        refused = await send(paying, content, headers, "razorpay")
        assert (refused.status_code, code_of(refused)) == (400, "webhook_refused"), name
    assert await taken(paying) == before
    assert not await is_awake(paying, payment)
    assert (await paying.seen(payment["payment_id"]))["state"] == "waiting"


async def test_two_signatures_are_as_bad_as_none(
    paying: PayingHouse, payment: dict[str, Any]
) -> None:
    body = stripe_notice(payment, "evt_two")
    signature = signed_by_stripe(body)["Stripe-Signature"]
    headers = [("Stripe-Signature", "t=1,v1=00"), ("Stripe-Signature", signature)]
    answer = await paying.payments.post("/webhooks/stripe", content=body, headers=headers)
    assert (answer.status_code, code_of(answer)) == (400, "webhook_refused")


async def test_a_webhook_of_something_else_is_taken_and_forgotten(paying: PayingHouse) -> None:
    before = await taken(paying)
    event = {"id": "evt_c", "object": "event", "livemode": False, "type": "customer.created"}
    body = json.dumps({**event, "created": 1, "data": {"object": {}}}).encode()
    assert (await send(paying, body, signed_by_stripe(body))).status_code == 200
    assert await taken(paying) == before


async def test_a_webhook_may_be_larger_than_other_bodies_but_not_by_much(
    paying: PayingHouse, payment: dict[str, Any]
) -> None:
    padding = "x" * (MAX_BODY_BYTES - len(stripe_notice(payment, "evt_large", padding="")))
    body = stripe_notice(payment, "evt_large", padding=padding)
    assert len(body) == MAX_BODY_BYTES
    assert (await send(paying, body, signed_by_stripe(body))).status_code == 200
    answer = await send(paying, body + b" ", signed_by_stripe(body))
    assert (answer.status_code, code_of(answer)) == (413, "body_too_large")
    await paying.house.work()
    customer = await paying.payments.post(
        f"/payments/{payment['payment_id']}/cancel", content=b" " * 65_537, headers=signed_in("ann")
    )
    assert (customer.status_code, code_of(customer)) == (413, "body_too_large")


async def test_a_provider_that_nobody_knows_has_no_webhooks(paying: PayingHouse) -> None:
    answer = await send(paying, b"{}", {}, "paypal")
    assert (answer.status_code, code_of(answer)) == (404, "not_found")


async def test_webhooks_are_not_for_the_limits_of_customers(
    paying: PayingHouse, payment: dict[str, Any]
) -> None:
    limits = RequestLimits(
        MemoryRateLimiter(),
        replace(UNLIMITED, address=2),
        gateway_secret="of-the-gateway-of-a-test",
    )
    told = {
        "X-Housefull-Gateway": "of-the-gateway-of-a-test",
        "X-Housefull-Client": "192.0.2.7",
    }
    async with open_client(paying.house.payments_app(limits=limits), PAYMENTS) as client:
        for _ in range(5):
            body = stripe_notice(payment, "evt_limits")
            answer = await client.post(
                "/webhooks/stripe", content=body, headers={**signed_by_stripe(body), **told}
            )
            assert answer.status_code == 200
        asked = [
            await client.get("/payments", headers={**signed_in("ann"), **told}) for _ in range(3)
        ]
        assert [answer.status_code for answer in asked] == [200, 200, 429]
    await paying.house.work()


async def test_no_more_webhooks_are_worked_on_at_once_than_there_are_places() -> None:
    is_done, are_all_in = asyncio.Event(), asyncio.Event()
    taken: list[str] = []

    class Slow:
        async def take_notice(self, provider: str, body: bytes, headers: object) -> None:
            taken.append(provider)
            if len(taken) == AT_ONCE_MAX:
                are_all_in.set()
            await is_done.wait()

    routes: Any = WebhookRoutes(lambda: Slow())  # type: ignore[arg-type, return-value]
    app = httpx.ASGITransport(app=_asgi(routes))
    async with httpx.AsyncClient(transport=app, base_url="http://house") as client:
        under_way = [
            asyncio.create_task(client.post("/", content=b"{}")) for _ in range(AT_ONCE_MAX)
        ]
        await asyncio.wait_for(are_all_in.wait(), 10)
        refused = await client.post("/", content=b"{}")
        assert (refused.status_code, refused.json()["code"]) == (503, "overloaded")
        assert refused.headers["retry-after"]
        is_done.set()
        assert {answer.status_code for answer in await asyncio.gather(*under_way)} == {200}


def _asgi(routes: Any) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            response = await routes.stripe_webhook(Request(scope, receive))
        except Problem as problem:
            response = problem.response()
        await response(scope, receive, send)

    return app
