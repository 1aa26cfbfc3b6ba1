"""Razorpay: a payment is an order whose receipt and notes carry our id.

What is known of Razorpay and decided because of it:

* Orders have no idempotency key. Their receipt is our id and can be asked for, so ``create`` looks
  first. Two callers at once may make two orders; nobody is told of the second, so nobody pays it.
* An order cannot be cancelled. What is authorised and not captured goes back to the customer by
  itself; in automatic mode a payment that succeeds late is captured. ``cancel`` therefore only
  says whether money has been taken so far, and who has cancelled must expect a late success.
* Capturing takes what was authorised, whole. Asking twice is refused, which is then looked at.
* A refund is found by its notes, and made under ``X-Refund-Idempotency``, whose alphabet is smaller
  than that of our keys. It comes from one of an order's payments: what was paid twice is given back
  in two refunds.

The client waits for its sockets, so it has threads of its own, a few. A call that finds them all
busy until its time is over has done nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import razorpay  # type: ignore[import-untyped]  # It ships no types.
import requests
from requests.adapters import HTTPAdapter

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
from integrations.payments.provider_config import RazorpayConfig
from integrations.payments.razorpay_answers import (
    REFUND_KEY,
    Entity,
    captured_of,
    is_captured,
    items_of,
    payment_of,
    payment_to_refund,
    refund_of,
)
from integrations.payments.razorpay_line import RazorpayLine
from integrations.payments.razorpay_notices import read_razorpay_notice
from reservation.faults import OutcomeUnknown
from reservation.ids import PaymentId
from reservation.payment import CaptureMode

_THREADS = 4
_PAGE = 100
_END_GRACE_S = 0.5

T = TypeVar("T")


class RazorpayGateway:
    """See the module's docstring."""

    provider = "razorpay"

    def __init__(
        self,
        config: RazorpayConfig,
        *,
        call_timeout_ms: int = CALL_TIMEOUT_MS,
        request_timeout_ms: int = REQUEST_TIMEOUT_MS,
    ) -> None:
        self._config = config
        self._call_timeout_s = call_timeout_ms / 1_000 - _END_GRACE_S
        self._request_timeout_s = request_timeout_ms / 1_000
        self._session = requests.Session()
        self._session.mount("https://", HTTPAdapter(pool_maxsize=_THREADS))
        self._session.mount("http://", HTTPAdapter(pool_maxsize=_THREADS))
        self._threads = ThreadPoolExecutor(_THREADS, "razorpay")

    @property
    def modes(self) -> frozenset[CaptureMode]:
        """See ``PaymentGateway``."""
        return frozenset({self._config.capture_mode, CaptureMode.AUTOMATIC})

    async def create(self, request: PaymentRequest) -> ProviderPayment:
        """See ``PaymentGateway``."""
        if request.capture_mode not in self.modes:
            raise GatewayRefused(
                f"Razorpay is not set up for {request.capture_mode} capture", code="capture_mode"
            )

        def ask(api: Any) -> ProviderPayment:
            made = self._found(api, request.payment_id)
            if made is not None:
                return made
            order = api.order.create(
                {
                    "amount": request.amount_minor,
                    "currency": request.currency.upper(),
                    "receipt": request.payment_id,
                    "notes": {
                        "payment_id": request.payment_id,
                        "description": request.description[:_MAX_NOTE],
                    },
                    "payment_capture": request.capture_mode is CaptureMode.AUTOMATIC,
                }
            )
            return payment_of(order, [], self._config.key_id)

        return await self._call(ask)

    async def fetch(self, provider_ref: str) -> ProviderPayment:
        """See ``PaymentGateway``."""
        return await self._call(lambda api: self._fetched(api, provider_ref))

    async def find(self, payment_id: PaymentId, created_at_ms: int) -> ProviderPayment | None:
        """See ``PaymentGateway``. It is asked for by its receipt, whenever it was made."""
        return await self._call(lambda api: self._found(api, payment_id))

    async def capture(
        self, payment: ProviderPayment, amount_minor: int, key: str
    ) -> ProviderPayment | None:
        """See ``PaymentGateway``. The answer is of one payment, and an order may have several."""

        def ask(api: Any) -> None:
            charge_ref = payment.charge_ref
            if charge_ref is None:
                charge_ref = self._fetched(api, payment.provider_ref).charge_ref
            if charge_ref is None:
                raise GatewayRefused("nobody has paid the order yet", code="not_authorised")
            try:
                # The client writes into what it is given, and would into a default shared by all.
                api.payment.capture(charge_ref, amount_minor, {"currency": payment.currency})
            except GatewayRefused as refused:
                now = api.payment.fetch(charge_ref)
                if refused.is_unknown_object or not is_captured(now):
                    raise
                if int(now["amount"]) < amount_minor:
                    raise

        await self._call(ask)
        return None

    async def cancel(self, payment: ProviderPayment, key: str) -> None:
        """See ``PaymentGateway``. Nothing is told: there is nothing that Razorpay could do."""
        now = await self.fetch(payment.provider_ref)
        if now.state is ProviderState.CAPTURED:
            raise GatewayRefused("the order has been paid", code="captured")

    async def refund(self, payment: ProviderPayment, amount_minor: int, key: str) -> ProviderRefund:
        """See ``PaymentGateway``.

        Raises:
            GatewayRefused: also when no single payment of the order has that much left.
        """

        def ask(api: Any) -> ProviderRefund:
            payments = items_of(api.order.payments(payment.provider_ref))
            for made in _refunds_of(api, payments):
                if made.key == key:
                    return made
            charge_ref = payment_to_refund(payments, amount_minor)
            if charge_ref is None:
                raise GatewayRefused("that much is not left to refund", code="amount")
            notes = {REFUND_KEY: key}
            if payment.payment_id is not None:
                notes["payment_id"] = payment.payment_id
            refund = api.payment.refund(
                charge_ref,
                {"amount": amount_minor, "speed": "normal", "notes": notes},
                headers={"X-Refund-Idempotency": _refund_header(key)},
            )
            return refund_of(refund)

        return await self._call(ask)

    async def refunds_of(self, payment: ProviderPayment) -> list[ProviderRefund]:
        """See ``PaymentGateway``."""
        return await self._call(
            lambda api: _refunds_of(api, items_of(api.order.payments(payment.provider_ref)))
        )

    async def list_since(self, created_from_at_ms: int) -> AsyncIterator[ProviderPayment]:
        """See ``PaymentGateway``. Newest first."""
        seen: set[str] = set()
        skip = 0
        while True:
            page = await self._call(_page_asker(created_from_at_ms // 1_000, skip))
            for order, payments in page:
                # What is made meanwhile pushes the rest down, so some come twice.
                if order["id"] not in seen:
                    seen.add(order["id"])
                    yield payment_of(order, payments, self._config.key_id)
            skip += len(page)
            if len(page) < _PAGE:
                return

    def read_notice(self, body: bytes, headers: Mapping[str, str], now_ms: int) -> Notice | None:
        """See ``PaymentGateway``. Its signature has no time, so neither is ``now_ms`` used."""
        return read_razorpay_notice(
            body,
            headers,
            secrets=self._config.webhook_secrets,
            is_live=self._config.is_live,
            account=self._config.account,
        )

    async def close(self) -> None:
        """See ``PaymentGateway``."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._session.close()

    async def _call(self, ask: Callable[[Any], T]) -> T:
        """Let a thread ask; stop waiting when the time is over."""
        deadline_s = time.monotonic() + self._call_timeout_s
        line = RazorpayLine(self._session, deadline_s, self._request_timeout_s)
        api = razorpay.Client(
            session=line,
            auth=(self._config.key_id, self._config.key_secret),
            **({"base_url": self._config.api_url} if self._config.api_url else {}),
        )
        under_way = self._threads.submit(ask, api)
        waiting = asyncio.wrap_future(under_way)
        # Who gives up never asks how it ended.
        waiting.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        try:
            await asyncio.wait({waiting}, timeout=self._call_timeout_s + _END_GRACE_S)
        finally:
            is_nothing_done = line.give_up()
        why = "there was no time left"
        if waiting.done():
            try:
                return waiting.result()
            except (AttributeError, LookupError, TypeError, ValueError) as error:
                why = f"an answer has another shape than Razorpay's ({type(error).__name__})"
        under_way.cancel()
        if is_nothing_done:
            raise GatewayBusy(f"Razorpay did nothing: {why}")
        raise OutcomeUnknown(f"Razorpay may have done it or not: {why}")

    def _fetched(self, api: Any, provider_ref: str) -> ProviderPayment:
        order = api.order.fetch(provider_ref)
        payments = items_of(api.order.payments(provider_ref))
        return payment_of(order, payments, self._config.key_id)

    def _found(self, api: Any, payment_id: PaymentId) -> ProviderPayment | None:
        orders = _with_payments(api, {"receipt": payment_id, "count": _PAGE})
        payments = [payment_of(order, tries, self._config.key_id) for order, tries in orders]
        return furthest([payment for payment in payments if payment.payment_id == payment_id])


_MAX_NOTE = 256


def _page_asker(from_s: int, skip: int) -> Callable[[Any], list[tuple[Entity, list[Entity]]]]:
    return lambda api: _with_payments(api, {"from": max(0, from_s), "count": _PAGE, "skip": skip})


def _with_payments(api: Any, asked: dict[str, Any]) -> list[tuple[Entity, list[Entity]]]:
    orders = items_of(api.order.all({**asked, "expand[]": "payments"}))
    return [(order, items_of(order.get("payments") or _tries(api, order))) for order in orders]


def _tries(api: Any, order: Entity) -> object:
    return api.order.payments(str(order["id"])) if order.get("attempts") else None


def _refunds_of(api: Any, payments: list[Entity]) -> list[ProviderRefund]:
    refunds: list[ProviderRefund] = []
    for one in captured_of(payments):
        found = api.payment.fetch_multiple_refund(str(one["id"]), {"count": _PAGE})
        refunds += [refund_of(refund) for refund in items_of(found)]
    return refunds


def _refund_header(key: str) -> str:
    # Letters and digits only, at least ten, and other keys must not become the same.
    return hashlib.sha256(key.encode()).hexdigest()
