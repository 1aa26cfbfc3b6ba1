"""Every route of the organiser application: who sees what, and what it makes of bad requests.

The routes come from the application itself, so a new one is tested when it is there; one whose
valid request is not written down here fails.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import httpx
import pytest

from persistence.payment_books import PaymentBooks
from reservation.access import HOUSE_TENANT, Role
from reservation.ids import ShowId
from reservation.plan_export import write_plan
from serve_app.api.organiser.application import build_organiser_api
from tests.support.access import OTHER_TENANT, open_gate, signed_in
from tests.support.http_house import BOOKING, HALL, code_of, numbers, open_client
from tests.support.organiser_house import (
    DEMO_TRAINS,
    HALL_PRICES,
    ORGANISER,
    Organiser,
    OrganiserHouse,
    open_organiser_house,
    zipped,
)
from tests.support.paid_bookings import sell_paid


class Route(NamedTuple):
    """One route, as its description says."""

    method: str
    path: str
    operation: dict[str, Any]

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def takes_json(self) -> bool:
        content = self.operation.get("requestBody", {}).get("content", {})
        return "application/json" in content


def _routes() -> list[Route]:
    document = build_organiser_api(
        lambda: None,  # type: ignore[arg-type,return-value]  # Never started.
        gate=open_gate(),
        body_bytes_max=65_536,
    ).openapi()
    return [
        Route(method.upper(), path, operation)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if path not in ("/healthz", "/readyz")
    ]


ROUTES = _routes()
WITH_ID = [route for route in ROUTES if "{" in route.path]
WITH_BODY = [route for route in ROUTES if route.takes_json]
LISTS = [route for route in ROUTES if route.method == "GET" and "{" not in route.path]


def _names(routes: list[Route]) -> list[str]:
    return [route.name for route in routes]


class Things(NamedTuple):
    """One of everything, of the house's tenant."""

    ids: dict[str, str]
    bodies: dict[str, Any]


async def _one_of_everything(
    olga: Organiser, house: OrganiserHouse, booking: httpx.AsyncClient
) -> Things:
    venue_id, plan_id = await olga.make_venue(), await olga.make_plan()
    show = await olga.make_show(venue_id=venue_id, seating_plan_id=plan_id)
    series = await olga.make(
        "/series",
        {
            "title": "Series",
            "venue_id": venue_id,
            "seating_plan_id": plan_id,
            "duration_ms": 1,
            "prices": HALL_PRICES,
        },
    )
    channel = await olga.make("/channels", {"name": f"Channel {next(numbers)}"})
    promo_body = {"code": f"code-{next(numbers)}", "reduction": {"basis_points": 1}}
    promo = await olga.make("/promo-codes", promo_body)
    import_body = {
        "from_date": "2026-12-01",
        "to_date": "2026-12-01",
        "seating_plan_id": plan_id,
        "fares": {"currency": "EUR"},
    }
    job = await olga.make("/timetable-imports", import_body)
    document, extras = write_plan(HALL)
    drawing = {"document": document, "extras": extras}
    seats = {"channel_id": channel["channel_id"], "seats": ["Stalls-A-1"]}
    show_body = {
        "title": "Another",
        "venue_id": venue_id,
        "seating_plan_id": plan_id,
        "starts_at": "2026-12-24T18:00:00Z",
        "ends_at": "2026-12-24T18:00:00Z",
        "prices": HALL_PRICES,
    }
    show_id = ShowId(show["show_id"])
    sold = await sell_paid(house, booking, show_id, "Stalls-A-3")
    books = PaymentBooks(house.admin_pool)
    assert await books.raise_alarm("stuck", sold.payment_id, "It waits.", show_id)
    alarms = (await olga.get("/alarms"))["alarms"]
    alarm_id = next(each["alarm_id"] for each in alarms if each["subject"] == sold.payment_id)
    return Things(
        {
            "booking_id": sold.booking_id,
            "alarm_id": str(alarm_id),
            "venue_id": venue_id,
            "seating_plan_id": plan_id,
            "number": "1",
            "show_id": show["show_id"],
            "series_id": series["series_id"],
            "channel_id": channel["channel_id"],
            "promo_code_id": promo["promo_code_id"],
            "timetable_import_id": job["timetable_import_id"],
        },
        {
            "POST /venues": {"name": "Venue of the table", "time_zone": "Europe/Prague"},
            "PATCH /venues/{venue_id}": {"address": "Elsewhere"},
            "POST /seating-plans": {"name": "Plan of the table", **drawing},
            "PATCH /seating-plans/{seating_plan_id}": {"venue_id": None},
            "POST /seating-plans/{seating_plan_id}/versions": drawing,
            "POST /shows": show_body,
            "PATCH /shows/{show_id}": {"description": "Longer"},
            "PUT /shows/{show_id}/seating-plan": {"seating_plan_id": plan_id},
            "POST /shows/{show_id}/cancel": {"reason": "none"},
            "POST /shows/{show_id}/block": {"seats": ["Stalls-B-1"], "reason": "none"},
            "POST /shows/{show_id}/unblock": {"seats": ["Stalls-B-1"]},
            "POST /shows/{show_id}/allocate": seats,
            "POST /shows/{show_id}/take-back": seats,
            "POST /series": {"title": "Series of the table"},
            "PATCH /series/{series_id}": {"description": "Longer"},
            "POST /series/{series_id}/shows": {"starts_at": ["2026-12-24T18:00:00Z"]},
            "POST /channels": {"name": "Channel of the table"},
            "PATCH /channels/{channel_id}": {"name": f"Other {next(numbers)}"},
            "POST /promo-codes": {"code": "table", "reduction": {"basis_points": 1}},
            "PATCH /promo-codes/{promo_code_id}": {"uses_max": 5},
            "POST /timetable-imports": import_body,
            "PUT /shows/{show_id}/price-terms": {"fees": [], "taxes": []},
            "PUT /shows/{show_id}/refund-policy": {"bands": []},
            "POST /bookings/{booking_id}/refunds": {"amount_minor": 1, "reason": "none"},
            "POST /bookings/{booking_id}/cancel": {"reason": "none"},
        },
    )


