"""What every route of the organiser application does first: for whom is it, and what is asked.

An organiser, a box office and a gate act for the tenant in their token. An admin belongs to no
tenant and says for whom with ``?tenant_id=``; nobody else may say it.
"""

from __future__ import annotations

from typing import TypeVar

from pydantic import TypeAdapter
from starlette.requests import Request

from reservation.access import TENANT_ROLES, Principal
from reservation.ids import TenantId, is_tenant_id
from serve_app.api.edge import Opened
from serve_app.api.front import request_id_of
from serve_app.api.limits import RequestLimits, Rule
from serve_app.api.organiser.acting import Acting
from serve_app.api.organiser.audit_trail import AuditTrail
from serve_app.api.organiser.desk import OrganiserDesk
from serve_app.api.organiser.fields import TenantQuery
from serve_app.api.principals import principal_of
from serve_app.api.problems import Problem, bad_field
from serve_app.api.query_models import read_query

_Query = TypeVar("_Query", bound=TenantQuery)


class Counter:
    """Where the handlers of every noun stand: what they turn to, and what they do first."""

    def __init__(self, opened: Opened, limits: RequestLimits) -> None:
        self._opened = opened
        self._limits = limits

    @property
    def desk(self) -> OrganiserDesk:
        """The desk.

        Raises:
            Problem: ``not_done``: the application is starting or stopping.
        """
        desk: OrganiserDesk | None = self._opened.desk
        if desk is None:
            raise Problem("not_done", "The application is starting or stopping.")
        return desk

    @property
    def audit(self) -> AuditTrail:
        """Where changes are written down."""
        return AuditTrail(self.desk.audit_log, self.desk.now_ms)

    async def begin(self, request: Request, query: TypeAdapter[_Query]) -> tuple[Acting, _Query]:
        """Who acts, and what the query says.

        Raises:
            Problem: ``too_many_requests``, ``invalid_request``, or ``not_found`` for a tenant
                that there is not.
        """
        principal = principal_of(request)
        await self._limits.admit(request.scope, Rule.ORGANISER, principal.account_id)
        asked = read_query(query, request)
        tenant_id = await self._tenant_of(principal, asked.tenant_id)
        return Acting(principal, tenant_id, request_id_of(request.scope)), asked

    async def _tenant_of(self, principal: Principal, named: str | None) -> TenantId:
        if principal.role in TENANT_ROLES:
            if named is not None:
                raise bad_field("tenant_id", "is for admins; a token of a tenant names its own")
            assert principal.tenant_id is not None, "a role of a tenant without one"
            return principal.tenant_id
        if named is None:
            raise bad_field("tenant_id", "is missing; an admin says for whom")
        if not is_tenant_id(named) or await self.desk.tenants.find_tenant(TenantId(named)) is None:
            raise Problem("not_found", "There is no tenant with this id.")
        return TenantId(named)
