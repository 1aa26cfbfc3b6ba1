"""What a payment provider says, as far as a decision needs it. Gateways' values fit."""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol


class ProviderState(StrEnum):
    """What a provider says of a payment, in one language for all of them."""

    OPEN = "open"  #: It waits for the customer: a method, a confirmation, a challenge.
    PROCESSING = "processing"  #: The customer did his part; the bank has not answered.
    FAILED = "failed"  #: The last try failed; the customer may try again.
    AUTHORISED = "authorised"  #: Reserved; may be captured or cancelled.
    CAPTURED = "captured"  #: Taken, perhaps refunded since.
    CANCELLED = "cancelled"  #: Nothing was taken and nothing can be any more.


class ProviderRefundState(StrEnum):
    """What a provider says of a refund."""

    PENDING = "pending"  #: On its way.
    SUCCEEDED = "succeeded"  #: The money went back.
    FAILED = "failed"  #: It did not, and will not by this refund.


class SeenPayment(Protocol):
    """A payment as its provider sees it. ``state`` is the text of a ``ProviderState``."""

    @property
    def provider_ref(self) -> str:
        """The provider's id of it."""
        ...

    @property
    def state(self) -> str:
        """The text of a ``ProviderState``."""
        ...

    @property
    def amount_minor(self) -> int:
        """What the provider was asked to take."""
        ...

    @property
    def currency(self) -> str:
        """In which currency, ISO 4217."""
        ...

    @property
    def captured_minor(self) -> int:
        """What it has taken so far, whatever went back since."""
        ...


class SeenRefund(Protocol):
    """A refund as its provider sees it."""

    @property
    def refund_ref(self) -> str:
        """The provider's id of it."""
        ...

    @property
    def key(self) -> str | None:
        """Our key under which it was asked for; None when it was not us."""
        ...

    @property
    def state(self) -> str:
        """The text of a ``ProviderRefundState``."""
        ...

    @property
    def amount_minor(self) -> int:
        """What goes back."""
        ...
