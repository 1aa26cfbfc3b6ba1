"""Refunds that the people of a house ask for, each once however often its request is repeated."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import orjson

from persistence.payment_rows import changed_refunds_json, saved_payment_json
from persistence.queries import load_queries
from persistence.sessions import Pool, reading, writing
from reservation.checkout import Checkout
from reservation.ids import PaymentId, RefundId

_QUERIES = load_queries("payments.sql")


class RefundRequest(NamedTuple):
    """Who wanted a refund, and why.

    Shapes:
        request_key: chosen by whoever asked; a repetition has the same.
        digest: of what was asked for, so that another request under the same key is noticed.
    """

    request_key: str
    digest: str
    refund_id: RefundId
    note: str
    requested_by: str


class RefundRequests:
    """The requests of one database.

    Raises:
        ShowUnavailable: from every method, when the database cannot be reached; nothing changed.
        OutcomeUnknown: from ``grant``, when it went away in the middle; repeat the request.

    Args:
        pool: stays the caller's, with the rights of ``housefull_application``.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def list(self, payment_id: PaymentId) -> list[RefundRequest]:
        """What was asked to be paid back of a payment, in no order."""
        async with reading(self._pool) as connection:
            rows = await connection.fetch(_QUERIES["list_refund_requests"], payment_id)
        return [RefundRequest(*row) for row in rows]

    async def grant(
        self, before: Checkout, after: Checkout, request: RefundRequest
    ) -> Checkout | None:
        """Save ``after`` with the request for its new refund, if the payment is as ``before``.

        ``before`` must have been read before it was looked whether the request is there.

        Returns:
            The checkout as it is now, or None when somebody moved it meanwhile: read it again.
        """
        async with writing(self._pool) as connection:
            version = await connection.fetchval(
                _QUERIES["grant_refund"],
                before.payment.payment_id,
                before.payment.version,
                before.payment.state,
                saved_payment_json(after.payment, None, None),
                changed_refunds_json(before, after),
                orjson.dumps(request._asdict()).decode(),
            )
        if version is None:
            return None
        return replace(after, payment=replace(after.payment, version=version))
