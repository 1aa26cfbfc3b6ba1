"""PORT ``PaymentGateway``: one payment provider, as far as a checkout needs it.

What every implementation promises:

* Each effect is asked for under an idempotency key that the caller has stored before. Asking again
  with the same key has no second effect, also after a crash. Providers forget keys after a day, so
  ``create`` is not asked for again after ``KEYS_KEPT_MS``: ``find`` says whether it happened.
  Capturing, cancelling and refunding look by themselves and may be repeated at any time.
* Amounts are integers in minor units of an ISO 4217 currency, going out and coming in.
* What is raised says whether something may have happened: ``GatewayRefused`` and other ``NotDone``
  faults mean that it did not, ``OutcomeUnknown`` that it may have. A time-out is the latter, except
  when reading: what cannot be read now is ``GatewayBusy``.
* No call takes longer than ``CALL_TIMEOUT_MS``, and none holds up the event loop. Listing (``find``
  and ``list_since`` too) takes that long for each hundred payments at most.
* Neither a secret nor anything about a card is part of a fault, a log line or a repr.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from reservation.faults import NotDone, OutcomeUnknown
from reservation.ids import PaymentId
from reservation.payment import CaptureMode
from reservation.provider_view import ProviderState as ProviderState

CALL_TIMEOUT_MS = 15_000

REQUEST_TIMEOUT_MS = 7_000
"""For one request to a provider; a call makes one or two."""

KEYS_KEPT_MS = 23 * 3_600_000
"""How long asking again under a key is sure to have no second effect."""


@dataclass(frozen=True, slots=True)
class PaymentRequest:
    """What a provider is asked to take.

    Shapes:
        key: the idempotency key of making it.
        description: for the customer's statement and the provider's dashboard.
    """

    payment_id: PaymentId
    amount_minor: int
    currency: str
    capture_mode: CaptureMode
    key: str
    description: str


@dataclass(frozen=True, slots=True)
class ProviderPayment:
    """A payment as its provider sees it.

    Shapes:
        provider_ref: the provider's id of what ``create`` made.
        payment_id: ours, from what we attached to it; None for one that is not ours.
        charge_ref: what captures and refunds name, where that is another object; else None.
        client_data: what a browser needs to pay it; secret from everybody but its customer.
    """

    provider_ref: str
    payment_id: PaymentId | None
    state: ProviderState
    amount_minor: int
    currency: str
    captured_minor: int
    refunded_minor: int
    created_at_ms: int
    charge_ref: str | None = None
    client_data: Mapping[str, str] = field(default_factory=dict, repr=False)


_HOW_FAR = {
    ProviderState.CANCELLED: 0,
    ProviderState.OPEN: 1,
    ProviderState.FAILED: 1,
    ProviderState.PROCESSING: 2,
    ProviderState.AUTHORISED: 3,
    ProviderState.CAPTURED: 4,
}


def furthest(payments: Iterable[ProviderPayment]) -> ProviderPayment | None:
    """Of several that carry one id of ours, the one where most has happened; then the oldest.

    There is more than one when ``create`` was asked for again after its key had been forgotten.
    """
    return min(
        payments,
        key=lambda payment: (-_HOW_FAR[payment.state], payment.created_at_ms, payment.provider_ref),
        default=None,
    )


class RefundState(StrEnum):
    """What a provider says of a refund."""

    PENDING = "pending"  #: On its way.
    SUCCEEDED = "succeeded"  #: The money went back.
    FAILED = "failed"  #: It did not, and will not by this refund.


@dataclass(frozen=True, slots=True)
class ProviderRefund:
    """A refund as its provider sees it. ``key`` is ours, None when it was not made by us."""

    refund_ref: str
    key: str | None
    state: RefundState
    amount_minor: int


@dataclass(frozen=True, slots=True)
class Notice:
    """A verified webhook: something happened to a payment. It is a reason to look, not a fact.

    Shapes:
        event_key: equal for every delivery of one event, and cannot be chosen by a third party.
        kind: the provider's own name of what happened.
        provider_ref, payment_id: as far as the body tells; at least one for a payment's event.
        tells: how far the payment is by an event of this kind, where it cannot be about anything
            else: one who knows that it is that far need not look. None for all other kinds.
    """

    provider: str
    event_key: str
    kind: str
    provider_ref: str | None
    payment_id: PaymentId | None
    created_at_ms: int | None
    is_live: bool
    tells: ProviderState | None = None


class GatewayRefused(NotDone):
    """The provider said no, and will say no again: wrong state, wrong parameter, too much.

    ``code`` is the provider's own, for the log; ``is_unknown_object`` that it knows no such thing.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str = "",
        is_unknown_object: bool = False,
        retry_after_ms: int = 1_000,
    ) -> None:
        super().__init__(message, retry_after_ms=retry_after_ms)
        self.code = code
        self.is_unknown_object = is_unknown_object

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild_refused, (type(self), self.message, self.code, self.is_unknown_object))


