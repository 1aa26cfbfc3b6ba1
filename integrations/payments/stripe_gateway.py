"""Stripe: a payment is a PaymentIntent that carries our id in its metadata.

What is known of Stripe and decided because of it:

* Its own client makes a new idempotency key for every call and asks again by itself. That helps
  against a lost answer and not against a crash, so it does neither here: keys come from the caller,
  who asks again.
* Keys are forgotten after 24 hours. Cancelling and capturing look at the state when they are
  refused, and refunds carry their key in their metadata and are looked for before one is made.
* A failure inside Stripe (500) is stored, too, and repeated for a key as long as it lives, although
  the thing may have happened: that is ``KeySpent``.
* Searching by metadata lags behind by up to a minute, listing does not: ``find`` lists what was
  made since, which is a page for each hundred payments.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, TypeVar

import aiohttp
import stripe

from integrations.payments.payment_gateway import (
    REQUEST_TIMEOUT_MS,
    GatewayBusy,
    GatewayRefused,
    KeySpent,
    Notice,
    PaymentRequest,
    ProviderPayment,
    ProviderRefund,
    ProviderState,
    furthest,
)
from integrations.payments.provider_config import StripeConfig
from integrations.payments.stripe_answers import (
    REFUND_KEY,
    UNANSWERED,
    fault_of,
    is_replayed,
    payment_of,
    refund_of,
)
from integrations.payments.stripe_notices import read_stripe_notice
from reservation.ids import PaymentId
from reservation.payment import CaptureMode

_PAGE = 100
_CLOCKS_DIFFER_BY_MS = 300_000
_CONNECT_TIMEOUT_S = 3.0

_ENDED = frozenset({ProviderState.CAPTURED, ProviderState.CANCELLED})

A = TypeVar("A")
T = TypeVar("T")

# At this level it writes down bodies, in which client secrets are.
logging.getLogger("stripe").setLevel(logging.WARNING)


class StripeGateway:
    """See the module's docstring."""

    provider = "stripe"

    def __init__(
        self, config: StripeConfig, *, request_timeout_ms: int = REQUEST_TIMEOUT_MS
    ) -> None:
        self._config = config
        timeout_s = request_timeout_ms / 1_000
        self._transport = stripe.AIOHTTPClient(
            timeout=aiohttp.ClientTimeout(
                total=timeout_s, sock_connect=min(_CONNECT_TIMEOUT_S, timeout_s)
            )
        )
        self._stripe = stripe.StripeClient(
            config.secret_key,
            http_client=self._transport,
            max_network_retries=0,
            base_addresses={"api": config.api_url} if config.api_url else None,
        ).v1

    @property
    def modes(self) -> frozenset[CaptureMode]:
        """See ``PaymentGateway``."""
        return frozenset({self._config.capture_mode, CaptureMode.AUTOMATIC})

    async def create(self, request: PaymentRequest) -> ProviderPayment:
        """See ``PaymentGateway``."""
        if request.capture_mode not in self.modes:
            raise GatewayRefused(
                f"Stripe is not set up for {request.capture_mode} capture", code="capture_mode"
            )
        return await self._write(
            "make a payment",
            self._payment_of,
            self._stripe.payment_intents.create_async(
                {
                    "amount": request.amount_minor,
                    "currency": request.currency.lower(),
                    "capture_method": (
                        "manual" if request.capture_mode is CaptureMode.MANUAL else "automatic"
                    ),
                    "automatic_payment_methods": {"enabled": True},
                    "metadata": {"payment_id": request.payment_id},
                    "description": request.description,
                    "expand": ["latest_charge"],
                },
                {"idempotency_key": request.key},
            ),
        )

    async def fetch(self, provider_ref: str) -> ProviderPayment:
        """See ``PaymentGateway``."""
        return await self._read(
            "read a payment",
            self._payment_of,
            self._stripe.payment_intents.retrieve_async(
                provider_ref, {"expand": ["latest_charge"]}
            ),
        )

    async def find(self, payment_id: PaymentId, created_at_ms: int) -> ProviderPayment | None:
        """See ``PaymentGateway``."""
        listed = self.list_since(created_at_ms - _CLOCKS_DIFFER_BY_MS)
        return furthest([payment async for payment in listed if payment.payment_id == payment_id])

    async def capture(self, payment: ProviderPayment, amount_minor: int, key: str) -> None:
        """See ``PaymentGateway``."""

        def is_done(now: ProviderPayment) -> bool:
            return now.state is ProviderState.CAPTURED and now.captured_minor >= amount_minor

        await self._write_unless(
            "capture a payment",
            self._stripe.payment_intents.capture_async(
                payment.provider_ref, {"amount_to_capture": amount_minor}, {"idempotency_key": key}
            ),
            payment.provider_ref,
            is_done,
        )

    async def cancel(self, payment: ProviderPayment, key: str) -> None:
        """See ``PaymentGateway``."""

        def is_done(now: ProviderPayment) -> bool:
            if now.state is ProviderState.PROCESSING:
                raise GatewayBusy("the bank has not answered yet")
            return now.state is ProviderState.CANCELLED

        await self._write_unless(
            "cancel a payment",
            self._stripe.payment_intents.cancel_async(
                payment.provider_ref,
                {"cancellation_reason": "abandoned"},
                {"idempotency_key": key},
            ),
            payment.provider_ref,
            is_done,
        )

    async def refund(self, payment: ProviderPayment, amount_minor: int, key: str) -> ProviderRefund:
        """See ``PaymentGateway``."""
        for made in await self.refunds_of(payment):
            if made.key == key:
                return made
        return await self._write(
            "refund a payment",
            _refund_of,
            self._stripe.refunds.create_async(
                {
                    "payment_intent": payment.provider_ref,
                    "amount": amount_minor,
                    "metadata": {
                        REFUND_KEY: key,
                        **({"payment_id": payment.payment_id} if payment.payment_id else {}),
                    },
                },
                {"idempotency_key": key},
            ),
        )

    async def refunds_of(self, payment: ProviderPayment) -> list[ProviderRefund]:
        """See ``PaymentGateway``."""
        refunds: list[ProviderRefund] = []
        params: stripe.params.RefundListParams = {
            "payment_intent": payment.provider_ref,
            "limit": _PAGE,
        }
        has_more = True
        while has_more:
            page, has_more = await self._read(
                "list refunds", _refund_page_of, self._stripe.refunds.list_async(params)
            )
            refunds += page
            if has_more:
                params["starting_after"] = refunds[-1].refund_ref
        return refunds

    async def list_since(self, created_from_at_ms: int) -> AsyncIterator[ProviderPayment]:
        """See ``PaymentGateway``. Newest first."""
        params: stripe.params.PaymentIntentListParams = {
            "created": {"gte": max(0, created_from_at_ms // 1_000)},
            "limit": _PAGE,
            "expand": ["data.latest_charge"],
        }
        has_more = True
        while has_more:
            page, has_more = await self._read(
                "list payments", self._page_of, self._stripe.payment_intents.list_async(params)
            )
            for payment in page:
                yield payment
            if has_more:
                params["starting_after"] = page[-1].provider_ref

    def read_notice(self, body: bytes, headers: Mapping[str, str], now_ms: int) -> Notice | None:
        """See ``PaymentGateway``."""
        return read_stripe_notice(
            body,
            headers,
            now_ms,
            secrets=self._config.webhook_secrets,
            is_live=self._config.is_live,
            account=self._config.account,
        )

    async def close(self) -> None:
        """See ``PaymentGateway``."""
        await self._transport.close_async()  # type: ignore[no-untyped-call]  # It has no types.

    def _payment_of(self, intent: stripe.PaymentIntent) -> ProviderPayment:
        return payment_of(intent.to_dict(), self._config.publishable_key)

    def _page_of(
        self, listed: stripe.ListObject[stripe.PaymentIntent]
    ) -> tuple[list[ProviderPayment], bool]:
        return [self._payment_of(intent) for intent in listed.data], _has_more(listed)

    async def _read(self, what: str, take: Callable[[A], T], asked: Awaitable[A]) -> T:
        try:
            return take(await asked)
        except UNANSWERED as error:
            raise fault_of(error, what, is_reading=True) from None

    async def _write(self, what: str, take: Callable[[A], T], asked: Awaitable[A]) -> T:
        try:
            return take(await asked)
        except UNANSWERED as error:
            raise fault_of(error, what, is_reading=False) from None

    async def _write_unless(
        self,
        what: str,
        asked: Awaitable[Any],
        provider_ref: str,
        is_done: Callable[[ProviderPayment], bool],
    ) -> None:
        """Ask; when refused, look whether it is as it should be already."""
        try:
            await asked
            return
        except UNANSWERED as error:
            fault = fault_of(error, what, is_reading=False)
            is_old = is_replayed(error)
        if not isinstance(fault, GatewayRefused) or fault.is_unknown_object:
            raise fault
        now = await self.fetch(provider_ref)
        if is_done(now):
            return
        if is_old and now.state not in _ENDED:
            # It was refused for how things were then.
            raise KeySpent(fault.message)
        raise fault


def _refund_of(refund: stripe.Refund) -> ProviderRefund:
    return refund_of(refund.to_dict())


def _refund_page_of(
    listed: stripe.ListObject[stripe.Refund],
) -> tuple[list[ProviderRefund], bool]:
    return [_refund_of(refund) for refund in listed.data], _has_more(listed)


def _has_more(listed: stripe.ListObject[Any]) -> bool:
    return listed.has_more and bool(listed.data)
