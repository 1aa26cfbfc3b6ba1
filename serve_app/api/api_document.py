"""What OpenAPI says about routes that read their requests themselves.

The routes take the bare request, so the framework sees neither parameters nor bodies. They are
described here instead; the descriptions are made of the same models that check the requests.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Annotated, Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, request_response
from starlette.types import Scope

from reservation.access import Role
from serve_app.api.principals import PUBLIC, SIGNED_IN, Audience, Gate
from serve_app.api.problems import KINDS, MEDIA_TYPE, TYPE_PREFIX

BEARER_SCHEME = "bearer"

ROLES = "x-roles"
"""Where the description of a route says whom it is for; public ones do not say it."""

_REF = "#/components/schemas/{model}"
_EXAMPLES_MAX = 3
_ANYWHERE = (
    "invalid_target",
    "invalid_header",
    "not_found",
    "method_not_allowed",
    "body_too_slow",
    "body_too_large",
    "too_many_requests",
    "internal_error",
)


class ProblemError(BaseModel):
    """One mistake in a request."""

    field: Annotated[str, Field(examples=["seats[3]"])]
    reason: Annotated[str, Field(examples=["is named twice"])]


class ProblemView(BaseModel):
    """What went wrong (RFC 9457). Decide by `code`; the texts may change."""

    model_config = ConfigDict(title="Problem", extra="allow")

    type: Annotated[str, Field(examples=[TYPE_PREFIX + "seat_unavailable"])]
    title: str
    status: int
    detail: str
    code: Annotated[str, Field(examples=["seat_unavailable"])]
    errors: Annotated[
        list[ProblemError] | None, Field(description="The fields of a request that is not valid.")
    ] = None
    seats: Annotated[list[str] | None, Field(description="Labels of the seats that clash.")] = None
    tiers: Annotated[list[str] | None, Field(description="Codes of the tiers that are full.")] = (
        None
    )
    retry: Annotated[str | None, Field(description="What helps.")] = None


Handler = Callable[[Request], Awaitable[Response]]


class BareRoute(APIRoute):
    """A route whose handler takes the request and returns the response, and nothing else.

    The framework would look for dependencies, parameters and clean-up work in every request;
    there are none here, and looking costs more than the handler of an empty request.
    """

    def __init__(self, path: str, endpoint: Handler, **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        self.handler = endpoint
        self.app = request_response(endpoint)
        self._ending = path.rpartition("}")[2]

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Whether this is the route of a request.

        Serve asks every route of the application until one says yes, for each request. Most can
        say no before anything is taken apart.
        """
        if scope["type"] == "http" and not scope["path"].endswith(self._ending):
            return Match.NONE, {}
        return super().matches(scope)


class CrowdRoute(BareRoute):
    """One that comes in crowds, and takes the short way though its address has no id
    (``direct_routes``).
    """


@dataclass(frozen=True, slots=True)
class Operation:
    """One route: its address, whom it is for, and what is said about it.

    ``roles`` must be said: a route is for certain roles, for ``SIGNED_IN`` or for ``PUBLIC``. What
    a gate answers to others need not be among ``responses``. ``has_query`` says that the handler
    takes a model of its query beside the request. ``comes_in_crowds``: see ``CrowdRoute``; what the
    handler of such a route waits for has a bound of its own.
    """

    method: str
    path: str
    _: KW_ONLY
    summary: str
    tag: str
    roles: Audience
    responses: dict[int | str, dict[str, Any]]
    extra: dict[str, Any]
    status: int = 200
    description: str = ""
    has_query: bool = False
    comes_in_crowds: bool = False

    def __post_init__(self) -> None:
        if self.comes_in_crowds and (self.has_query or "{" in self.path):
            raise ValueError(f"{self.method} {self.path}: this cannot be reached the short way")
        if self.roles is not PUBLIC:
            is_set_of_roles = isinstance(self.roles, frozenset) and self.roles <= SIGNED_IN
            if not self.roles or not is_set_of_roles:
                raise ValueError(f"{self.method} {self.path}: for whom is it? {self.roles!r}")

    def add_to(
        self,
        app: FastAPI,
        handler: Callable[..., Awaitable[Response]],
        gate: Gate | None = None,
    ) -> None:
        """Let ``handler`` answer at this address those whom ``gate`` lets in.

        Raises:
            ValueError: the route is not public and there is no gate.
        """
        responses, extra = self.responses, self.extra
        route_class = _class_of(self)
        if self.roles is not PUBLIC:
            if gate is None:
                raise ValueError(f"{self.method} {self.path}: a gate is missing")
            responses = _with_refusals(responses, self.roles)
            extra = {**extra, "security": [{BEARER_SCHEME: []}], ROLES: sorted(self.roles)}
            if self.has_query:
                route_class = _behind(gate, self.roles)
            else:
                handler = _guarded(handler, gate, self.roles)
        app.router.add_api_route(
            self.path,
            handler,
            methods=[self.method],
            status_code=self.status,
            # The handlers build their responses themselves; nothing is serialised twice.
            response_model=None,
            summary=self.summary,
            description=self.description,
            tags=[self.tag],
            operation_id=handler.__name__,
            responses=responses,
            openapi_extra=extra,
            route_class_override=route_class,
        )


def _class_of(operation: Operation) -> type[APIRoute]:
    if operation.has_query:
        return APIRoute
    return CrowdRoute if operation.comes_in_crowds else BareRoute


def _guarded(handler: Handler, gate: Gate, roles: frozenset[Role]) -> Handler:
    """The handler with the gate before it."""

    @functools.wraps(handler)
    async def guarded(request: Request) -> Response:
        gate.admit(request.scope, roles)
        return await handler(request)

    return guarded


