"""Looking after accounts and tenants: admins everywhere, organisers among their own staff.

An organiser's tenant is the one that his token says. An account that does not concern him is
answered as if it were not there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated

from fastapi import Query, Request
from starlette.responses import Response

from persistence.account_registry import AccountPage, AccountRow, AccountState
from persistence.audit_log import AuditEntry
from persistence.tenants import TenantRow
from reservation.access import TENANT_ROLES, Principal, Role, fits_tenant
from reservation.ids import AccountId, TenantId, is_account_id, is_tenant_id
from serve_app.api.account.desk import AccountDesk
from serve_app.api.account.schemas import NEW_TENANT, ROLE, AccountsQuery, PageQuery, RoleBody
from serve_app.api.account.tokens import account_not_found, admitted
from serve_app.api.cursors import read_cursor, write_cursor
from serve_app.api.edge import json_response
from serve_app.api.front import request_id_of
from serve_app.api.hold_views import View
from serve_app.api.instants import write_instant
from serve_app.api.limits import RequestLimits, Rule
from serve_app.api.principals import principal_of
from serve_app.api.problems import Problem, bad_field
from serve_app.api.strict_json import read_json, read_nothing, validated

_GIVEN_BY_ORGANISERS = frozenset({Role.CUSTOMER, Role.GATE, Role.BOX_OFFICE})


class AdministrationRoutes:
    """The handlers; see the module's docstring."""

    def __init__(self, desk: Callable[[], AccountDesk], limits: RequestLimits) -> None:
        self._desk = desk
        self._limits = limits

    async def list_accounts(
        self, request: Request, query: Annotated[AccountsQuery, Query()]
    ) -> Response:
        principal = await self._admitted(request)
        page = await _page_of_accounts(self._desk(), principal, query)
        view: View = {"accounts": [_view_of_account(row) for row in page.accounts]}
        if page.next is not None:
            view["next"] = write_cursor(0, page.accounts[-1].account_id)
        return json_response(view)

    async def set_role(self, request: Request) -> Response:
        principal = await self._admitted(request)
        body = validated(ROLE, read_json(request.scope))
        role = Role(body.role)
        tenant_id = _tenant_of(principal, role, body)
        desk = self._desk()
        account = await _find_other(desk, request, principal)
        if account.role is role and account.tenant_id == tenant_id:
            return json_response(_view_of_account(account))
        if tenant_id is not None and await desk.accounts.find_tenant(tenant_id) is None:
            raise Problem("tenant_not_found", "There is no tenant with this id.")
        before = {"role": account.role.value, "tenant_id": account.tenant_id}
        after = {"role": role.value, "tenant_id": tenant_id}
        entry = _entry(desk, request, account, "role_set", before, after)
        standing = (account.role, account.tenant_id)
        if not await desk.accounts.set_role(
            account.account_id, role, tenant_id, only_from=standing, audit=entry
        ):
            # Somebody else was faster, and may have made it an account of no concern here.
            raise account_not_found()
        return await _as_it_is_now(desk, account.account_id)

    async def disable(self, request: Request) -> Response:
        return await self._let_in_or_out(request, "account_disabled")

    async def enable(self, request: Request) -> Response:
        return await self._let_in_or_out(request, "account_enabled")

    async def list_tenants(
        self, request: Request, query: Annotated[PageQuery, Query()]
    ) -> Response:
        await self._admitted(request)
        after = _tenant_cursor(query.cursor)
        page = await self._desk().accounts.list_tenants(after, query.limit)
        view: View = {"tenants": [_view_of_tenant(row) for row in page.tenants]}
        if page.next is not None:
            view["next"] = write_cursor(0, page.next)
        return json_response(view)

    async def create_tenant(self, request: Request) -> Response:
        principal = await self._admitted(request)
        body = validated(NEW_TENANT, read_json(request.scope))
        desk = self._desk()

        def entry_of(tenant_id: TenantId) -> AuditEntry:
            return AuditEntry(
                at_ms=desk.now_ms(),
                account_id=principal.account_id,
                tenant_id=tenant_id,
                action="tenant_created",
                object_id=tenant_id,
                after={"name": body.name},
                request_id=request_id_of(request.scope),
            )

        tenant_id = await desk.accounts.create_tenant(body.name, audit=entry_of)
        tenant = await desk.accounts.find_tenant(tenant_id)
        assert tenant is not None, f"{tenant_id} was made and is not there"
        return json_response(_view_of_tenant(tenant), 201)

    async def _admitted(self, request: Request) -> Principal:
        return await admitted(self._limits, request, Rule.ORGANISER)

    async def _let_in_or_out(self, request: Request, action: str) -> Response:
        principal = await self._admitted(request)
        read_nothing(request.scope)
        desk = self._desk()
        account = await _find_other(desk, request, principal)
        is_entering = action == "account_enabled"
        state = AccountState.ACTIVE if is_entering else AccountState.DISABLED
        if account.state is not state:
            before, after = {"state": account.state.value}, {"state": state.value}
            entry = _entry(desk, request, account, action, before, after)
            change = desk.accounts.enable if is_entering else desk.accounts.disable
            await change(account.account_id, audit=entry)
        return await _as_it_is_now(desk, account.account_id)


