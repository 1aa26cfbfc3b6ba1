"""The account that asks, and its API keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import Query, Request
from starlette.responses import Response

from persistence.account_registry import AccountRow
from persistence.api_keys import ApiKeyRefused, ApiKeyRow
from reservation.access import Principal, Role, key_roles_of
from reservation.ids import ApiKeyId, is_api_key_id
from serve_app.api.account.codes import digest_of, new_api_key
from serve_app.api.account.desk import AccountDesk
from serve_app.api.account.schemas import API_KEY, ME, NEW_API_KEY, PageQuery
from serve_app.api.account.tokens import (
    CHALLENGE,
    access_view,
    account_not_found,
    admitted,
    find_own,
)
from serve_app.api.cursors import read_cursor, write_cursor
from serve_app.api.edge import json_response
from serve_app.api.hold_views import View
from serve_app.api.instants import write_instant
from serve_app.api.limits import RequestLimits, Rule
from serve_app.api.problems import Problem, bad_field
from serve_app.api.strict_json import read_json, read_nothing, validated


class MeRoutes:
    """The handlers."""

    def __init__(self, desk: Callable[[], AccountDesk], limits: RequestLimits) -> None:
        self._desk = desk
        self._limits = limits

    async def find_me(self, request: Request) -> Response:
        principal = await admitted(self._limits, request, Rule.READ)
        return json_response(_view_of_me(await find_own(self._desk(), request), principal))

    async def change_me(self, request: Request) -> Response:
        principal = await admitted(self._limits, request, Rule.COMMAND)
        body = validated(ME, read_json(request.scope))
        desk = self._desk()
        await desk.accounts.set_name(principal.account_id, body.name)
        return json_response(_view_of_me(await find_own(desk, request), principal))

    # -- API keys -----------------------------------------------------------------------

    async def list_api_keys(
        self, request: Request, query: Annotated[PageQuery, Query()]
    ) -> Response:
        principal = await admitted(self._limits, request, Rule.READ)
        after = _api_key_cursor(query.cursor)
        page = await self._desk().accounts.list_api_keys(principal.account_id, after, query.limit)
        view: View = {"api_keys": [_view_of_key(row) for row in page.keys]}
        if page.next is not None:
            view["next"] = write_cursor(0, page.next)
        return json_response(view)

    async def create_api_key(self, request: Request) -> Response:
        principal = await admitted(self._limits, request, Rule.COMMAND)
        body = validated(NEW_API_KEY, read_json(request.scope))
        desk = self._desk()
        now_ms = desk.now_ms()
        if body.expires_at is not None and body.expires_at <= now_ms:
            raise bad_field("expires_at", "is not in the future")
        role = principal.role if body.role is None else Role(body.role)
        # Not above what asks, which may itself be a machine with less than its account has.
        if role not in key_roles_of(principal.role):
            raise Problem("role_not_allowed", f"You may not make a key with the role {role}.")
        account = await find_own(desk, request)
        if account.email_verified_at_ms is None:
            # Whoever signed up with somebody else's address must not keep a way in.
            raise Problem("email_not_verified", "Confirm your e-mail address first.")
        key = new_api_key()
        key_id = await desk.accounts.create_api_key(
            account.account_id, body.name, role, digest_of(key), body.expires_at, now_ms
        )
        if isinstance(key_id, ApiKeyRefused):
            raise _problem_of_key(key_id)
        row = ApiKeyRow(key_id, body.name, role, now_ms, body.expires_at, None, None)
        return json_response({**_view_of_key(row), "api_key": key}, 201)

    async def delete_api_key(self, request: Request) -> Response:
        principal = await admitted(self._limits, request, Rule.COMMAND)
        read_nothing(request.scope)
        key_id = ApiKeyId(request.path_params["api_key_id"])
        if not await self._desk().accounts.revoke_api_key(key_id, account_id=principal.account_id):
            raise Problem("api_key_not_found", "You have no API key with this id.")
        return Response(status_code=204)

    async def exchange_api_key(self, request: Request) -> Response:
        body = validated(API_KEY, read_json(request.scope))
        await self._limits.admit(request.scope, Rule.TOKEN_USE, body.api_key)
        desk = self._desk()
        use = await desk.accounts.use_api_key(digest_of(body.api_key), desk.now_ms())
        if use is None:
            raise Problem("api_key_invalid", "The API key is not valid now.", headers=CHALLENGE)
        return json_response(access_view(desk, use.principal))


def _view_of_me(account: AccountRow, principal: Principal) -> View:
    view: View = {
        "account_id": account.account_id,
        "email": account.email,
        "email_verified": account.email_verified_at_ms is not None,
        "name": account.name,
        "role": principal.role,
        "created_at": write_instant(account.created_at_ms),
    }
    if principal.tenant_id is not None:
        view["tenant_id"] = principal.tenant_id
    return view


def _view_of_key(row: ApiKeyRow) -> View:
    view: View = {
        "api_key_id": row.key_id,
        "name": row.name,
        "role": row.role,
        "created_at": write_instant(row.created_at_ms),
    }
    for member, at_ms in (
        ("expires_at", row.expires_at_ms),
        ("last_used_at", row.last_used_at_ms),
        ("deleted_at", row.revoked_at_ms),
    ):
        if at_ms is not None:
            view[member] = write_instant(at_ms)
    return view


def _api_key_cursor(cursor: str | None) -> ApiKeyId | None:
    if cursor is None:
        return None
    _, key_id = read_cursor(cursor)
    if not is_api_key_id(key_id):
        raise bad_field("cursor", "is not a cursor of this list")
    return ApiKeyId(key_id)


def _problem_of_key(refused: ApiKeyRefused) -> Problem:
    if refused is ApiKeyRefused.NO_ACCOUNT:
        return account_not_found()
    if refused is ApiKeyRefused.TOO_MANY:
        return Problem("too_many_api_keys", "Delete a key that is not needed any more first.")
    return Problem("role_not_allowed", "The account may not have a key with this role any more.")
