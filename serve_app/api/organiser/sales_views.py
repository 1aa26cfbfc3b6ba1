"""How a show sells, as organisers see it."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import ConfigDict, Field

from persistence.organiser_shows import ShowRow
from persistence.sales_reader import SalesFigures
from reservation.seating_plan import SeatingPlan
from serve_app.api.organiser.desk import OrganiserDesk
from serve_app.api.organiser.fields import Currency, View

_Count = Annotated[int, Field(ge=0)]
_Amount = Annotated[int, Field(ge=0, description="In minor units of `currency`.")]


class PaymentSalesView(View):
    """Bookings that were paid in one way."""

    model_config = ConfigDict(title="PaymentSales")

    payment: str
    is_cancelled: bool
    bookings: _Count
    seats: _Count
    amount_minor: _Amount


class CategorySalesView(View):
    """What was sold of a category."""

    model_config = ConfigDict(title="CategorySales")

    category: str
    places: _Count
    amount_minor: _Amount


class DaySalesView(View):
    """What was sold on a day, of the time zone of the show."""

    model_config = ConfigDict(title="DaySales")

    day: Annotated[str, Field(examples=["2026-11-22"], json_schema_extra={"format": "date"})]
    bookings: _Count
    amount_minor: _Amount


class SalesView(View):
    """How a show sells, at one moment. Cancelled bookings are counted apart."""

    model_config = ConfigDict(title="Sales")

    currency: Currency
    bookings: _Count
    seats: _Count
    admissions: _Count
    amount_minor: _Amount
    cancelled_bookings: _Count
    cancelled_amount_minor: _Amount
    live_holds: _Count
    held_seats: _Count
    held_admissions: _Count
    by_payment: list[PaymentSalesView]
    by_category: list[CategorySalesView]
    by_day: list[DaySalesView]


MODELS = (PaymentSalesView, CategorySalesView, DaySalesView, SalesView)


async def sales_of(desk: OrganiserDesk, row: ShowRow) -> dict[str, Any]:
    """How this show sells."""
    listing = row.listing
    plan = await desk.catalogue.load_plan(listing.plan_id)
    assert plan is not None, f"{listing.plan_id} is gone"
    figures = await desk.sales.sales(listing.show_id, plan, listing.time_zone)
    return view_of_sales(figures, plan, listing.fares.currency)


def view_of_sales(figures: SalesFigures, plan: SeatingPlan, currency: str) -> dict[str, Any]:
    """Figures as clients get them."""
    return {
        "currency": currency,
        "bookings": figures.booking_count,
        "seats": figures.seat_count,
        "admissions": figures.admission_count,
        "amount_minor": figures.amount_minor,
        "cancelled_bookings": figures.cancelled_count,
        "cancelled_amount_minor": figures.cancelled_amount_minor,
        "live_holds": figures.held_count,
        "held_seats": figures.held_seat_count,
        "held_admissions": figures.held_admission_count,
        "by_payment": [
            {
                "payment": each.payment,
                "is_cancelled": each.is_cancelled,
                "bookings": each.booking_count,
                "seats": each.seat_count,
                "amount_minor": each.amount_minor,
            }
            for each in figures.by_payment
        ],
        "by_category": [
            {
                "category": plan.categories[each.category_index].name,
                "places": each.place_count,
                "amount_minor": each.amount_minor,
            }
            for each in figures.by_category
        ],
        "by_day": [
            {"day": each.day, "bookings": each.booking_count, "amount_minor": each.amount_minor}
            for each in figures.by_day
        ],
    }
