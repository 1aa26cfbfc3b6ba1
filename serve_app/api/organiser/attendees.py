"""Who comes: attendee lists, and what was sold as files.

A gate needs to know who may come in, and not what they paid or how to write to them: it is told
names and places only.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter
from starlette.requests import Request
from starlette.responses import Response

from persistence.organiser_rows import Place
from persistence.organiser_shows import ShowRow
from persistence.sales_reader import AttendeeRow
from reservation.access import Role
from reservation.ids import BookingId, is_booking_id, show_id_of
from reservation.route import Route
from reservation.seating_plan import SeatingPlan
from serve_app.api.api_document import Handler, Operation, problems
from serve_app.api.cursors import read_cursor, write_cursor
from serve_app.api.edge import json_response
from serve_app.api.instants import Instant, write_instant
from serve_app.api.organiser.acting import BOX_OFFICE, STAFF, Acting
from serve_app.api.organiser.attendee_money import (
    PaymentStateName,
    money_cells,
    payment_state_of,
)
from serve_app.api.organiser.audit_trail import Action
from serve_app.api.organiser.blocks import show_and_plan
from serve_app.api.organiser.counter import Counter
from serve_app.api.organiser.exports import Row, export
from serve_app.api.organiser.fields import Next, PageQuery, TenantQuery, View
from serve_app.api.organiser.outcomes import READING
from serve_app.api.organiser.sales_views import sales_of
from serve_app.api.organiser.show_document import SHOW
from serve_app.api.problems import bad_field
from serve_app.api.query_models import query_parameters
from serve_app.api.segments import stops_of

_SHOWS_PER_PAGE = 100


class AttendeePlaceView(View):
    """A seat, or places of a tier."""

    model_config = ConfigDict(title="AttendeePlace")

    place: Annotated[str, Field(description="Label of the seat, or code of the tier.")]
    category: str
    count: Annotated[int, Field(ge=1)]


class AttendeeView(View):
    """A booking, and who made it."""

    model_config = ConfigDict(title="Attendee")

    booking_id: Annotated[str, Field(pattern="^bkg_")]
    name: Annotated[str | None, Field(description="null when there is no account any more.")]
    email: Annotated[str | None, Field(description="Not for the gate.")] = None
    state: Literal["confirmed", "cancelled"]
    from_: Annotated[str | None, Field(alias="from", description="Of a run: boards here.")] = None
    to: str | None = None
    places: list[AttendeePlaceView]
    payment: Annotated[str | None, Field(description="Not for the gate.")] = None
    amount_minor: Annotated[int | None, Field(ge=0, description="Not for the gate.")] = None
    currency: str | None = None
    payment_state: Annotated[
        PaymentStateName | None,
        Field(description="null: not paid with a payment provider. Not for the gate."),
    ] = None
    paid_minor: Annotated[
        int | None, Field(ge=0, description="With discount, fees and taxes. Not for the gate.")
    ] = None
    refunded_minor: Annotated[
        int | None, Field(ge=0, description="What went back. Not for the gate.")
    ] = None
    refunding_minor: Annotated[
        int | None, Field(ge=0, description="What is on its way back. Not for the gate.")
    ] = None
    confirmed_at: Instant
    cancelled_at: Instant | None


class AttendeeList(View):
    """One page of attendees, by their bookings."""

    attendees: list[AttendeeView]
    next: Next = None


class ExportQuery(TenantQuery):
    """As which kind of file."""

    format: Annotated[Literal["csv", "json"], Field(description="The kind of file.")] = "csv"


_PAGE: TypeAdapter[PageQuery] = TypeAdapter(PageQuery)
_EXPORT: TypeAdapter[ExportQuery] = TypeAdapter(ExportQuery)

MODELS = (AttendeePlaceView, AttendeeView, AttendeeList)

ATTENDEE_COLUMNS = (
    "booking_id",
    "name",
    "email",
    "place",
    "category",
    "count",
    "from",
    "to",
    "amount_minor",
    "currency",
    "payment_state",
    "confirmed_at",
)
BOOKING_COLUMNS = (
    "booking_id",
    "customer_id",
    "name",
    "email",
    "state",
    "from",
    "to",
    "places",
    "place_count",
    "payment",
    "amount_minor",
    "currency",
    "payment_state",
    "paid_minor",
    "refunded_minor",
    "refunding_minor",
    "confirmed_at",
    "cancelled_at",
)
SALES_COLUMNS = (
    "show_id",
    "title",
    "status",
    "venue",
    "starts_at",
    "currency",
    "bookings",
    "seats",
    "admissions",
    "amount_minor",
    "cancelled_bookings",
    "cancelled_amount_minor",
    "live_holds",
    "held_seats",
    "held_admissions",
)

_FILE = {
    "description": "The file, written while it is read.",
    "content": {
        "text/csv": {"schema": {"type": "string"}},
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["rows"],
                "properties": {"rows": {"type": "array", "items": {"type": "object"}}},
            }
        },
    },
    "headers": {"Content-Disposition": {"schema": {"type": "string"}}},
}
_FORMAT = query_parameters(ExportQuery)

LIST = Operation(
    "GET",
    "/shows/{show_id}/attendees",
    tag="attendees",
    roles=STAFF,
    summary="Who comes to a show",
    responses={
        200: {"description": "One page.", "model": AttendeeList},
        **problems(*READING, "show_not_found"),
    },
    extra={"parameters": [SHOW, *query_parameters(PageQuery)]},
)
EXPORT_ATTENDEES = Operation(
    "GET",
    "/shows/{show_id}/attendee-export",
    tag="attendees",
    roles=BOX_OFFICE,
    summary="Who comes to a show, as a file: a line for each place",
    responses={200: _FILE, **problems(*READING, "show_not_found")},
    extra={"parameters": [SHOW, *_FORMAT]},
)
EXPORT_BOOKINGS = Operation(
    "GET",
    "/shows/{show_id}/booking-export",
    tag="attendees",
    roles=BOX_OFFICE,
    summary="The bookings of a show as a file, cancelled ones included",
    responses={200: _FILE, **problems(*READING, "show_not_found")},
    extra={"parameters": [SHOW, *_FORMAT]},
)
EXPORT_SALES = Operation(
    "GET",
    "/sales-export",
    tag="attendees",
    roles=BOX_OFFICE,
    summary="How every show of the house sells, as a file",
    responses={200: _FILE, **problems(*READING)},
    extra={"parameters": _FORMAT},
)


class AttendeeRoutes:
    """The handlers."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter

    def operations(self) -> Iterable[tuple[Operation, Handler]]:
        """Which handler answers where."""
        yield LIST, self.list_attendees
        yield EXPORT_ATTENDEES, self.export_attendees
        yield EXPORT_BOOKINGS, self.export_bookings
        yield EXPORT_SALES, self.export_sales

    async def list_attendees(self, request: Request) -> Response:
        acting, query = await self._counter.begin(request, _PAGE)
        sold = await self._sold(acting, request)
        page = await self._counter.desk.sales.attendees(
            sold.row.listing.show_id, query.limit, _after(query.cursor, sold.row)
        )
        is_gate = acting.principal.role is Role.GATE
        views = [sold.view(attendee, is_for_gate=is_gate) for attendee in page.items]
        view: dict[str, Any] = {"attendees": views}
        if page.next is not None:
            view["next"] = write_cursor(0, page.next)
        return json_response(view)

    async def export_attendees(self, request: Request) -> Response:
        acting, query = await self._counter.begin(request, _EXPORT)
        sold = await self._sold(acting, request)

        async def rows() -> AsyncIterator[Row]:
            async for attendee in self._counter.desk.sales.all_attendees(sold.show_id):
                if attendee.cancelled_at_ms is None:
                    for row in sold.place_rows(attendee):
                        yield row

        name = f"attendees-{sold.show_id}"
        await self._note(acting, sold.show_id, name, query.format)
        return await export(name, ATTENDEE_COLUMNS, rows(), query.format)

    async def export_bookings(self, request: Request) -> Response:
        acting, query = await self._counter.begin(request, _EXPORT)
        sold = await self._sold(acting, request)

        async def rows() -> AsyncIterator[Row]:
            async for attendee in self._counter.desk.sales.all_attendees(sold.show_id):
                yield sold.booking_row(attendee)

        name = f"bookings-{sold.show_id}"
        await self._note(acting, sold.show_id, name, query.format)
        return await export(name, BOOKING_COLUMNS, rows(), query.format)

    async def export_sales(self, request: Request) -> Response:
        acting, query = await self._counter.begin(request, _EXPORT)
        return await export("sales", SALES_COLUMNS, self._sales_rows(acting), query.format)

    async def _sales_rows(self, acting: Acting) -> AsyncIterator[Row]:
        desk = self._counter.desk
        after: Place | None = None
        while True:
            page = await desk.organisers.shows.list(
                acting.tenant_id, limit=_SHOWS_PER_PAGE, after=after
            )
            for row in page.items:
                listing = row.listing
                yield {
                    "show_id": listing.show_id,
                    "title": listing.title,
                    "status": listing.status.value,
                    "venue": listing.venue,
                    "starts_at": write_instant(listing.starts_at_ms),
                    **await sales_of(desk, row),
                }
            if page.next is None:
                return
            after = page.next

    async def _note(self, acting: Acting, show_id: str, name: str, format_: str) -> None:
        """Write down who took the names and addresses of customers."""
        after = {"file": f"{name}.{format_}"}
        await self._counter.audit.note(acting, Action.LIST_EXPORTED, show_id, after=after)

    async def _sold(self, acting: Acting, request: Request) -> _Sold:
        row, plan = await show_and_plan(self._counter, acting, request)
        route = Route()
        if row.listing.route_id is not None:
            found = await self._counter.desk.catalogue.load_route(row.listing.route_id)
            assert found is not None, f"{row.listing.route_id} is gone"
            route = found
        return _Sold(row, plan, route)