@pytest.fixture(scope="module")
async def house() -> AsyncIterator[OrganiserHouse]:
    async with open_organiser_house() as house:
        yield house


@pytest.fixture(scope="module")
async def client(house: OrganiserHouse) -> AsyncIterator[httpx.AsyncClient]:
    async with open_client(house.app(runs_imports=False), ORGANISER) as client:
        yield client


@pytest.fixture(scope="module")
async def booking(house: OrganiserHouse) -> AsyncIterator[httpx.AsyncClient]:
    async with open_client(house.house.booking_app(), BOOKING) as client:
        yield client


@pytest.fixture(scope="module")
async def olga(client: httpx.AsyncClient) -> Organiser:
    return Organiser(client)


@pytest.fixture(scope="module")
async def things(olga: Organiser, house: OrganiserHouse, booking: httpx.AsyncClient) -> Things:
    return await _one_of_everything(olga, house, booking)


def _telling(things: Things) -> list[str]:
    """The ids that cannot be part of anything else."""
    return [found for found in things.ids.values() if not found.isdigit()]


async def ask(
    client: httpx.AsyncClient,
    route: Route,
    things: Things,
    headers: dict[str, str],
    *,
    body: object = None,
    **params: str,
) -> httpx.Response:
    """A valid request to this route, from whoever has these headers."""
    path = re.sub(r"\{(\w+)\}", lambda match: things.ids[match[1]], route.path)
    content: dict[str, Any] = {}
    if route.takes_json:
        content["json"] = things.bodies[route.name] if body is None else body
    elif route.path.endswith("/archive"):
        content["content"] = zipped(DEMO_TRAINS)
        headers = {**headers, "Content-Type": "application/zip"}
    if route.method == "POST":
        headers = {**headers, "Idempotency-Key": f"table-{next(numbers)}"}
    return await client.request(route.method, path, headers=headers, params=params, **content)


@pytest.mark.parametrize("route", ROUTES, ids=_names(ROUTES))
async def test_nobody_comes_in_without_a_token_or_as_a_customer(
    client: httpx.AsyncClient, things: Things, route: Route
) -> None:
    nobody = await ask(client, route, things, {})
    assert code_of(nobody) == "token_missing"
    customer = await ask(client, route, things, signed_in("carol"))
    assert code_of(customer) == "role_not_allowed"


@pytest.mark.parametrize("route", WITH_ID, ids=_names(WITH_ID))
async def test_what_is_anothers_is_not_there_for_any_role(
    client: httpx.AsyncClient, things: Things, route: Route
) -> None:
    for role in (Role.ORGANISER, Role.BOX_OFFICE, Role.GATE):
        stranger = signed_in("oscar", role, OTHER_TENANT)
        response = await ask(client, route, things, stranger)
        if role is Role.ORGANISER or response.status_code != 403:
            assert response.status_code == 404, response.text
            assert not any(found in response.text for found in _telling(things))
        else:
            assert code_of(response) == "role_not_allowed"
    admin = signed_in("ada", Role.ADMIN)
    elsewhere = await ask(client, route, things, admin, tenant_id=OTHER_TENANT)
    assert elsewhere.status_code == 404, elsewhere.text


@pytest.mark.parametrize("route", LISTS, ids=_names(LISTS))
async def test_a_list_has_nothing_of_another_tenant(
    client: httpx.AsyncClient, things: Things, route: Route
) -> None:
    stranger = await ask(client, route, things, signed_in("oscar", Role.ORGANISER, OTHER_TENANT))
    assert stranger.status_code == 200
    ours = [f'"alarm_id":{things.ids["alarm_id"]},', *_telling(things)]
    assert not any(found in stranger.text for found in ours)
    own = await ask(client, route, things, signed_in("olga", Role.ORGANISER))
    assert any(found in own.text for found in ours), "the list would have it"


