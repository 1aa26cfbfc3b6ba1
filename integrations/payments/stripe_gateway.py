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

from collections.abc import AsyncIterator, Mapping
from typing import Any

import stripe

from integrations.payments.payment_gateway import (
    CALL_TIMEOUT_MS,
    REQUEST_TIMEOUT_MS,
    GatewayBusy,
    GatewayRefused,
    Notice,
    PaymentRequest,
    ProviderPayment,
    ProviderRefund,
    ProviderState,
    furthest,
)
from integrations.payments.provider_config import StripeConfig
from integrations.payments.stripe_answers import REFUND_KEY, payment_of, refund_of
from integrations.payments.stripe_checkout import StripeCheckout, is_session
from integrations.payments.stripe_line import StripeLine, path_of
from integrations.payments.stripe_notices import read_stripe_notice
from reservation.ids import PaymentId
from reservation.payment import CaptureMode

_INTENTS = "payment_intents"
_REFUNDS = "refunds"
_EXPAND = ["latest_charge"]
_PAGE = 100
_PAYABLE = frozenset({ProviderState.OPEN, ProviderState.FAILED})
_CLOCKS_DIFFER_BY_MS = 300_000


class StripeGateway:
    """See the module's docstring."""

    provider = "stripe"

    def __init__(
        self,
        config: StripeConfig,
        *,
        call_timeout_ms: int = CALL_TIMEOUT_MS,
        request_timeout_ms: int = REQUEST_TIMEOUT_MS,
    ) -> None:
        self._config = config
        self._line = StripeLine(config, call_timeout_ms, request_timeout_ms)
        self._checkout = StripeCheckout(self._line)

    @property
    def modes(self) -> frozenset[CaptureMode]:
        """See ``PaymentGateway``."""
        return frozenset({self._config.capture_mode, CaptureMode.AUTOMATIC})

    async def create(self, request: PaymentRequest) -> ProviderPayment:
        """See ``PaymentGateway``."""
        self._check_mode(request)
        params: stripe.params.PaymentIntentCreateParams = {
            "amount": request.amount_minor,
            "currency": request.currency.lower(),
            "capture_method": (
                "manual" if request.capture_mode is CaptureMode.MANUAL else "automatic"
            ),
            "automatic_payment_methods": {"enabled": True},
            "metadata": {"payment_id": request.payment_id},
            "description": request.description,
            "expand": _EXPAND,
        }
        return await self._line.write(
            "make a payment",
            self._payment_of,
            self._line.ask("post", _INTENTS, params, request.key),
        )

    async def open_checkout(
        self, request: PaymentRequest, success_url: str, cancel_url: str, expires_at_ms: int
    ) -> ProviderPayment:
        """Like ``create``, with a page of Stripe's to pay on (``client_data["url"]``).

        Args:
            expires_at_ms: 30 minutes to 24 hours from now, and the same each time that this is
                asked for under the key; see ``stripe_checkout``.
        """
        self._check_mode(request)
        return await self._checkout.open(request, success_url, cancel_url, expires_at_ms)

    async def fetch(self, provider_ref: str) -> ProviderPayment:
        """See ``PaymentGateway``."""
        if is_session(provider_ref):
            return await self._checkout.fetch(provider_ref)
        return await self._line.read(
            "read a payment",
            self._payment_of,
            self._line.ask("get", path_of(_INTENTS, provider_ref), {"expand": _EXPAND}),
        )

    async def find(self, payment_id: PaymentId, created_at_ms: int) -> ProviderPayment | None:
        """See ``PaymentGateway``."""
        listed = self.list_since(created_at_ms - _CLOCKS_DIFFER_BY_MS)
        return furthest([payment async for payment in listed if payment.payment_id == payment_id])

    async def capture(
        self, payment: ProviderPayment, amount_minor: int, key: str
    ) -> ProviderPayment | None:
        """See ``PaymentGateway``."""
        async with self._line.in_time():
            return await self._capture(payment, amount_minor, key)

    async def _capture(
        self, payment: ProviderPayment, amount_minor: int, key: str
    ) -> ProviderPayment | None:
        intent_ref = await self._paid_intent_ref(payment)
        params: stripe.params.PaymentIntentCaptureParams = {
            "amount_to_capture": amount_minor,
            "expand": _EXPAND,
        }
        taken = await self._line.write_unless(
            "capture a payment",
            self._payment_of,
            self._line.ask("post", path_of(_INTENTS, intent_ref, "capture"), params, key),
            lambda: self.fetch(intent_ref),
            lambda now: now.state is ProviderState.CAPTURED and now.captured_minor >= amount_minor,
        )
        # Of a page's payment the page has to be asked.
        return taken if intent_ref == payment.provider_ref else None

    async def cancel(self, payment: ProviderPayment, key: str) -> None:
        """See ``PaymentGateway``."""
        async with self._line.in_time():
            await self._cancel(payment, key)

    async def _cancel(self, payment: ProviderPayment, key: str) -> None:
        intent_ref = payment.provider_ref
        if is_session(payment.provider_ref):
            closed = await self._checkout.expire(payment.provider_ref, f"{key}:page")
            if _is_cancelled(closed):
                return
            assert closed.charge_ref is not None, "a page that cannot be closed was paid on"
            intent_ref = closed.charge_ref
        try:
            await self._line.write_unless(
                "cancel a payment",
                lambda answer: None,
                self._line.ask(
                    "post",
                    path_of(_INTENTS, intent_ref, "cancel"),
                    {"cancellation_reason": "abandoned"},
                    key,
                ),
                lambda: self.fetch(intent_ref),
                _is_cancelled,
            )
        except GatewayRefused:
            # An intent of a page that is still open ends with the page.
            if (await self.fetch(intent_ref)).state not in _PAYABLE:
                raise
            session_ref = await self._checkout.session_of(intent_ref)
            if session_ref is None:
                raise
            if not _is_cancelled(await self._checkout.expire(session_ref, f"{key}:page")):
                raise

    async def refund(self, payment: ProviderPayment, amount_minor: int, key: str) -> ProviderRefund:
        """See ``PaymentGateway``."""
        async with self._line.in_time():
            return await self._refund(payment, amount_minor, key)

    async def _refund(
        self, payment: ProviderPayment, amount_minor: int, key: str
    ) -> ProviderRefund:
        intent_ref = await self._paid_intent_ref(payment)
        for made in await self._refunds_of(intent_ref):
            if made.key == key:
                return made
        params: stripe.params.RefundCreateParams = {
            "payment_intent": intent_ref,
            "amount": amount_minor,
            "metadata": {
                REFUND_KEY: key,
                **({"payment_id": payment.payment_id} if payment.payment_id else {}),
            },
        }
        return await self._line.write(
            "refund a payment", refund_of, self._line.ask("post", _REFUNDS, params, key)
        )

    async def refunds_of(self, payment: ProviderPayment) -> list[ProviderRefund]:
        """See ``PaymentGateway``."""
        intent_ref = await self._intent_ref(payment)
        return [] if intent_ref is None else await self._refunds_of(intent_ref)

    async def list_since(self, created_from_at_ms: int) -> AsyncIterator[ProviderPayment]:
        """See ``PaymentGateway``. Newest first."""
        params: stripe.params.PaymentIntentListParams = {
            "created": {"gte": max(0, created_from_at_ms // 1_000)},
            "limit": _PAGE,
            "expand": ["data.latest_charge"],
        }
        has_more = True
        while has_more:
            page, has_more = await self._line.read(
                "list payments", self._page_of, self._line.ask("get", _INTENTS, params)
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
        await self._line.close()

    def _check_mode(self, request: PaymentRequest) -> None:
        if request.capture_mode not in self.modes:
            raise GatewayRefused(
                f"Stripe is not set up for {request.capture_mode} capture", code="capture_mode"
            )

    async def _intent_ref(self, payment: ProviderPayment) -> str | None:
        if not is_session(payment.provider_ref):
            return payment.provider_ref
        return payment.charge_ref or (await self.fetch(payment.provider_ref)).charge_ref

    async def _paid_intent_ref(self, payment: ProviderPayment) -> str:
        intent_ref = await self._intent_ref(payment)
        if intent_ref is None:
            raise GatewayRefused("nobody has paid on the page", code="not_authorised")
        return intent_ref

    async def _refunds_of(self, intent_ref: str) -> list[ProviderRefund]:
        refunds: list[ProviderRefund] = []
        params: stripe.params.RefundListParams = {"payment_intent": intent_ref, "limit": _PAGE}
        has_more = True
        while has_more:
            page, has_more = await self._line.read(
                "list refunds", _refund_page_of, self._line.ask("get", _REFUNDS, params)
            )
            refunds += page
            if has_more:
                params["starting_after"] = refunds[-1].refund_ref
        return refunds

    def _payment_of(self, intent: Mapping[str, Any]) -> ProviderPayment:
        return payment_of(intent, self._config.publishable_key)

    def _page_of(self, listed: Mapping[str, Any]) -> tuple[list[ProviderPayment], bool]:
        return [self._payment_of(intent) for intent in listed["data"]], _has_more(listed)


def _is_cancelled(now: ProviderPayment) -> bool:
    if now.state is ProviderState.PROCESSING:
        raise GatewayBusy("the bank has not answered yet")
    return now.state is ProviderState.CANCELLED


def _refund_page_of(listed: Mapping[str, Any]) -> tuple[list[ProviderRefund], bool]:
    return [refund_of(refund) for refund in listed["data"]], _has_more(listed)


def _has_more(listed: Mapping[str, Any]) -> bool:
    return bool(listed["has_more"] and listed["data"])