def _tenant_of(principal: Principal, role: Role, body: RoleBody) -> TenantId | None:
    """The tenant that an account with this role is going to belong to."""
    if principal.role is Role.ADMIN:
        tenant_id = None if body.tenant_id is None else TenantId(body.tenant_id)
        if not fits_tenant(role, tenant_id):
            needs = "is needed for" if role in TENANT_ROLES else "is not for"
            raise bad_field("tenant_id", f"{needs} the role {role}")
        return tenant_id
    if role not in _GIVEN_BY_ORGANISERS:
        raise Problem("role_not_allowed", f"You may not give the role {role}.")
    if body.tenant_id is not None and body.tenant_id != principal.tenant_id:
        raise Problem("tenant_not_found", "There is no tenant with this id.")
    return principal.tenant_id if role in TENANT_ROLES else None


async def _page_of_accounts(
    desk: AccountDesk, principal: Principal, query: AccountsQuery
) -> AccountPage:
    after = _account_cursor(query.cursor)
    if principal.tenant_id is not None:
        if query.email is not None:
            raise bad_field("email", "is for admins; an organiser's list has the own staff only")
        return await desk.accounts.list_staff(principal.tenant_id, after, query.limit)
    last = None if after is None else await desk.accounts.find(after)
    if after is not None and last is None:
        raise bad_field("cursor", "is not a cursor of this list")
    # The list of all goes by e-mail address; no cursor shall have one, for it lands in logs.
    after_email = None if last is None else last.email
    return await desk.accounts.search_accounts(query.email or "", after_email, query.limit)


async def _find_other(desk: AccountDesk, request: Request, principal: Principal) -> AccountRow:
    """The account in the address, if it concerns whoever asks and is not himself."""
    account = await desk.accounts.find(AccountId(request.path_params["account_id"]))
    if account is None or not _concerns(principal, account):
        raise account_not_found()
    if account.account_id == principal.account_id:
        # An admin who locks himself out may have been the last one.
        raise Problem("own_account", "Somebody else has to do this.")
    return account


def _concerns(principal: Principal, account: AccountRow) -> bool:
    if principal.role is Role.ADMIN or account.account_id == principal.account_id:
        return True
    is_own = account.tenant_id in (None, principal.tenant_id)
    return is_own and account.role in _GIVEN_BY_ORGANISERS


def _entry(
    desk: AccountDesk,
    request: Request,
    account: AccountRow,
    action: str,
    before: Mapping[str, object],
    after: Mapping[str, object],
) -> AuditEntry:
    principal = principal_of(request)
    return AuditEntry(
        at_ms=desk.now_ms(),
        account_id=principal.account_id,
        tenant_id=principal.tenant_id or account.tenant_id,
        action=action,
        object_id=account.account_id,
        before=before,
        after=after,
        request_id=request_id_of(request.scope),
    )


async def _as_it_is_now(desk: AccountDesk, account_id: AccountId) -> Response:
    account = await desk.accounts.find(account_id)
    if account is None:
        raise account_not_found()
    return json_response(_view_of_account(account))


def _view_of_account(account: AccountRow) -> View:
    view: View = {
        "account_id": account.account_id,
        "email": account.email,
        "email_verified": account.email_verified_at_ms is not None,
        "name": account.name,
        "role": account.role,
        "state": account.state,
        "created_at": write_instant(account.created_at_ms),
    }
    if account.tenant_id is not None:
        view["tenant_id"] = account.tenant_id
    return view


def _view_of_tenant(tenant: TenantRow) -> View:
    return {
        "tenant_id": tenant.tenant_id,
        "name": tenant.name,
        "created_at": write_instant(tenant.created_at_ms),
    }


def _account_cursor(cursor: str | None) -> AccountId | None:
    if cursor is None:
        return None
    _, account_id = read_cursor(cursor)
    if not is_account_id(account_id):
        raise bad_field("cursor", "is not a cursor of this list")
    return AccountId(account_id)


def _tenant_cursor(cursor: str | None) -> TenantId | None:
    if cursor is None:
        return None
    _, tenant_id = read_cursor(cursor)
    if not is_tenant_id(tenant_id):
        raise bad_field("cursor", "is not a cursor of this list")
    return TenantId(tenant_id)
