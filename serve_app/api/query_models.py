"""Queries of routes that take the bare request: read by a model, and described by the same one."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter
from starlette.requests import Request

from serve_app.api.strict_json import validated

_Query = TypeVar("_Query", bound=BaseModel)


def read_query(adapter: TypeAdapter[_Query], request: Request) -> _Query:
    """The query of this request. That no name is there twice was seen to by the front.

    Raises:
        Problem: ``invalid_request``, naming every parameter that is wrong or not known.
    """
    return validated(adapter, dict(request.query_params))


def query_parameters(model: type[BaseModel]) -> list[dict[str, Any]]:
    """What OpenAPI says about the parameters of a query that this model reads.

    Example:
        >>> from serve_app.api.query_fields import Limit
        >>> class Page(BaseModel):
        ...     limit: Limit = 20
        >>> query_parameters(Page)[0]["name"], query_parameters(Page)[0]["required"]
        ('limit', False)
    """
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    required = schema.get("required", ())
    parameters = []
    for name, of_member in schema.get("properties", {}).items():
        described = {key: value for key, value in of_member.items() if key != "title"}
        parameter: dict[str, Any] = {"name": name, "in": "query", "required": name in required}
        if "description" in described:
            parameter["description"] = described.pop("description")
        parameter["schema"] = _without_null(described)
        parameters.append(parameter)
    return parameters


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A query has no null: a parameter that may be left out is simply absent."""
    choices = schema.get("anyOf")
    if choices is None:
        return {
            key: value for key, value in schema.items() if key != "default" or value is not None
        }
    (choice,) = [choice for choice in choices if choice != {"type": "null"}]
    rest = {key: value for key, value in schema.items() if key not in ("anyOf", "default")}
    return {**rest, **choice}
