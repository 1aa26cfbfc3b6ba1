"""The short way to a handler, and the short looks before the long ones: both change nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Annotated, Any

import httpx
import pytest
from fastapi import FastAPI, Query
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import Message, Receive, Scope, Send

from persistence.catalogue import Listed
from reservation.access import Role
from reservation.fares import CategoryFare, FareTable
from reservation.faults import OutcomeUnknown, ShowUnavailable
from reservation.ids import ShowId, derive_show_id
from reservation.limits import SEATS_PER_HOLD_MAX
from reservation.listing import ShowKind, ShowListing
from reservation.route import Route
from reservation.seating_plan import SeatingPlan
from reservation.show import Placement
from serve_app.access.access_tokens import TokenVerifier
from serve_app.api import serve_headers, show_facts
from serve_app.api.account.application import build_account_api
from serve_app.api.api_document import BareRoute, Operation
from serve_app.api.body_guard import BodyGuard
from serve_app.api.booking_schemas import HOLD_NAMED, LABEL_LENGTH_MAX
from serve_app.api.direct_routes import DirectRoutes
from serve_app.api.edge import Opened, make_api
from serve_app.api.hold_requests import NamedWish, named_wish_of
from serve_app.api.instants import read_instant, write_instant
from serve_app.api.principals import PUBLIC, Gate, customer_of, principal_of
from serve_app.api.problems import Problem
from serve_app.api.short_way import Api
from serve_app.api.strict_json import read_json, validated
from tests.support.access import account_named, open_gate, signed_in
from tests.support.plans import build_plan

ROOT = "/api/test"


class NoDesk:
    """These routes turn to nobody."""

    async def probe(self) -> None:
        """See ``edge.Desk``."""


@asynccontextmanager
async def open_no_desk() -> AsyncIterator[NoDesk]:
    yield NoDesk()


@asynccontextmanager
async def never_open_a_desk() -> AsyncIterator[Any]:
    raise AssertionError("this application is never started")
    yield


class Gateway:
    """What the hold named ``slow`` waits for, and says when it does."""

    def __init__(self) -> None:
        self.reached, self.released = asyncio.Event(), asyncio.Event()

    async def pass_through(self) -> None:
        self.reached.set()
        await self.released.wait()


GATEWAYS: list[Gateway] = []


async def confirm(request: Request) -> Response:
    what = request.path_params["hold_id"]
    if what == "slow":
        await GATEWAYS[-1].pass_through()
    if what == "problem":
        raise Problem("not_done", "No.")
    if what == "fault":
        raise ShowUnavailable("password=hunter2")
    if what == "unknown":
        raise OutcomeUnknown("lost")
    if what == "bug":
        raise RuntimeError("password=hunter2")
    return Response(what)


async def find(request: Request) -> Response:
    return await confirm(request)


async def listing(request: Request) -> Response:
    return Response("list")


async def crowd(request: Request) -> Response:
    assert request.path_params == {}
    return Response("one of many")


def operation(method: str, path: str) -> Operation:
    return Operation(method, path, tag="t", summary="s", roles=PUBLIC, responses={}, extra={})


ADMIN_ONLY = frozenset({Role.ADMIN})


class Size(BaseModel):
    """A query."""

    size: int


async def query(request: Request, size: Annotated[Size, Query()]) -> Response:
    return Response(f"{size.size} for {principal_of(request).role}")


async def mine(request: Request) -> Response:
    return Response(f"{request.path_params['hold_id']} of {customer_of(request)}")


def make_app() -> Api:
    app = make_api(
        Opened(),
        open_no_desk,
        title="t",
        summary="s",
        description="d",
        body_bytes_max=100,
    )
    operation("POST", "/holds/{hold_id}/confirm").add_to(app, confirm)
    operation("GET", "/holds/{hold_id}").add_to(app, find)
    operation("GET", "/holds").add_to(app, listing)
    replace(operation("POST", "/crowds"), comes_in_crowds=True).add_to(app, crowd)
    gate = open_gate()
    replace(operation("GET", "/mine/{hold_id}"), roles=ADMIN_ONLY).add_to(app, mine, gate)
    admins_query = replace(operation("GET", "/sizes"), roles=ADMIN_ONLY, has_query=True)
    admins_query.add_to(app, query, gate)
    return app


@pytest.fixture(params=["direct", "framework"])
def app(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> FastAPI:
    """The same application, once with and once without the short way."""
    if request.param == "framework":
        monkeypatch.setattr(DirectRoutes, "_add", lambda self, route: None)
    return make_app()


async def ask(
    app: FastAPI, method: str, path: str, headers: dict[str, str] | None = None
) -> httpx.Response:
    transport = httpx.ASGITransport(app, root_path=ROOT)
    async with httpx.AsyncClient(transport=transport, base_url=f"http://x{ROOT}") as client:
        return await client.request(method, path, headers=headers)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/holds/a/confirm", 200),
        ("GET", "/holds/a", 200),
        ("GET", "/holds/a%20b", 200),
        ("GET", "/holds", 200),
        ("POST", "/crowds", 200),
        ("GET", "/crowds", 405),
        ("POST", "/crowds/", 404),
        ("GET", "/healthz", 200),
        ("GET", "/openapi.json", 200),
        ("GET", "/holds/problem", 503),
        ("GET", "/holds/fault", 503),
        ("GET", "/holds/unknown", 504),
        ("GET", "/holds/bug", 500),
        ("GET", "/holds/a/confirm", 405),
        ("HEAD", "/holds/a", 405),
        ("DELETE", "/holds/a", 405),
        ("PUT", "/healthz", 405),
        ("GET", "/holds/", 404),
        ("GET", "/holds//", 404),
        ("GET", "/holds/a/", 404),
        ("POST", "/holds//confirm", 404),
        ("POST", "/holds/a/confirm/", 404),
        ("POST", "/holds/a/b/confirm", 404),
        ("POST", "//holds/a/confirm", 404),
        ("GET", "/bookings/a", 404),
        ("GET", "/", 404),
    ],
)
async def test_the_short_way_answers_like_the_framework(
    app: FastAPI, method: str, path: str, status: int
) -> None:
    answer = await ask(app, method, path)
    assert answer.status_code == status, answer.text
    assert len(answer.headers.get_list("x-request-id")) == 1
    assert "hunter2" not in answer.text
    if status >= 400 and method != "HEAD":
        assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("path", "wrong"), [("/mine/a", "/mine/a?x=1"), ("/sizes?size=3", "/sizes?size=x")]
)
async def test_the_gate_stands_before_both_ways(app: FastAPI, path: str, wrong: str) -> None:
    admin = signed_in("adam", Role.ADMIN)
    for headers, status, code in (
        ({}, 401, "token_missing"),
        ({"Authorization": "Bearer x"}, 401, "token_invalid"),
        (signed_in("ann"), 403, "role_not_allowed"),
    ):
        # What is wrong with the rest of the request is nobody's business yet.
        for asked in (path, wrong):
            answer = await ask(app, "GET", asked, headers)
            assert (answer.status_code, answer.json()["code"]) == (status, code)
    answer = await ask(app, "GET", path, admin)
    assert answer.status_code == 200, answer.text
    assert answer.text in (f"a of {account_named('adam')}", "3 for admin")


async def test_what_is_asked_of_a_gate_that_knows_no_keys_can_be_asked_later() -> None:
    app = make_app()
    replace(operation("GET", "/later/{hold_id}"), roles=ADMIN_ONLY).add_to(
        app, mine, Gate(TokenVerifier())
    )
    answer = await ask(app, "GET", "/later/a", signed_in("adam", Role.ADMIN))
    assert (answer.status_code, answer.json()["code"]) == (503, "not_done")
    assert answer.headers["retry-after"] == "1"


async def refuse(self: FastAPI, scope: Scope, receive: Receive, send: Send) -> None:
    raise AssertionError("the framework was asked")


async def test_an_address_with_an_id_or_for_crowds_never_reaches_the_framework(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = make_app()
    monkeypatch.setattr(FastAPI, "__call__", refuse)
    assert (await ask(app, "GET", "/holds/h7")).text == "h7"
    assert (await ask(app, "POST", "/crowds")).text == "one of many"
    with pytest.raises(AssertionError, match="the framework was asked"):
        await ask(app, "GET", "/holds")


@pytest.mark.parametrize("path", ["x/holds/h7", "/x/holds/h7", "/holds/h7/", "/holds/", "", "/"])
async def test_an_address_of_another_form_is_left_to_the_framework(path: str) -> None:
    routes: list[BaseRoute] = [BareRoute("/holds/{hold_id}", confirm, methods=["GET"])]
    direct = DirectRoutes(routes)
    assert not direct.finds({"type": "http", "method": "GET"}, path)
    assert direct.finds({"type": "http", "method": "GET"}, "/holds/h7")


async def test_an_address_without_an_id_is_found_only_where_it_comes_in_crowds() -> None:
    app = make_app()
    replace(operation("POST", "/webhooks/stripe"), comes_in_crowds=True).add_to(app, listing)
    operation("POST", "/sessions/refresh").add_to(app, listing)
    assert app.takes({"type": "http", "method": "POST"}, "/webhooks/stripe")
    for method, path in (
        ("GET", "/webhooks/stripe"),
        ("POST", "/webhooks/other"),
        ("POST", "/webhooks/stripe/x"),
        ("POST", "/sessions/refresh"),
    ):
        assert not app.takes({"type": "http", "method": method}, path)
    assert (await ask(app, "POST", "/webhooks/stripe")).text == "list"


@pytest.mark.parametrize(
    ("method", "path", "takes"),
    [
        ("POST", "/sessions", True),
        ("GET", "/sessions", False),
        ("POST", "/sessions/refresh", False),
        ("POST", "/accounts", False),
        ("DELETE", "/sessions/current", True),
    ],
)
def test_of_the_account_application_only_logins_are_crowds(
    method: str, path: str, takes: bool
) -> None:
    app = build_account_api(never_open_a_desk, gate=open_gate(), body_bytes_max=100)
    assert app.takes({"type": "http", "method": method}, path) is takes


@pytest.mark.parametrize("other", [{"has_query": True}, {"path": "/crowds/{crowd_id}"}])
def test_what_the_framework_has_to_read_cannot_be_reached_the_short_way(
    other: dict[str, Any],
) -> None:
    with pytest.raises(ValueError, match="the short way"):
        replace(operation("POST", "/crowds"), comes_in_crowds=True, **other)


@pytest.fixture
def hosted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that hosts the application, as a replica does."""
    monkeypatch.setattr(serve_headers, "_hosted", serve_headers._Hosted())
    serve_headers.host_here(make_app(), ROOT)


