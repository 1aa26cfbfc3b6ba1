"""On which terms a booking is cancelled: what whoever cancels it says about the money."""

from __future__ import annotations

from enum import StrEnum


class RefundTerms(StrEnum):
    """How much of what was paid goes back; ``refunds.RefundPolicy`` counts it."""

    POLICY = "policy"  #: What the show's refund policy gives at that moment.
    FULL = "full"  #: Everything: the house does not deliver.
    NONE = "none"  #: Nothing, or nothing had been paid.
