"""How Stripe is asked: one client with its connections, and what its exceptions become.

``read``, ``write`` and ``write_unless`` take the coroutine of a call that has not begun: ``ask``
makes one, in the client's own way of asking for a path. Its services make an object of every level
of an answer, which took half of the time of a call; here an answer is the document that came.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar
from urllib.parse import quote

import aiohttp
import stripe

from integrations.payments.payment_gateway import (
    GatewayRefused,
    KeySpent,
    ProviderPayment,
    ProviderState,
)
from integrations.payments.provider_config import StripeConfig
from integrations.payments.stripe_answers import UNANSWERED, fault_of, is_replayed
from reservation.faults import OutcomeUnknown

_CONNECT_TIMEOUT_S = 3.0
_ENDED = frozenset({ProviderState.CAPTURED, ProviderState.CANCELLED})

A = TypeVar("A")
T = TypeVar("T")

# At this level it writes down bodies, in which client secrets are.
logging.getLogger("stripe").setLevel(logging.WARNING)

# How long earlier calls took and what machine this is are nobody's affair, and not free to tell.
stripe.enable_telemetry = False


class StripeLine:
    """See the module's docstring."""

    def __init__(self, config: StripeConfig, call_timeout_ms: int, request_timeout_ms: int) -> None:
        self._call_timeout_s = call_timeout_ms / 1_000
        timeout_s = request_timeout_ms / 1_000
        self._transport = stripe.AIOHTTPClient(
            timeout=aiohttp.ClientTimeout(
                total=timeout_s, sock_connect=min(_CONNECT_TIMEOUT_S, timeout_s)
            )
        )
        self._client = stripe.StripeClient(
            config.secret_key,
            http_client=self._transport,
            max_network_retries=0,
            base_addresses={"api": config.api_url} if config.api_url else None,
        )

    @asynccontextmanager
    async def in_time(self) -> AsyncIterator[None]:
        """Let an effect that takes several requests end with the call's time."""
        try:
            async with asyncio.timeout(self._call_timeout_s):
                yield
        except TimeoutError:
            raise OutcomeUnknown("the time for asking Stripe was over") from None

    async def ask(
        self, method: str, path: str, params: Mapping[str, object], key: str | None = None
    ) -> Mapping[str, Any]:
        """The document that Stripe answers with.

        Args:
            method: ``get`` or ``post``.
            path: after ``/v1/``; see ``path_of``.
            key: the idempotency key of an effect.
        """
        options = {} if key is None else {"idempotency_key": key}
        answer = await self._client.raw_request_async(method, f"/v1/{path}", **params, **options)
        document = answer.data
        if not isinstance(document, Mapping):
            raise TypeError("the answer is not an object")
        return document

    async def read(self, what: str, take: Callable[[A], T], asked: Awaitable[A]) -> T:
        """What ``take`` makes of the answer to something that has no effect."""
        try:
            return take(await asked)
        except UNANSWERED as error:
            raise fault_of(error, what, is_reading=True) from None

    async def write(self, what: str, take: Callable[[A], T], asked: Awaitable[A]) -> T:
        """What ``take`` makes of the answer to something that has an effect."""
        try:
            return take(await asked)
        except UNANSWERED as error:
            raise fault_of(error, what, is_reading=False) from None

    async def write_unless(
        self,
        what: str,
        take: Callable[[A], T],
        asked: Awaitable[A],
        look: Callable[[], Awaitable[ProviderPayment]],
        is_done: Callable[[ProviderPayment], bool],
    ) -> T | ProviderPayment:
        """Ask; when refused, look whether it is as it should be already."""
        try:
            return take(await asked)
        except UNANSWERED as error:
            fault = fault_of(error, what, is_reading=False)
            is_old = is_replayed(error)
        if not isinstance(fault, GatewayRefused) or fault.is_unknown_object:
            raise fault
        now = await look()
        if is_done(now):
            return now
        if is_old and now.state not in _ENDED:
            # It was refused for how things were then.
            raise KeySpent(fault.message)
        raise fault

    async def close(self) -> None:
        """Let go of the connections."""
        await self._transport.close_async()  # type: ignore[no-untyped-call]  # It has no types.


def path_of(collection: str, reference: str, verb: str = "") -> str:
    """The path of one object, or of what is done with it.

    Example:
        >>> path_of("payment_intents", "pi_1", "capture")
        'payment_intents/pi_1/capture'
        >>> path_of("payment_intents", "../refunds")
        'payment_intents/..%2Frefunds'
    """
    path = f"{collection}/{quote(reference, safe='')}"
    return f"{path}/{verb}" if verb else path