class Serve:
    """Stands where Serve stands, and counts who comes."""

    def __init__(self) -> None:
        self.paths: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.paths.append(scope["path"])
        await Response("served")(scope, receive, send)


async def ask_replica(serve: Serve, method: str, path: str) -> httpx.Response:
    transport = httpx.ASGITransport(serve_headers.ServeHeaders(serve))
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        return await client.request(method, path)


@pytest.mark.usefixtures("hosted")
async def test_commands_and_crowds_go_around_serve_and_nothing_else_does() -> None:
    serve = Serve()
    answer = await ask_replica(serve, "POST", f"{ROOT}/holds/h7/confirm")
    assert (answer.text, serve.paths) == ("h7", [])
    assert (await ask_replica(serve, "POST", f"{ROOT}/crowds")).text == "one of many"
    assert serve.paths == []
    assert len(answer.headers.get_list("x-request-id")) == 1
    assert answer.headers["x-content-type-options"] == "nosniff"
    others = [
        ("GET", f"{ROOT}/holds"),
        ("GET", f"{ROOT}/crowds"),
        ("GET", f"{ROOT}/healthz"),
        ("DELETE", f"{ROOT}/holds/h7"),
        ("GET", f"{ROOT}x/holds/h7"),
        ("GET", "/holds/h7"),
        ("GET", "/"),
    ]
    for method, path in others:
        assert (await ask_replica(serve, method, path)).text == "served"
    assert serve.paths == [path for _, path in others]


