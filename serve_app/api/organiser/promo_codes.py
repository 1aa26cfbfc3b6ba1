"""Promo codes: made, found, changed and taken out of use."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from starlette.requests import Request
from starlette.responses import Response

from persistence.organiser_rows import Put, PutOutcome
from persistence.promo_codes import PromoCodeRow
from reservation.ids import TenantId, is_show_id
from reservation.organiser_ids import (
    ObjectKind,
    PromoCodeId,
    derive_object_id,
    is_object_id,
)
from reservation.promo_codes import PromoTerms
from serve_app.api.api_document import Handler, Operation
from serve_app.api.edge import json_response
from serve_app.api.organiser import promo_bodies as bodies
from serve_app.api.organiser.acting import ANY_QUERY, Acting, body_of, creation_key
from serve_app.api.organiser.audit_trail import Action
from serve_app.api.organiser.counter import Counter
from serve_app.api.organiser.outcomes import (
    accepted,
    bad_text,
    created,
    missing,
    place_of,
    view_of_page,
)
from serve_app.api.problems import FieldError, bad_request, shorten

_WHAT = "promo code"


class PromoCodeRoutes:
    """The handlers."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter

    def operations(self) -> Iterable[tuple[Operation, Handler]]:
        """Which handler answers where."""
        yield bodies.CREATE, self.create_promo_code
        yield bodies.LIST, self.list_promo_codes
        yield bodies.FIND, self.find_promo_code
        yield bodies.UPDATE, self.change_promo_code
        yield bodies.DELETE, self.delete_promo_code

    async def create_promo_code(self, request: Request) -> Response:
        acting, _ = await self._counter.begin(request, ANY_QUERY)
        key = creation_key(request)
        terms = bodies.terms_of_body(body_of(bodies.PROMO, request))
        await self._check_scope(acting.tenant_id, terms)
        promo_id = PromoCodeId(derive_object_id(ObjectKind.PROMO_CODE, acting.tenant_id, key))
        try:
            put = await self._counter.desk.organisers.promo_codes.create(
                acting.tenant_id, promo_id, terms
            )
        except ValueError as error:
            raise bad_text(error) from None
        view = bodies.view_of_promo(accepted(put, _WHAT))
        if put.outcome is PutOutcome.CREATED:
            await self._counter.audit.note(acting, Action.PROMO_CODE_CREATED, promo_id, after=view)
        return created(request, put, view, "promo-codes", promo_id)

    async def list_promo_codes(self, request: Request) -> Response:
        acting, query = await self._counter.begin(request, bodies.PAGE)
        page = await self._counter.desk.organisers.promo_codes.list(
            acting.tenant_id, limit=query.limit, after=place_of(query)
        )
        views = [bodies.view_of_promo(row) for row in page.items]
        return json_response(view_of_page("promo_codes", views, page.next))

    async def find_promo_code(self, request: Request) -> Response:
        acting, _ = await self._counter.begin(request, ANY_QUERY)
        return json_response(bodies.view_of_promo(await self._row(acting, request)))

    async def change_promo_code(self, request: Request) -> Response:
        acting, _ = await self._counter.begin(request, ANY_QUERY)
        change = body_of(bodies.CHANGED, request)
        row = await self._row(acting, request)
        terms = bodies.changed_terms(row.terms, change)
        await self._check_scope(acting.tenant_id, terms)
        put = await self._update(acting, row, terms, change.version)
        view = bodies.view_of_promo(accepted(put, _WHAT))
        before = bodies.view_of_promo(row)
        await self._counter.audit.note(
            acting, Action.PROMO_CODE_CHANGED, row.promo_code_id, before=before, after=view
        )
        return json_response(view)

    async def delete_promo_code(self, request: Request) -> Response:
        acting, _ = await self._counter.begin(request, ANY_QUERY)
        row = await self._row(acting, request)
        if row.terms.is_active:
            accepted(
                await self._update(acting, row, replace(row.terms, is_active=False), None), _WHAT
            )
            before = bodies.view_of_promo(row)
            await self._counter.audit.note(
                acting, Action.PROMO_CODE_DELETED, row.promo_code_id, before=before
            )
        return Response(status_code=204)

    async def _update(
        self, acting: Acting, row: PromoCodeRow, terms: PromoTerms, version: int | None
    ) -> Put[PromoCodeRow]:
        try:
            return await self._counter.desk.organisers.promo_codes.update(
                acting.tenant_id, row.promo_code_id, terms, expected_version=version or row.version
            )
        except ValueError as error:
            raise bad_text(error) from None

    async def _check_scope(self, tenant_id: TenantId, terms: PromoTerms) -> None:
        """Every show and series that is named must be there, and be the tenant's own."""
        organisers = self._counter.desk.organisers
        errors: list[FieldError] = []
        for show_id in sorted(terms.show_ids):
            show = await organisers.shows.find(tenant_id, show_id) if is_show_id(show_id) else None
            if show is None:
                errors.append(FieldError("show_ids", f"there is no show {shorten(show_id)!r}"))
        for series_id in sorted(terms.series_ids):
            series = None
            if is_object_id(ObjectKind.SERIES, series_id):
                series = await organisers.series.find(tenant_id, series_id)
            if series is None:
                errors.append(
                    FieldError("series_ids", f"there is no series {shorten(series_id)!r}")
                )
        if errors:
            raise bad_request(errors)

    async def _row(self, acting: Acting, request: Request) -> PromoCodeRow:
        named = request.path_params["promo_code_id"]
        if not is_object_id(ObjectKind.PROMO_CODE, named):
            raise missing(_WHAT)
        row = await self._counter.desk.organisers.promo_codes.find(
            acting.tenant_id, PromoCodeId(named)
        )
        if row is None:
            raise missing(_WHAT)
        return row