@pytest.mark.parametrize("route", WITH_BODY, ids=_names(WITH_BODY))
async def test_a_member_that_nobody_may_set_is_refused(
    client: httpx.AsyncClient, things: Things, route: Route
) -> None:
    olga = signed_in("olga", Role.ORGANISER)
    secret = {"tenant_id": OTHER_TENANT, "created_at": "2026-01-01T00:00:00Z", "is_admin": True}
    for name, value in secret.items():
        body = {**things.bodies[route.name], name: value}
        response = await ask(client, route, things, olga, body=body)
        assert response.status_code == 422, response.text
        errors = {error["field"]: error["reason"] for error in response.json()["errors"]}
        assert errors[name] == "is not known here"


_LONG = "x" * 20_000
_OTHER_VALUES: list[Any] = [None, [], {}, 2**70, -1, 1.5, True, "\0", _LONG, [{}], {"x": []}]
_NONSENSE: list[Any] = [
    [],
    "text",
    None,
    {"a" * 10_000: 1},
    {"title": "\0", "name": "\0", "code": "\0", "reason": "\0"},
]


@pytest.mark.parametrize("route", WITH_BODY, ids=_names(WITH_BODY))
async def test_nonsense_is_refused_and_never_breaks_anything(
    client: httpx.AsyncClient, things: Things, route: Route
) -> None:
    olga = {**signed_in("olga", Role.ORGANISER), "Content-Type": "application/json"}
    valid = things.bodies[route.name]
    bodies: list[bytes] = [json.dumps(value).encode() for value in _NONSENSE]
    bodies += [b"", b"{", b'{"a": NaN}', b'{"x": "\xff"}', b'{"x": "\\ud800"}', b'{"x":1,"x":2}']
    for name, value in valid.items():
        # Every member in turn becomes something else.
        for other in _OTHER_VALUES:
            if other != value:
                bodies.append(json.dumps({**valid, name: other}).encode())
    path = re.sub(r"\{(\w+)\}", lambda match: things.ids[match[1]], route.path)
    for body in bodies:
        headers = {**olga, "Idempotency-Key": f"nonsense-{next(numbers)}"}
        response = await client.request(route.method, path, headers=headers, content=body)
        # null, [] and {} are values that some members may have.
        assert response.status_code < 500, response.text


async def test_texts_and_ids_that_cannot_be_are_answered_like_unknown_ones(
    client: httpx.AsyncClient, things: Things
) -> None:
    olga = signed_in("olga", Role.ORGANISER)
    for name in things.ids:
        for odd in ("x", "%00", "ven_" + "u" * 20, "a" * 5_000, "%C4%8D", "'; DROP TABLE"):
            ids = {**things.ids, name: odd}
            for route in WITH_ID:
                if f"{{{name}}}" not in route.path or route.method != "GET":
                    continue
                response = await ask(client, route, Things(ids, things.bodies), olga)
                assert response.status_code in (400, 404, 405), response.text


@pytest.mark.parametrize("route", LISTS, ids=_names(LISTS))
async def test_a_query_that_cannot_be_names_its_parameter(
    client: httpx.AsyncClient, things: Things, route: Route
) -> None:
    olga = signed_in("olga", Role.ORGANISER)
    known = {parameter["name"] for parameter in route.operation.get("parameters", ())}
    for name, value in {
        "limit": "101",
        "cursor": "WzAsIlx1MDAwMCJd",
        "starts_from": "now",
        "status": "sold",
        "sales": "1",
        "colour": "red",
        "tenant_id": str(HOUSE_TENANT),
    }.items():
        if name in known or name == "colour":
            response = await ask(client, route, things, olga, **{name: value})
            assert response.status_code == 422, response.text
            assert [error["field"] for error in response.json()["errors"]] == [name]


async def test_the_owner_may_do_all_of_it(
    client: httpx.AsyncClient, olga: Organiser, house: OrganiserHouse, booking: httpx.AsyncClient
) -> None:
    # What is written down above is valid, and the refusals there are not those of a bad request.
    own = signed_in("olga", Role.ORGANISER)
    things = await _one_of_everything(olga, house, booking)
    spare_venue = await olga.make_venue()
    for name in ("POST /venues", "POST /channels", "POST /seating-plans"):
        things.bodies[name]["name"] = f"New {next(numbers)}"
    things.bodies["POST /promo-codes"]["code"] = f"new-{next(numbers)}"
    # What ends something comes late, and last what is there only then.
    ends = ("/cancel", "/close")
    for route in sorted(
        ROUTES, key=lambda route: (route.path.endswith("/refund-job"), route.path.endswith(ends))
    ):
        ids = things.ids
        if route.name == "DELETE /venues/{venue_id}":
            ids = {**ids, "venue_id": spare_venue}
        response = await ask(client, route, Things(ids, things.bodies), own)
        assert response.is_success, f"{route.name}: {response.text}"