class _Sold:
    """What it takes to say in words what a booking of this show is."""

    def __init__(self, row: ShowRow, plan: SeatingPlan, route: Route) -> None:
        self.row = row
        self.show_id = row.listing.show_id
        self._plan = plan
        self._route = route
        self._currency = row.listing.fares.currency

    def view(self, attendee: AttendeeRow, *, is_for_gate: bool) -> dict[str, Any]:
        """A booking as clients get it."""
        view: dict[str, Any] = {
            "booking_id": attendee.booking_id,
            "name": attendee.name,
            "state": _state_of(attendee),
            **self._stops(attendee),
            "places": [
                {"place": place, "category": category, "count": count}
                for place, category, count, _ in self._places(attendee)
            ],
            "confirmed_at": write_instant(attendee.confirmed_at_ms),
            "cancelled_at": _instant_or_none(attendee.cancelled_at_ms),
        }
        if not is_for_gate:
            view["email"] = attendee.email
            view["payment"] = attendee.payment
            view["amount_minor"] = attendee.amount_minor
            view["currency"] = self._currency
            view |= money_cells(attendee.money)
        return view

    def place_rows(self, attendee: AttendeeRow) -> Iterable[dict[str, object]]:
        """A line for each seat, and for each tier, of a booking."""
        for place, category, count, amount_minor in self._places(attendee):
            yield {
                "booking_id": attendee.booking_id,
                "name": attendee.name,
                "email": attendee.email,
                "place": place,
                "category": category,
                "count": count,
                **self._stops(attendee),
                "amount_minor": amount_minor,
                "currency": self._currency,
                "payment_state": attendee.money and payment_state_of(attendee.money),
                "confirmed_at": write_instant(attendee.confirmed_at_ms),
            }

    def booking_row(self, attendee: AttendeeRow) -> dict[str, object]:
        """The line of a booking."""
        places = list(self._places(attendee))
        return {
            "booking_id": attendee.booking_id,
            "customer_id": attendee.customer_id,
            "name": attendee.name,
            "email": attendee.email,
            "state": _state_of(attendee),
            **self._stops(attendee),
            "places": [place for place, _, _, _ in places],
            "place_count": sum(count for _, _, count, _ in places),
            "payment": attendee.payment,
            "amount_minor": attendee.amount_minor,
            "currency": self._currency,
            **money_cells(attendee.money),
            "confirmed_at": write_instant(attendee.confirmed_at_ms),
            "cancelled_at": _instant_or_none(attendee.cancelled_at_ms),
        }

    def _places(self, attendee: AttendeeRow) -> Iterable[tuple[str, str, int, int]]:
        """Place, category, how many, and what they cost together."""
        plan = self._plan
        for seat_index, amount_minor in attendee.seats:
            category = plan.categories[plan.category_of[seat_index]].name
            yield plan.labels[seat_index], category, 1, amount_minor
        for line in attendee.admissions:
            tier = plan.admission_tiers[line.tier_index]
            category = plan.categories[tier.category_index].name
            yield tier.code, category, line.place_count, line.place_count * line.each_minor

    def _stops(self, attendee: AttendeeRow) -> dict[str, str]:
        stops = stops_of(self._route, attendee.segment)
        return {} if stops is None else {"from": stops[0], "to": stops[1]}


def _after(cursor: str | None, row: ShowRow) -> BookingId | None:
    if cursor is None:
        return None
    _, booking_id = read_cursor(cursor)
    if not is_booking_id(booking_id) or show_id_of(BookingId(booking_id)) != row.listing.show_id:
        raise bad_field("cursor", "is not a cursor of this list")
    return BookingId(booking_id)


def _state_of(attendee: AttendeeRow) -> str:
    return "confirmed" if attendee.cancelled_at_ms is None else "cancelled"


def _instant_or_none(at_ms: int | None) -> str | None:
    return None if at_ms is None else write_instant(at_ms)