def _behind(gate: Gate, roles: frozenset[Role]) -> type[APIRoute]:
    """Routes whose parameters the framework reads, with the gate before that."""

    class GuardedRoute(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handler = super().get_route_handler()

            async def guarded(request: Request) -> Response:
                gate.admit(request.scope, roles)
                return await handler(request)

            return guarded

    return GuardedRoute


def _with_refusals(
    responses: dict[int | str, dict[str, Any]], roles: frozenset[Role]
) -> dict[int | str, dict[str, Any]]:
    """The responses of a route, and those of the gate before it."""
    codes = ["token_missing", "token_invalid", "not_done"]
    if roles != SIGNED_IN:
        codes.append("role_not_allowed")
    described = copy.deepcopy(responses)
    for code in codes:
        _add_problem(described, code)
    return described


def problems(*codes: str) -> dict[int | str, dict[str, Any]]:
    """The responses of a route for these problems and for those that can happen anywhere."""
    by_status: dict[int | str, dict[str, Any]] = {}
    for code in (*codes, *_ANYWHERE):
        _add_problem(by_status, code)
    return by_status


def _add_problem(by_status: dict[int | str, dict[str, Any]], code: str) -> None:
    kind = KINDS[code]
    response = by_status.setdefault(
        kind.status,
        {
            "description": "",
            "content": {MEDIA_TYPE: {"schema": {"$ref": _ref("Problem")}, "examples": {}}},
        },
    )
    if f"`{code}`" in response["description"]:
        return
    response["description"] += f"{'; ' if response['description'] else ''}`{code}`"
    examples = response["content"][MEDIA_TYPE]["examples"]
    if len(examples) < _EXAMPLES_MAX:
        examples[code] = {
            "value": {
                "type": TYPE_PREFIX + code,
                "title": kind.title,
                "status": kind.status,
                "detail": f"{kind.title}.",
                "code": code,
            }
        }
    if kind.status == 503:
        response["headers"] = {"Retry-After": {"schema": {"type": "string"}}}
    if kind.status == 401:
        response["headers"] = {"WWW-Authenticate": {"schema": {"type": "string"}}}


def header(name: str, description: str, schema: Mapping[str, Any], *, required: bool) -> Any:
    """A header parameter."""
    return {
        "name": name,
        "in": "header",
        "required": required,
        "description": description,
        "schema": dict(schema),
    }


def path(name: str, example: str) -> Any:
    """An id in the address."""
    return {
        "name": name,
        "in": "path",
        "required": True,
        "schema": {"type": "string"},
        "example": example,
    }


def body(*models: type[BaseModel], required: bool = True) -> dict[str, Any]:
    """The request body: one of these models, which ``describe`` must be given too."""
    refs = [{"$ref": _ref(title_of(model))} for model in models]
    schema: dict[str, Any] = refs[0] if len(refs) == 1 else {"oneOf": refs}
    return {"required": required, "content": {"application/json": {"schema": schema}}}


def describe(app: FastAPI, models: Iterable[type[BaseModel]]) -> None:
    """Let ``app`` publish its description, these models and the problem included."""
    listed: Sequence[type[BaseModel]] = [*models, ProblemView]
    # Few ask for the description; its own route stands first and would be tried each time.
    app.router.routes.sort(key=lambda route: not isinstance(route, APIRoute))

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(
                title=app.title,
                version=app.version,
                summary=app.summary,
                description=app.description,
                routes=app.routes,
                tags=app.openapi_tags,
                servers=app.servers,
            )
            components = document.setdefault("components", {})
            schemas = components.setdefault("schemas", {})
            _, definitions = models_json_schema(
                [(model, "validation") for model in listed], ref_template=_REF
            )
            schemas.update(_by_title(definitions.get("$defs", {})))
            components["securitySchemes"] = {BEARER_SCHEME: _SCHEME}
            app.openapi_schema = _renamed(document, listed)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI documents this way.


def title_of(model: type[BaseModel]) -> str:
    """The name of a model in the description."""
    return model.model_config.get("title") or model.__name__


def _by_title(definitions: Mapping[str, Any]) -> dict[str, Any]:
    return {schema.get("title", name): schema for name, schema in definitions.items()}


def _renamed(document: dict[str, Any], models: Iterable[type[BaseModel]]) -> dict[str, Any]:
    """The document with references by title; the framework refers by the name of the class."""
    titles = {_ref(model.__name__): _ref(title_of(model)) for model in models}

    def walk(node: Any) -> Any:
        if isinstance(node, dict):
            return {
                key: titles.get(value, value) if key == "$ref" else walk(value)
                for key, value in node.items()
            }
        return [walk(item) for item in node] if isinstance(node, list) else node

    renamed: dict[str, Any] = walk(document)
    schemas = renamed["components"]["schemas"]
    for model in models:
        if title_of(model) != model.__name__:
            schemas.pop(model.__name__, None)
    return renamed


def _ref(name: str) -> str:
    return _REF.format(model=name)


_SCHEME = {
    "type": "http",
    "scheme": "bearer",
    "bearerFormat": "JWT",
    "description": (
        "An access token of the account application, which lives for ten minutes. Routes without "
        "this are public."
    ),
}

_ALIVE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Yes.",
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["status"],
                    "properties": {"status": {"const": "ok"}},
                }
            }
        },
    }
}

HEALTHZ = Operation(
    "GET",
    "/healthz",
    tag="health",
    roles=PUBLIC,
    summary="Is this process alive?",
    description="Touches nothing; also the measure of what an empty request costs.",
    responses={**_ALIVE, **problems()},
    extra={},
)

READYZ = Operation(
    "GET",
    "/readyz",
    tag="health",
    roles=PUBLIC,
    summary="Can this process reach its databases?",
    responses={**_ALIVE, **problems("not_done")},
    extra={},
)
