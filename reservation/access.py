"""Who may do what: the roles of an account, and the tenant whose shows it works for.

A *tenant* is an organiser's house: its shows, its staff, its attendees. ``organiser``, ``gate``
and ``box_office`` belong to exactly one tenant; ``customer`` and ``admin`` belong to none. Every
account may buy for itself, whatever its role.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from reservation.ids import AccountId, SessionId, TenantId


class Role(StrEnum):
    """What an account is for. An account has one."""

    CUSTOMER = "customer"
    ORGANISER = "organiser"
    GATE = "gate"
    BOX_OFFICE = "box_office"
    ADMIN = "admin"


TENANT_ROLES = frozenset({Role.ORGANISER, Role.GATE, Role.BOX_OFFICE})
"""The roles that belong to exactly one tenant; the others belong to none."""

HOUSE_TENANT = TenantId("tnt_" + "0" * 20)
"""The tenant that owns what the command line imports. Every database has it from the start."""

_OWN_KEY_ROLES: dict[Role, frozenset[Role]] = {
    Role.CUSTOMER: frozenset({Role.CUSTOMER}),
    Role.GATE: frozenset({Role.CUSTOMER, Role.GATE}),
    Role.BOX_OFFICE: frozenset({Role.CUSTOMER, Role.BOX_OFFICE}),
    Role.ORGANISER: frozenset({Role.CUSTOMER, *TENANT_ROLES}),
    # Not the roles of a tenant: an admin has none, so a key of his would not know for whom.
    Role.ADMIN: frozenset({Role.CUSTOMER, Role.ADMIN}),
}


class Principal(NamedTuple):
    """Who is asking, as an access token says it.

    ``tenant_id`` is None unless the role is one of ``TENANT_ROLES``.
    """

    account_id: AccountId
    role: Role
    tenant_id: TenantId | None
    session_id: SessionId


def key_roles_of(role: Role) -> frozenset[Role]:
    """The roles that an API key of an account with ``role`` may have: none above its own.

    Example:
        >>> sorted(key_roles_of(Role.BOX_OFFICE))
        [<Role.BOX_OFFICE: 'box_office'>, <Role.CUSTOMER: 'customer'>]
    """
    return _OWN_KEY_ROLES[role]


def fits_tenant(role: Role, tenant_id: TenantId | None) -> bool:
    """Whether an account with ``role`` may belong to ``tenant_id``; None is no tenant.

    Example:
        >>> fits_tenant(Role.GATE, HOUSE_TENANT), fits_tenant(Role.ADMIN, HOUSE_TENANT)
        (True, False)
    """
    return (role in TENANT_ROLES) == (tenant_id is not None)
