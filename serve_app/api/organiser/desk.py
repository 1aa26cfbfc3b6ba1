"""What the routes of the organiser application turn to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from actors.show_ref import ShowRefs
from persistence.audit_log import AuditLog
from persistence.catalogue import Catalogue
from persistence.organisers import Organisers
from persistence.plan_change_locks import PlanChangeLocks
from persistence.sales_reader import SalesReader
from persistence.tenants import Tenants
from serve_app.api.edge import probe_all
from serve_app.api.organiser.money_desk import MoneyDesk


@dataclass(frozen=True, slots=True)
class OrganiserDesk:
    """What the routes need. ``probes`` reach every database, each raising a fault if it cannot.

    ``wake_imports`` tells whoever runs imports that there is one to be run.
    """

    refs: ShowRefs
    catalogue: Catalogue
    organisers: Organisers
    sales: SalesReader
    money: MoneyDesk
    plan_changes: PlanChangeLocks
    tenants: Tenants
    audit_log: AuditLog
    wake_imports: Callable[[], None]
    now_ms: Callable[[], int]
    probes: Sequence[Callable[[], Awaitable[object]]] = ()

    async def probe(self) -> None:
        """See ``edge.Desk``."""
        await probe_all([probe() for probe in self.probes])
