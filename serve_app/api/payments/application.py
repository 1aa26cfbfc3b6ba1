"""The payments application: what became of a customer's payments, and providers' webhooks.

A payment of somebody else is answered as if it were not there, before its provider is asked
anything.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Annotated

from fastapi import Query, Request
from starlette.responses import Response

from actors.checkouts import Checkouts
from persistence.organiser_rows import Place
from persistence.payment_rows import StoredPayment
from reservation.ids import CustomerId, PaymentId, is_payment_id
from serve_app.api.api_document import describe
from serve_app.api.cursors import read_cursor, write_cursor
from serve_app.api.edge import Opened, json_response, make_api, probe_all
from serve_app.api.limits import RequestLimits, Rule
from serve_app.api.payments import document
from serve_app.api.payments.own_payments import OwnPayments
from serve_app.api.payments.recent_looks import RecentLooks
from serve_app.api.payments.schemas import PaymentsQuery
from serve_app.api.payments.views import BOOKED, PAYABLE, View, view_of_payment
from serve_app.api.payments.webhooks import WebhookRoutes, is_webhook
from serve_app.api.principals import Gate, customer_of
from serve_app.api.problems import Problem, bad_field
from serve_app.api.short_way import Api
from serve_app.api.strict_json import read_nothing


@dataclass(frozen=True, slots=True)
class PaymentsDesk:
    """What the routes need. ``probes`` reach every database, each raising a fault if it cannot."""

    checkouts: Checkouts
    looks: RecentLooks
    payments: OwnPayments
    probes: Sequence[Callable[[], Awaitable[object]]] = ()

    async def probe(self) -> None:
        """See ``edge.Desk``."""
        await probe_all([probe() for probe in self.probes])


def build_payments_api(
    open_desk: Callable[[], AbstractAsyncContextManager[PaymentsDesk]],
    *,
    gate: Gate,
    body_bytes_max: int,
    limits: RequestLimits | None = None,
    cors_origins: Sequence[str] = (),
) -> Api:
    """The payments application as plain ASGI, without Ray.

    See ``edge.make_api`` for ``open_desk`` and what follows it.
    """
    opened = Opened()
    app = make_api(
        opened,
        open_desk,
        title="Housefull payments",
        summary="See what became of payments; providers' webhooks.",
        description=document.DESCRIPTION,
        body_bytes_max=body_bytes_max,
        leaves_unread=is_webhook,
        limits=limits,
        spares=is_webhook,
        cors_origins=cors_origins,
    )
    routes = _Routes(opened, limits or RequestLimits.off())
    webhooks = WebhookRoutes(lambda: routes.desk.checkouts)
    for operation, handler in (
        (document.LIST_PAYMENTS, routes.list_payments),
        (document.FIND_PAYMENT, routes.find_payment),
        (document.CANCEL_PAYMENT, routes.cancel_payment),
        (document.STRIPE_WEBHOOK, webhooks.stripe_webhook),
        (document.RAZORPAY_WEBHOOK, webhooks.razorpay_webhook),
    ):
        operation.add_to(app, handler, gate)
    describe(app, document.MODELS)
    return app


class _Routes:
    """The handlers of what customers ask."""

    def __init__(self, opened: Opened, limits: RequestLimits) -> None:
        self._opened = opened
        self._limits = limits

    @property
    def desk(self) -> PaymentsDesk:
        """The desk.

        Raises:
            Problem: ``not_done``: the application is starting or stopping.
        """
        desk: PaymentsDesk | None = self._opened.desk
        if desk is None:
            raise Problem("not_done", "The application is starting or stopping.")
        return desk

    async def list_payments(
        self, request: Request, query: Annotated[PaymentsQuery, Query()]
    ) -> Response:
        customer_id = customer_of(request)
        await self._limits.admit(request.scope, Rule.READ, customer_id)
        after = _place_of(query.cursor)
        page = await self.desk.payments.page(customer_id, limit=query.limit, after=after)
        view: View = {"payments": [view_of_payment(stored) for stored in page.items]}
        if page.next is not None:
            view["next"] = write_cursor(page.next.at_ms, page.next.id)
        return json_response(view)

    async def find_payment(self, request: Request) -> Response:
        customer_id = customer_of(request)
        await self._limits.admit(request.scope, Rule.READ, customer_id)
        stored = await self._own(request, customer_id)
        if stored.payment.state not in PAYABLE:
            return json_response(view_of_payment(stored))
        opened = await self.desk.looks.look(stored)
        return json_response(view_of_payment(opened.stored, opened.client_data))

    async def cancel_payment(self, request: Request) -> Response:
        customer_id = customer_of(request)
        await self._limits.admit(request.scope, Rule.COMMAND, customer_id)
        payment_id = _payment_id(request)
        read_nothing(request.scope)
        stored = await self.desk.checkouts.give_up(payment_id, customer_id)
        if stored is None:
            raise _not_found()
        if stored.payment.state in BOOKED:
            raise Problem("payment_is_booked", "Its booking can be cancelled instead.")
        return json_response(view_of_payment(stored))

    async def _own(self, request: Request, customer_id: CustomerId) -> StoredPayment:
        stored = await self.desk.payments.find_of(_payment_id(request), customer_id)
        if stored is None:
            raise _not_found()
        return stored


def _payment_id(request: Request) -> PaymentId:
    # An id of the wrong form is an id of nothing.
    text = request.path_params["payment_id"]
    if not is_payment_id(text):
        raise _not_found()
    return PaymentId(text)


def _not_found() -> Problem:
    return Problem("payment_not_found", "There is no payment with this id.")


def _place_of(cursor: str | None) -> Place | None:
    if cursor is None:
        return None
    at_ms, payment_id = read_cursor(cursor)
    if not is_payment_id(payment_id):
        raise bad_field("cursor", "is not a cursor of this list")
    return Place(at_ms, payment_id)
