"""The audit log, as organisers read it: who changed what, newest first."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter
from starlette.requests import Request
from starlette.responses import Response

from persistence.audit_log import AuditRecord
from serve_app.api.api_document import Handler, Operation, problems
from serve_app.api.cursors import read_cursor, write_cursor
from serve_app.api.edge import json_response
from serve_app.api.instants import Instant, write_instant
from serve_app.api.organiser.acting import ORGANISERS
from serve_app.api.organiser.counter import Counter
from serve_app.api.organiser.fields import Next, PageQuery, View
from serve_app.api.organiser.outcomes import READING
from serve_app.api.problems import bad_field
from serve_app.api.query_models import query_parameters

_CURSOR = "entry"


class AuditEntryView(View):
    """One change."""

    model_config = ConfigDict(title="AuditEntry")

    at: Instant
    account_id: Annotated[str | None, Field(description="Who; null: the command line.")]
    action: Annotated[str, Field(examples=["show_cancelled"])]
    object_id: Annotated[str, Field(description="What was changed.")]
    before: Annotated[dict[str, Any] | None, Field(description="What is different now.")]
    after: Annotated[dict[str, Any] | None, Field(description="What it is now.")]
    request_id: str | None


class AuditList(View):
    """One page of the audit log, the newest first."""

    entries: list[AuditEntryView]
    next: Next = None


_PAGE: TypeAdapter[PageQuery] = TypeAdapter(PageQuery)

MODELS = (AuditEntryView, AuditList)

LIST = Operation(
    "GET",
    "/audit-log",
    tag="audit",
    roles=ORGANISERS,
    summary="Who changed what",
    responses={200: {"description": "One page.", "model": AuditList}, **problems(*READING)},
    extra={"parameters": query_parameters(PageQuery)},
)


class AuditRoutes:
    """The handler."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter

    def operations(self) -> Iterable[tuple[Operation, Handler]]:
        """Which handler answers where."""
        yield LIST, self.list_audit_log

    async def list_audit_log(self, request: Request) -> Response:
        acting, query = await self._counter.begin(request, _PAGE)
        page = await self._counter.desk.audit_log.list_audit(
            acting.tenant_id, _entry_of(query.cursor), query.limit
        )
        view: dict[str, Any] = {"entries": [_view_of(record) for record in page.records]}
        if page.next is not None:
            view["next"] = write_cursor(page.next, _CURSOR)
        return json_response(view)


def _entry_of(cursor: str | None) -> int | None:
    if cursor is None:
        return None
    entry_id, kind = read_cursor(cursor)
    if kind != _CURSOR or entry_id < 0:
        raise bad_field("cursor", "is not a cursor of this list")
    return entry_id


def _view_of(record: AuditRecord) -> dict[str, Any]:
    entry = record.entry
    return {
        "at": write_instant(entry.at_ms),
        "account_id": entry.account_id,
        "action": entry.action,
        "object_id": entry.object_id,
        "before": entry.before,
        "after": entry.after,
        "request_id": entry.request_id,
    }
