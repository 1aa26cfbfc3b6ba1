"""Customers who pay at a house's checkouts, over HTTP and at the sandbox provider."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from stripe import WebhookSignature

from reservation.ids import ShowId
from tests.support.access import signed_in
from tests.support.http_house import (
    BOOKING,
    PAYMENTS,
    House,
    as_customer,
    open_client,
    open_new_house,
)
from tests.support.payment_benches import WEBHOOK_SECRET, sandbox_config
from tests.support.sandbox import RunningSandbox, running_sandbox


@dataclass
class PayingHouse:
    """A house with a sandbox, and clients of both applications that a customer who pays needs."""

    house: House
    sandbox: RunningSandbox
    booking: httpx.AsyncClient
    payments: httpx.AsyncClient

    async def hold(self, show_id: ShowId, *seats: str, customer: str = "ann") -> str:
        """A new hold of these seats; its id."""
        answer = await self.booking.post(
            f"/shows/{show_id}/holds", json={"seats": list(seats)}, headers=as_customer(customer)
        )
        assert answer.status_code == 201, answer.text
        hold_id: str = answer.json()["hold_id"]
        return hold_id

    async def checkout(
        self, hold_id: str, customer: str = "ann", key: str | None = None, **wish: Any
    ) -> httpx.Response:
        """What the house says to somebody who wants to pay."""
        return await self.booking.post(
            f"/holds/{hold_id}/checkout", json=wish, headers=as_customer(customer, key)
        )

    async def opened(self, hold_id: str, **wish: Any) -> dict[str, Any]:
        """A payment of Ann's that waits for her."""
        answer = await self.checkout(hold_id, **wish)
        assert answer.status_code == 201, answer.text
        payment: dict[str, Any] = answer.json()
        return payment

    async def seen(self, payment_id: str, customer: str = "ann") -> dict[str, Any]:
        """The payment as its customer sees it."""
        answer = await self.payments.get(f"/payments/{payment_id}", headers=signed_in(customer))
        assert answer.status_code == 200, answer.text
        payment: dict[str, Any] = answer.json()
        return payment

    async def pay(self, payment: dict[str, Any], *, succeeds: bool = True) -> None:
        """The customer pays at the provider, and the house finds out."""
        if payment["provider"] == "stripe":
            intent = payment["client"]["client_secret"].partition("_secret_")[0]
            method = "pm_card_visa" if succeeds else "pm_card_chargeDeclined"
            await self.tell("stripe/pay", ids=[intent], payment_method=method)
        else:
            outcome = "succeeds" if succeeds else "fails"
            await self.tell("razorpay/pay", ids=[payment["client"]["order_id"]], outcome=outcome)

    async def noticed(self, payment: dict[str, Any], customer: str = "ann") -> dict[str, Any]:
        """The payment after the house has looked at it and done all that is due."""
        await self.house.checkouts.look(payment["payment_id"])
        await self.house.work()
        return await self.seen(payment["payment_id"], customer)

    async def booked(self, payment: dict[str, Any]) -> dict[str, Any]:
        """The payment after it was paid and has become a booking."""
        await self.pay(payment)
        after = await self.noticed(payment)
        assert after["state"] == "booked", after
        return after

    async def tell(self, path: str, **data: Any) -> Any:
        """Ask the sandbox's control plane."""
        return await asyncio.to_thread(self.sandbox.control, "POST", path, **data)

    async def books(self, payment: dict[str, Any]) -> tuple[int, int]:
        """What the provider has taken for a payment and given back."""
        stored = await self.house.payment_stores.payments[0].find(payment["payment_id"])
        assert stored is not None
        ref = stored.charge_ref or stored.payment.provider_ref
        shown = await asyncio.to_thread(self.sandbox.control, "GET", "statement-of-payments")
        found = [one for one in shown if one["payment"] == ref]
        return (found[0]["captured"], found[0]["refunded"]) if found else (0, 0)


@asynccontextmanager
async def open_paying_house() -> AsyncIterator[PayingHouse]:
    """A paying house over a server of its own."""
    with running_sandbox() as sandbox:
        async with (
            open_new_house(providers=sandbox_config(sandbox)) as house,
            open_client(house.booking_app(), BOOKING) as booking,
            open_client(house.payments_app(), PAYMENTS) as payments,
        ):
            yield PayingHouse(house, sandbox, booking, payments)


def stripe_notice(payment: dict[str, Any], event: str, **changes: Any) -> bytes:
    """What Stripe sends when a payment has succeeded."""
    intent = payment["client"]["client_secret"].partition("_secret_")[0]
    about = {
        "id": intent,
        "object": "payment_intent",
        "amount": payment["amount_minor"],
        "metadata": {"payment_id": payment["payment_id"]},
    }
    told = {
        "id": event,
        "object": "event",
        "created": int(time.time()),
        "livemode": False,
        "type": "payment_intent.amount_capturable_updated",
        "data": {"object": about},
    }
    return json.dumps({**told, **changes}).encode()


def signed_by_stripe(body: bytes, secret: str = WEBHOOK_SECRET, age_s: int = 0) -> dict[str, str]:
    """The headers with which Stripe sends it."""
    signature = WebhookSignature.generate_signature_header(
        body.decode(), secret, timestamp=int(time.time()) - age_s
    )
    return {"Stripe-Signature": str(signature), "Content-Type": "application/json"}
