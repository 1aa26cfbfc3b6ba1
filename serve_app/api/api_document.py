"""What OpenAPI says about routes that read their requests themselves.

The routes take the bare request, so the framework sees neither parameters nor bodies. They are
described here instead; the descriptions are made of the same models that check the requests.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
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

from serve_app.api.problems import KINDS, MEDIA_TYPE, TYPE_PREFIX

CUSTOMER_SCHEME = "customer"

_REF = "#/components/schemas/{model}"
_EXAMPLES_MAX = 3
_ANYWHERE = (
    "invalid_target",
    "invalid_header",
    "not_found",
    "method_not_allowed",
    "body_too_slow",
    "body_too_large",
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


@dataclass(frozen=True, slots=True)
class Operation:
    """One route: its address, and what is said about it.

    ``has_query`` says that the handler takes a model of its query beside the request.
    """

    method: str
    path: str
    _: KW_ONLY
    summary: str
    tag: str
    responses: dict[int | str, dict[str, Any]]
    extra: dict[str, Any]
    status: int = 200
    description: str = ""
    has_query: bool = False

    def add_to(self, app: FastAPI, handler: Callable[..., Awaitable[Response]]) -> None:
        """Let ``handler`` answer at this address."""
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
            responses=self.responses,
            openapi_extra=self.extra,
            route_class_override=None if self.has_query else BareRoute,
        )


def problems(*codes: str) -> dict[int | str, dict[str, Any]]:
    """The responses of a route for these problems and for those that can happen anywhere."""
    by_status: dict[int | str, dict[str, Any]] = {}
    for code in dict.fromkeys((*codes, *_ANYWHERE)):
        kind = KINDS[code]
        response = by_status.setdefault(
            kind.status,
            {
                "description": "",
                "content": {MEDIA_TYPE: {"schema": {"$ref": _ref("Problem")}, "examples": {}}},
            },
        )
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
    return by_status


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


def describe(app: FastAPI, models: Iterable[type[BaseModel]], *, has_customers: bool) -> None:
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
            if has_customers:
                components["securitySchemes"] = {CUSTOMER_SCHEME: _SCHEME}
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
    "type": "apiKey",
    "in": "header",
    "name": "X-Customer-Id",
    "description": (
        "Who is asking, 1 to 64 of `A-Z a-z 0-9 _ . @ : -`. There are no accounts yet, so this is "
        "accepted only from the machine that the house runs on."
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
    summary="Is this process alive?",
    description="Touches nothing; also the measure of what an empty request costs.",
    responses={**_ALIVE, **problems()},
    extra={},
)

READYZ = Operation(
    "GET",
    "/readyz",
    tag="health",
    summary="Can this process reach its databases?",
    responses={**_ALIVE, **problems("not_done")},
    extra={},
)