@pytest.mark.usefixtures("hosted")
async def test_what_goes_wrong_around_serve_is_a_problem_all_the_same() -> None:
    for what, status in (("problem", 503), ("fault", 503), ("unknown", 504), ("bug", 500)):
        answer = await ask_replica(Serve(), "GET", f"{ROOT}/holds/{what}")
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"
        assert "hunter2" not in answer.text


@pytest.mark.usefixtures("hosted")
async def test_more_commands_than_may_go_around_serve_are_serves_to_refuse(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(serve_headers, "SHORT_REQUESTS_MAX", 1)
    gateway = Gateway()
    GATEWAYS.append(gateway)
    serve = Serve()
    first = asyncio.create_task(ask_replica(serve, "GET", f"{ROOT}/holds/slow"))
    await gateway.reached.wait()
    assert (await ask_replica(serve, "GET", f"{ROOT}/holds/h8")).text == "served"
    gateway.released.set()
    assert (await first).text == "slow"
    assert (await ask_replica(serve, "GET", f"{ROOT}/holds/h9")).text == "h9"


async def test_a_process_that_hosts_nothing_leaves_everything_to_serve(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(serve_headers, "_hosted", serve_headers._Hosted())
    assert (await ask_replica(Serve(), "GET", f"{ROOT}/holds/h7")).text == "served"


async def test_a_body_that_comes_later_is_waited_for_and_one_that_does_not_is_given_up() -> None:
    came = asyncio.Event()
    was_closed = False

    async def receive() -> Message:
        nonlocal was_closed
        try:
            await came.wait()
        except GeneratorExit:
            was_closed = True
            raise
        await asyncio.sleep(0)
        return {"type": "http.request", "body": b"{}", "more_body": False}

    seen: list[Message] = []

    async def send(message: Message) -> None:
        seen.append(message)

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        await Response((await receive())["body"])(scope, receive, send)

    def scope() -> Scope:
        return {"type": "http", "headers": [(b"content-length", b"2")]}

    guard = BodyGuard(answer, bytes_max=10, deadline_ms=60_000)
    reading = asyncio.create_task(guard(scope(), receive, send))
    await asyncio.sleep(0)
    assert not seen
    came.set()
    await reading
    assert (seen[0]["status"], seen[1]["body"]) == (200, b"{}")

    came.clear()
    reading = asyncio.create_task(guard(scope(), receive, send))
    await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert was_closed


LABELS: st.SearchStrategy[object] = st.one_of(
    st.text(max_size=3),
    st.sampled_from(["A" * LABEL_LENGTH_MAX, "A" * (LABEL_LENGTH_MAX + 1)]),
    st.sampled_from([1, True, None, 1.5, [], {}]),
)
SEATS: st.SearchStrategy[object] = st.one_of(
    st.lists(LABELS, max_size=4),
    st.lists(st.just("A"), min_size=SEATS_PER_HOLD_MAX - 1, max_size=SEATS_PER_HOLD_MAX + 1),
    st.sampled_from(["A", None, {}, 1]),
)
BODIES = st.fixed_dictionaries(
    {},
    optional={
        "seats": SEATS,
        "or_nearest": st.sampled_from([True, False, 1, None]),
        "from": st.sampled_from(["A", None, 1]),
        "price": st.just(1),
    },
)


@given(BODIES)
def test_a_body_seen_at_a_glance_means_what_the_schema_says(body: dict[str, Any]) -> None:
    assert outcome(lambda: named_wish_of(body)) == outcome(lambda: by_schema(body))


def by_schema(body: dict[str, Any]) -> NamedWish:
    named = validated(HOLD_NAMED, body)
    return NamedWish(named.seats, named.admissions, named.or_nearest, named.from_, named.to)


def outcome(read: Callable[[], NamedWish]) -> object:
    """What is read, or what is wrong with it."""
    try:
        return read()
    except Problem as problem:
        return problem.members


class Pairs(list[tuple[str, Any]]):
    """The members of an object, as they stand in the text."""


VALUES = st.recursive(
    st.sampled_from(["x", ":", '":', 1, None]),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2),
        st.lists(st.tuples(st.sampled_from(["a", "b", "c:"]), inner), max_size=3).map(Pairs),
    ),
    max_leaves=5,
)


