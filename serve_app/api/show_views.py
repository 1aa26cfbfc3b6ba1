"""Shows as clients see them. What is written here must fit the models of ``browse_schemas``."""

from __future__ import annotations

from typing import Any

from persistence.catalogue import Ride, SearchItem, SearchPage
from reservation.fares import FareTable
from reservation.route import Segment
from reservation.show import SalesPolicy
from serve_app.api.cursors import write_cursor
from serve_app.api.instants import write_instant
from serve_app.api.segments import stops_of
from serve_app.api.show_facts import ShowFacts

View = dict[str, Any]


def view_of_page(page: SearchPage, now_ms: int) -> View:
    """One page of a search, with what is charged now."""
    view: View = {"shows": [_view_of_item(item, now_ms) for item in page.items]}
    if page.next is not None:
        view["next"] = write_cursor(page.next.starts_at_ms, page.next.show_id)
    return view


def _view_of_item(item: SearchItem, now_ms: int) -> View:
    view: View = {
        "show_id": item.show_id,
        "kind": item.kind.value,
        "title": item.title,
        "venue": item.venue,
        "starts_at": write_instant(item.starts_at_ms),
        "ends_at": write_instant(item.ends_at_ms),
        "time_zone": item.time_zone,
        "currency": item.fares.currency,
    }
    segment = None if item.ride is None else item.ride.segment
    lowest_minor = _lowest_minor(item.fares.at(now_ms), segment)
    if lowest_minor is not None:
        view["amount_from_minor"] = lowest_minor
    if item.ride is not None:
        view["ride"] = _view_of_ride(item.ride)
    return view


def _lowest_minor(fares: FareTable, segment: Segment | None) -> int | None:
    """The lowest fare on a segment, or on the whole route."""
    amounts = [
        fares.amount_minor(index, segment or Segment(0, max(1, len(fare.leg_minor))))
        for index, fare in enumerate(fares.fares)
    ]
    return min(amounts, default=None)


def _view_of_ride(ride: Ride) -> View:
    return {
        "from": ride.from_code,
        "from_name": ride.from_name,
        "departs_at": write_instant(ride.departs_at_ms),
        "to": ride.to_code,
        "to_name": ride.to_name,
        "arrives_at": write_instant(ride.arrives_at_ms),
    }


def view_of_show(facts: ShowFacts, segment: Segment, now_ms: int) -> View:
    """A show in detail, with what a segment costs now."""
    listing, plan = facts.listing, facts.plan
    amount_minor = listing.fares.at(now_ms).amount_minor
    view: View = {
        "show_id": listing.show_id,
        "kind": listing.kind.value,
        "title": listing.title,
        "venue": listing.venue,
        "starts_at": write_instant(listing.starts_at_ms),
        "ends_at": write_instant(listing.ends_at_ms),
        "time_zone": listing.time_zone,
        "plan_id": listing.plan_id,
        "seat_count": plan.place_count,
        "stops": _views_of_stops(facts),
        "currency": listing.fares.currency,
        "categories": [
            {
                "name": category.name,
                **({"color": category.color} if category.color else {}),
                "amount_minor": amount_minor(index, segment),
            }
            for index, category in enumerate(plan.categories)
        ],
        "admission_tiers": [
            {
                "tier": tier.code,
                "name": tier.name,
                "category": plan.categories[tier.category_index].name,
                "capacity": tier.capacity,
                "amount_minor": amount_minor(tier.category_index, segment),
            }
            for tier in plan.admission_tiers
        ],
        "policy": _view_of_policy(listing.policy),
    }
    stops = stops_of(facts.route, segment)
    if stops is not None:
        view["from"], view["to"] = stops
    return view


def _views_of_stops(facts: ShowFacts) -> list[View]:
    day_ms = facts.listing.service_day_at_ms
    views: list[View] = []
    for stop in facts.route.stops:
        view: View = {
            "code": stop.code,
            "name": stop.name,
            "arrival_at": write_instant(day_ms + stop.arrival_s * 1_000),
            "departure_at": write_instant(day_ms + stop.departure_s * 1_000),
            "distance_m": stop.distance_m,
        }
        if stop.latitude is not None and stop.longitude is not None:
            view["latitude"], view["longitude"] = stop.latitude, stop.longitude
        views.append(view)
    return views


def _view_of_policy(policy: SalesPolicy) -> View:
    view: View = {
        "hold_ttl_ms": policy.hold_ttl_ms,
        "hold_life_ms_max": policy.hold_life_ms_max,
        "seats_per_hold_max": policy.seats_per_hold_max,
        "live_holds_per_customer_max": policy.live_holds_per_customer_max,
        "seats_per_customer_max": policy.seats_per_customer_max,
        "orphan_rule": policy.orphan_rule.value,
    }
    if policy.on_sale_from_at_ms is not None:
        view["on_sale_from"] = write_instant(policy.on_sale_from_at_ms)
    if policy.on_sale_until_at_ms is not None:
        view["on_sale_until"] = write_instant(policy.on_sale_until_at_ms)
    return view
