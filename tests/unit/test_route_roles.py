"""Every route of every application and every role: who is let in, and who is not.

The routes come from the applications themselves, so a new one is tested when it is there. What is
public is written down here once more, because a route that became public by mistake would say so
of itself.

The applications have not been started. A handler that is reached has nobody to turn to and says
that (503), or finds something wrong with the empty request; it never says 401 or 403.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from reservation.access import Role
from serve_app.api.account.application import build_account_api
from serve_app.api.api_document import BEARER_SCHEME, ROLES, Operation
from serve_app.api.booking import build_booking_api
from serve_app.api.browse import build_browse_api
from serve_app.api.organiser.application import build_organiser_api
from serve_app.api.payments.application import build_payments_api
from serve_app.api.principals import PUBLIC, SIGNED_IN
from tests.support.access import open_gate, signed_in


@asynccontextmanager
async def open_no_desk() -> AsyncIterator[Any]:
    raise AssertionError("the applications here are never started")
    yield


APPLICATIONS: dict[str, Callable[[], FastAPI]] = {
    "account": lambda: build_account_api(open_no_desk, gate=open_gate(), body_bytes_max=65_536),
    "booking": lambda: build_booking_api(open_no_desk, gate=open_gate(), body_bytes_max=65_536),
    "browse": lambda: build_browse_api(open_no_desk, body_bytes_max=65_536),
    "payments": lambda: build_payments_api(open_no_desk, gate=open_gate(), body_bytes_max=65_536),
    "organiser": lambda: build_organiser_api(open_no_desk, gate=open_gate(), body_bytes_max=65_536),
}

PUBLIC_ROUTES = {
    "GET /healthz",
    "GET /readyz",
    "account: POST /accounts",
    "account: POST /email-verifications",
    "account: POST /email-verifications/confirm",
    "account: POST /password-resets",
    "account: POST /password-resets/confirm",
    "account: POST /sessions",
    "account: POST /sessions/refresh",
    "account: POST /token",
    "account: GET /jwks.json",
    "browse: GET /shows",
    "browse: GET /shows/{show_id}",
    "browse: GET /shows/{show_id}/seating-plan",
    "browse: GET /shows/{show_id}/seat-map",
    "browse: GET /stops",
    # Signed by the provider instead.
    "payments: POST /webhooks/stripe",
    "payments: POST /webhooks/razorpay",
}

# Ids of the right form, so that handlers are reached.
_IDS = {
    "show_id": "shw_" + "0" * 16,
    "hold_id": "hld_" + "0" * 32,
    "booking_id": "bkg_" + "0" * 32,
    "payment_id": "pay_" + "0" * 32,
    "account_id": "acc_" + "0" * 20,
    "session_id": "current",
    "api_key_id": "key_" + "0" * 20,
    "venue_id": "ven_" + "0" * 20,
    "seating_plan_id": "vpl_" + "0" * 20,
    "number": "1",
    "series_id": "ser_" + "0" * 20,
    "channel_id": "chn_" + "0" * 20,
    "promo_code_id": "prm_" + "0" * 20,
    "alarm_id": "alm_0_1",
    "timetable_import_id": "imp_" + "0" * 20,
}


class Route(NamedTuple):
    """One route of an application, as its description says."""

    application: str
    method: str
    path: str
    roles: frozenset[Role] | None
    described: dict[str, Any]

    @property
    def address(self) -> str:
        """An address of this route."""
        return re.sub(r"\{(\w+)\}", lambda name: _IDS.get(name[1], "x" * 24), self.path)

    @property
    def names(self) -> set[str]:
        """How ``PUBLIC_ROUTES`` may name it."""
        return {f"{self.method} {self.path}", f"{self.application}: {self.method} {self.path}"}

    def __str__(self) -> str:
        return f"{self.application}-{self.method}-{self.path}"


def _routes_of(name: str, app: FastAPI) -> list[Route]:
    return [
        Route(
            name,
            method.upper(),
            path,
            frozenset(Role(role) for role in described[ROLES]) if ROLES in described else None,
            described,
        )
        for path, methods in app.openapi()["paths"].items()
        for method, described in methods.items()
    ]


APPS = {name: build() for name, build in APPLICATIONS.items()}
ROUTES = [route for name, app in APPS.items() for route in _routes_of(name, app)]
BEHIND_THE_GATE = [route for route in ROUTES if route.roles is not None]


async def ask(route: Route, headers: dict[str, str]) -> httpx.Response:
    transport = httpx.ASGITransport(APPS[route.application], raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://house") as client:
        sent = {"Content-Type": "application/json", **headers}
        return await client.request(route.method, route.address, headers=sent, content=b"{}")


def code_of(answer: httpx.Response) -> str:
    code: str = answer.json()["code"] if answer.status_code >= 400 else ""
    return code


@pytest.mark.parametrize("name", APPS)
def test_the_description_has_every_route_that_there_is(name: str) -> None:
    said = {(route.method, route.path) for route in ROUTES if route.application == name}
    there = set()
    for route in APPS[name].router.routes:
        path: str = route.path  # type: ignore[attr-defined]
        if path == "/openapi.json":
            continue
        assert isinstance(route, APIRoute), path
        there |= {(method, path) for method in route.methods or ()}
    assert there == said


def test_nothing_is_public_but_what_is_meant_to_be() -> None:
    public = [route for route in ROUTES if route.roles is None]
    for route in public:
        assert route.names & PUBLIC_ROUTES, f"{route} is public"
        assert "security" not in route.described
        # Logging in has a 401 of its own.
        assert "token_missing" not in json.dumps(route.described["responses"])
    found = set().union(*(route.names for route in public))
    assert found >= PUBLIC_ROUTES
    for route in BEHIND_THE_GATE:
        assert route.described["security"] == [{BEARER_SCHEME: []}]
        assert "401" in route.described["responses"]


@pytest.mark.parametrize("route", ROUTES, ids=str)
@pytest.mark.parametrize("role", [None, *Role])
async def test_a_route_lets_in_its_roles_and_nobody_else(route: Route, role: Role | None) -> None:
    headers = {} if role is None else signed_in("ann", role)
    answer = await ask(route, headers)
    if route.roles is None or role in route.roles:
        assert answer.status_code not in (401, 403), answer.text
    elif role is None:
        assert (answer.status_code, code_of(answer)) == (401, "token_missing")
        assert answer.headers["www-authenticate"] == "Bearer"
    else:
        assert (answer.status_code, code_of(answer)) == (403, "role_not_allowed")
        assert "403" in route.described["responses"]


@pytest.mark.parametrize("route", ROUTES, ids=str)
async def test_a_broken_token_is_refused_before_anything_else_is_looked_at(route: Route) -> None:
    # The address asks for something that is not known, and the body is no JSON.
    transport = httpx.ASGITransport(APPS[route.application], raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://house") as client:
        answer = await client.request(
            route.method,
            f"{route.address}?colour=red",
            headers={"Authorization": "Bearer nonsense", "Idempotency-Key": "two words"},
            content=b"<xml>",
        )
    if route.roles is None:
        assert answer.status_code not in (401, 403)
    else:
        assert (answer.status_code, code_of(answer)) == (401, "token_invalid")


async def answer_nothing(request: Request) -> Response:
    return Response()


def operation(**more: Any) -> Operation:
    return Operation("GET", "/x", summary="", tag="", responses={}, extra={}, **more)


def test_a_route_that_does_not_say_for_whom_it_is_cannot_be_made() -> None:
    with pytest.raises(TypeError, match="roles"):
        operation()
    broken: list[Any] = [None, (), frozenset(), {Role.ADMIN}, frozenset({"root"}), "admin", True]
    for roles in broken:
        with pytest.raises(ValueError, match="for whom is it"):
            operation(roles=roles)


@pytest.mark.parametrize("has_query", [False, True])
def test_a_route_behind_a_gate_cannot_be_added_without_one(has_query: bool) -> None:
    app = FastAPI()
    for roles in (SIGNED_IN, frozenset({Role.ADMIN})):
        with pytest.raises(ValueError, match="a gate is missing"):
            operation(roles=roles, has_query=has_query).add_to(app, answer_nothing)
    operation(roles=PUBLIC, has_query=has_query).add_to(app, answer_nothing)
    assert json.dumps(app.openapi()).count(ROLES) == 0