def write(value: object) -> str:
    """JSON in which a name may stand twice."""
    if isinstance(value, Pairs):
        return "{" + ",".join(f"{json.dumps(name)}:{write(v)}" for name, v in value) + "}"
    if isinstance(value, list):
        return "[" + ",".join(write(entry) for entry in value) + "]"
    return json.dumps(value)


def has_repeated_name(value: object) -> bool:
    if isinstance(value, Pairs):
        names = [name for name, _ in value]
        return len(set(names)) < len(names) or any(has_repeated_name(v) for _, v in value)
    return isinstance(value, list) and any(has_repeated_name(entry) for entry in value)


@given(VALUES)
def test_a_name_that_stands_twice_is_always_seen(value: object) -> None:
    scope = {
        "headers": [(b"content-type", b"application/json")],
        "housefull.body": write(value).encode(),
    }
    code = None
    try:
        read_json(scope)
    except Problem as problem:
        code = problem.code
    if has_repeated_name(value):
        assert code == "malformed_json"
    else:
        assert code == (None if isinstance(value, Pairs) else "invalid_request")


@given(st.integers(min_value=31_622_400_000, max_value=32_503_679_999_999))
def test_an_instant_that_is_written_is_read_back(at_ms: int) -> None:
    text = write_instant(at_ms)
    assert len(text) == 24
    assert read_instant(text) == at_ms


