"""Who may act, who acts, and what a request to change something has to have."""

from __future__ import annotations

from typing import NamedTuple, TypeVar

from pydantic import BaseModel, TypeAdapter
from starlette.requests import Request

from reservation.access import Principal, Role
from reservation.ids import TenantId
from serve_app.api.edge import IDEMPOTENCY_KEY, idempotency_key_of
from serve_app.api.organiser.fields import TenantQuery
from serve_app.api.problems import Problem
from serve_app.api.strict_json import read_json, validated

ORGANISERS = frozenset({Role.ORGANISER, Role.ADMIN})
"""Who changes things."""

BOX_OFFICE = ORGANISERS | {Role.BOX_OFFICE}
"""Who sells, and so sees what was sold to whom."""

STAFF = BOX_OFFICE | {Role.GATE}
"""Everybody of the house."""

_Body = TypeVar("_Body", bound=BaseModel)


class Acting(NamedTuple):
    """Who acts, and for whom. ``request_id`` is for what is written down about it."""

    principal: Principal
    tenant_id: TenantId
    request_id: str


ANY_QUERY: TypeAdapter[TenantQuery] = TypeAdapter(TenantQuery)


def body_of(adapter: TypeAdapter[_Body], request: Request) -> _Body:
    """The body of this request.

    Raises:
        Problem: it is no JSON, or not what the schema of ``adapter`` describes.
    """
    return validated(adapter, read_json(request.scope))


def creation_key(request: Request) -> str:
    """The key that makes a creation harmless to repeat.

    Raises:
        Problem: ``idempotency_key_missing``, or ``invalid_header``.
    """
    key = idempotency_key_of(request.scope)
    if key is None:
        detail = f"This needs the header {IDEMPOTENCY_KEY}; choose a new one for each creation."
        raise Problem("idempotency_key_missing", detail)
    return key
