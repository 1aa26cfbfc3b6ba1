"""The terms of a show: fees and taxes on top of its fares, and what goes back to who cancels.

Both have one version, because they are one row. A payment keeps the terms that it was begun with;
what a cancellation gives back goes by the policy of that moment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from persistence.show_terms import ShowTerms
from reservation.ids import ShowId
from reservation.price import PriceTerms
from reservation.refunds import RefundPolicy
from serve_app.api.api_document import Handler, Operation, body, problems
from serve_app.api.edge import json_response
from serve_app.api.organiser import terms_bodies as bodies
from serve_app.api.organiser.acting import ANY_QUERY, BOX_OFFICE, ORGANISERS, Acting, body_of
from serve_app.api.organiser.audit_trail import Action
from serve_app.api.organiser.counter import Counter
from serve_app.api.organiser.outcomes import CHANGE, READING, accepted, missing
from serve_app.api.organiser.show_document import FOR, SHOW
from serve_app.api.organiser.shows import show_id_of_path

FIND_PRICE_TERMS = Operation(
    "GET",
    "/shows/{show_id}/price-terms",
    tag="terms",
    roles=BOX_OFFICE,
    summary="What a show charges besides its fares",
    responses={
        200: {"description": "The terms.", "model": bodies.PriceTermsView},
        **problems(*READING, "show_not_found"),
    },
    extra={"parameters": [SHOW, *FOR]},
)
PUT_PRICE_TERMS = Operation(
    "PUT",
    "/shows/{show_id}/price-terms",
    tag="terms",
    roles=ORGANISERS,
    summary="Say what a show charges besides its fares",
    description="The next checkout goes by it; payments that were begun keep their price.",
    responses={
        200: {"description": "The terms as they are now.", "model": bodies.PriceTermsView},
        **problems(*CHANGE, "show_not_found"),
    },
    extra={"parameters": [SHOW, *FOR], "requestBody": body(bodies.PriceTermsBody)},
)
FIND_REFUND_POLICY = Operation(
    "GET",
    "/shows/{show_id}/refund-policy",
    tag="terms",
    roles=BOX_OFFICE,
    summary="What customers get back who cancel by themselves",
    responses={
        200: {"description": "The policy.", "model": bodies.RefundPolicyView},
        **problems(*READING, "show_not_found"),
    },
    extra={"parameters": [SHOW, *FOR]},
)
PUT_REFUND_POLICY = Operation(
    "PUT",
    "/shows/{show_id}/refund-policy",
    tag="terms",
    roles=ORGANISERS,
    summary="Say what customers get back who cancel by themselves",
    description="It holds for bookings that were made before, too.",
    responses={
        200: {"description": "The policy as it is now.", "model": bodies.RefundPolicyView},
        **problems(*CHANGE, "show_not_found"),
    },
    extra={"parameters": [SHOW, *FOR], "requestBody": body(bodies.RefundPolicyBody)},
)


class TermsRoutes:
    """The handlers."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter

    def operations(self) -> Iterable[tuple[Operation, Handler]]:
        """Which handler answers where."""
        yield FIND_PRICE_TERMS, self.find_price_terms
        yield PUT_PRICE_TERMS, self.put_price_terms
        yield FIND_REFUND_POLICY, self.find_refund_policy
        yield PUT_REFUND_POLICY, self.put_refund_policy

    async def find_price_terms(self, request: Request) -> Response:
        acting, _ = await self._counter.begin(request, ANY_QUERY)
        terms = await self._terms(acting, show_id_of_path(request))
        return json_response(bodies.view_of_price_terms(terms))

    async def find_refund_policy(self, request: Request) -> Response:
        acting, _ = await self._counter.begin(request, ANY_QUERY)
        terms = await self._terms(acting, show_id_of_path(request))
        return json_response(bodies.view_of_refund_policy(terms))

    async def put_price_terms(self, request: Request) -> Response:
        acting, _ = await self._counter.begin(request, ANY_QUERY)
        sent = body_of(bodies.PRICE_TERMS, request)
        return await self._put(
            acting,
            show_id_of_path(request),
            sent.version,
            bodies.view_of_price_terms,
            Action.PRICE_TERMS_CHANGED,
            price_terms=bodies.price_terms_of(sent),
        )

    async def put_refund_policy(self, request: Request) -> Response:
        acting, _ = await self._counter.begin(request, ANY_QUERY)
        sent = body_of(bodies.REFUND_POLICY, request)
        return await self._put(
            acting,
            show_id_of_path(request),
            sent.version,
            bodies.view_of_refund_policy,
            Action.REFUND_POLICY_CHANGED,
            refund_policy=bodies.refund_policy_of(sent),
        )

    async def _put(
        self,
        acting: Acting,
        show_id: ShowId,
        version: int | None,
        view_of: Callable[[ShowTerms], dict[str, Any]],
        action: Action,
        *,
        price_terms: PriceTerms | None = None,
        refund_policy: RefundPolicy | None = None,
    ) -> Response:
        before = await self._terms(acting, show_id)
        put = await self._counter.desk.money.terms.put(
            acting.tenant_id,
            show_id,
            price_terms or before.price_terms,
            refund_policy or before.refund_policy,
            # The half that is not sent is written as it was read.
            before.version if version is None else version,
        )
        view = view_of(accepted(put, "terms"))
        await self._counter.audit.note(acting, action, show_id, before=view_of(before), after=view)
        return json_response(view)

    async def _terms(self, acting: Acting, show_id: ShowId) -> ShowTerms:
        desk = self._counter.desk
        if await desk.organisers.shows.find(acting.tenant_id, show_id) is None:
            raise missing("show")
        return await desk.money.terms.find(show_id)