def _rebuild_refused(
    kind: type[GatewayRefused], message: str, code: str, is_unknown_object: bool
) -> GatewayRefused:
    return kind(message, code=code, is_unknown_object=is_unknown_object)


class GatewayBusy(NotDone):
    """The provider did nothing now: too many requests, or no connection. Try again later."""


class GatewayKeyRefused(GatewayBusy):
    """The provider does not accept our API key. It says nothing about the payment.

    Not a ``GatewayRefused``: with the right key the same call would work, so nothing may be
    concluded, and the operator must hear of it.
    """


class KeySpent(OutcomeUnknown):
    """The provider answers this idempotency key with an old failure, and will for a day.

    What happened under it must be looked up (``find``, ``fetch``, ``refunds_of``). Only when that
    shows nothing may the same thing be asked for under a new key.
    """


class NoticeRefused(ValueError):
    """A webhook that cannot be trusted: forged, altered, too old, or of another account."""


class PaymentGateway(Protocol):
    """See the module's docstring."""

    @property
    def provider(self) -> str:
        """Its name: ``stripe``, ``razorpay``."""
        ...

    @property
    def modes(self) -> frozenset[CaptureMode]:
        """How it can take money, as it is configured."""
        ...

    async def create(self, request: PaymentRequest) -> ProviderPayment:
        """Make a payment that waits for its customer. Our id is attached to it.

        Raises:
            GatewayRefused, GatewayBusy, OutcomeUnknown: see the module's docstring.
        """
        ...

    async def fetch(self, provider_ref: str) -> ProviderPayment:
        """A payment as it is now. ``client_data`` is there while the customer can still pay."""
        ...

    async def find(self, payment_id: PaymentId, created_at_ms: int) -> ProviderPayment | None:
        """Our payment, when ``create`` was never answered; None when the provider has none."""
        ...

    async def capture(
        self, payment: ProviderPayment, amount_minor: int, key: str
    ) -> ProviderPayment | None:
        """Take reserved money. Harmless when it was taken already.

        Returns:
            The payment as the provider then says it is; None when it says too little of it.
        """
        ...

    async def cancel(self, payment: ProviderPayment, key: str) -> None:
        """Make sure that nothing can be taken any more; harmless to repeat.

        Razorpay has no such thing: its answer then only says that nothing has been taken so far,
        and a late success must be looked for and paid back.

        Raises:
            GatewayRefused: it was captured: only a refund helps.
            GatewayBusy: the bank has not answered yet; nothing is known of the money.
        """
        ...

    async def refund(self, payment: ProviderPayment, amount_minor: int, key: str) -> ProviderRefund:
        """Give money back. Under a key that a refund exists for, that refund is the answer."""
        ...

    async def refunds_of(self, payment: ProviderPayment) -> list[ProviderRefund]:
        """All refunds of a payment, for finding out what became of one."""
        ...

    def list_since(self, created_from_at_ms: int) -> AsyncIterator[ProviderPayment]:
        """Every payment of the account since then, oldest or newest first: for reconciliation."""
        ...

    def read_notice(self, body: bytes, headers: Mapping[str, str], now_ms: int) -> Notice | None:
        """What a webhook says, if it is the provider's; None for kinds that mean nothing here.

        Raises:
            NoticeRefused: it is not to be believed.
        """
        ...

    async def close(self) -> None:
        """Let go of connections and threads."""
        ...