class ManyShows:
    """A catalogue in which every id is a show, each with a plan of its own."""

    async def renew_listings(self, known: Mapping[ShowId, int | None]) -> dict[ShowId, Listed]:
        return {show_id: Listed(self.listing_of(show_id), 1) for show_id in known}

    def listing_of(self, show_id: ShowId) -> ShowListing:
        return ShowListing(
            show_id,
            show_id,
            ShowKind.PERFORMANCE,
            "Lear",
            "House",
            0,
            1,
            0,
            "UTC",
            f"plan of {show_id}",
            None,
            FareTable("EUR", (CategoryFare(1),)),
            Placement.DEDICATED,
        )

    async def load_plan(self, plan_id: str) -> SeatingPlan:
        return build_plan([("S", plan_id, 2, ())])

    async def load_route(self, route_id: str) -> Route:
        raise AssertionError("no show has a route")


async def test_plans_of_few_shows_are_kept_and_each_with_its_own_show(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(show_facts, "HOT_SHOWS_MAX", 3)
    cache = show_facts.ShowFactsCache(ManyShows())
    shows = [derive_show_id(str(number)) for number in range(6)]
    for show_id in [*shows, *reversed(shows), *shows]:
        for _ in range(2):
            facts = await cache.facts(show_id)
            assert facts.listing.show_id == show_id
            assert facts.plan.labels[0].startswith(f"S-plan of {show_id}")
    assert len(cache._hot) == 3
