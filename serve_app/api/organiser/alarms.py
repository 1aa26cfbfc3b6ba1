"""Alarms: what a person has to look at, about the money of the house's shows.

An alarm about something that belongs to no show, such as a notice of a payment that nobody knows,
belongs to no tenant either: admins see it, whichever tenant they act for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Any, NamedTuple

from pydantic import ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from persistence.payment_books import AlarmRow
from reservation.access import Role
from reservation.ids import ShowId
from serve_app.api.api_document import Handler, Operation, path, problems
from serve_app.api.edge import json_response
from serve_app.api.instants import Instant, write_instant
from serve_app.api.organiser.acting import ANY_QUERY, ORGANISERS, Acting
from serve_app.api.organiser.audit_trail import Action
from serve_app.api.organiser.counter import Counter
from serve_app.api.organiser.fields import View
from serve_app.api.organiser.outcomes import READING, missing
from serve_app.api.organiser.show_document import FOR
from serve_app.api.strict_json import read_nothing

_ALARM_ID = re.compile(r"alm_(\d{1,3})_(\d{1,18})")
_EXAMPLE_ID = "alm_0_17"


class AlarmView(View):
    """Something to look at. It is raised again when it is still so after it was resolved."""

    model_config = ConfigDict(title="Alarm")

    alarm_id: Annotated[str, Field(pattern="^alm_", examples=[_EXAMPLE_ID])]
    kind: Annotated[str, Field(examples=["foreign_refund"])]
    subject: Annotated[str, Field(description="A payment id, or what the provider calls it.")]
    show_id: str | None
    detail: str
    seen_count: Annotated[int, Field(ge=1)]
    raised_at: Instant
    seen_at: Instant


class AlarmList(View):
    """The open alarms, the oldest of each database first."""

    alarms: list[AlarmView]


MODELS = (AlarmView, AlarmList)

LIST = Operation(
    "GET",
    "/alarms",
    tag="money",
    roles=ORGANISERS,
    summary="What somebody has to look at, about money",
    responses={200: {"description": "All that is open.", "model": AlarmList}, **problems(*READING)},
    extra={"parameters": [*FOR]},
)
RESOLVE = Operation(
    "POST",
    "/alarms/{alarm_id}/resolve",
    status=204,
    tag="money",
    roles=ORGANISERS,
    summary="Say that an alarm was looked at",
    responses={
        204: {"description": "It is closed."},
        **problems(*READING, "not_found", "outcome_unknown"),
    },
    extra={"parameters": [path("alarm_id", _EXAMPLE_ID), *FOR]},
)


class AlarmRoutes:
    """The handlers."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter

    def operations(self) -> Iterable[tuple[Operation, Handler]]:
        """Which handler answers where."""
        yield LIST, self.list_alarms
        yield RESOLVE, self.resolve_alarm

    async def list_alarms(self, request: Request) -> Response:
        acting, _ = await self._counter.begin(request, ANY_QUERY)
        alarms = await self._own_alarms(acting)
        return json_response({"alarms": [_view_of(alarm) for alarm in alarms]})

    async def resolve_alarm(self, request: Request) -> Response:
        acting, _ = await self._counter.begin(request, ANY_QUERY)
        read_nothing(request.scope)
        named = _ALARM_ID.fullmatch(request.path_params["alarm_id"])
        wanted = None if named is None else (int(named[1]), int(named[2]))
        for alarm in await self._own_alarms(acting):
            if (alarm.database, alarm.row.alarm_id) == wanted:
                break
        else:
            raise missing("open alarm")
        books = self._counter.desk.money.books[alarm.database]
        if not await books.resolve_alarm(alarm.row.alarm_id, acting.principal.account_id):
            raise missing("open alarm")
        await self._counter.audit.note(
            acting, Action.ALARM_RESOLVED, alarm.alarm_id, before=_view_of(alarm)
        )
        return Response(status_code=204)

    async def _own_alarms(self, acting: Acting) -> list[_Alarm]:
        desk = self._counter.desk
        found: list[_Alarm] = []
        is_own: dict[ShowId, bool] = {}
        for database, books in enumerate(desk.money.books):
            for row in await books.alarms():
                show_id = row.show_id
                if show_id is None:
                    if acting.principal.role is Role.ADMIN:
                        found.append(_Alarm(database, row))
                    continue
                if show_id not in is_own:
                    show = await desk.organisers.shows.find(acting.tenant_id, show_id)
                    is_own[show_id] = show is not None
                if is_own[show_id]:
                    found.append(_Alarm(database, row))
        return found


class _Alarm(NamedTuple):
    """An alarm and the database that it is in."""

    database: int
    row: AlarmRow

    @property
    def alarm_id(self) -> str:
        """How clients know it."""
        return f"alm_{self.database}_{self.row.alarm_id}"


def _view_of(alarm: _Alarm) -> dict[str, Any]:
    row = alarm.row
    return {
        "alarm_id": alarm.alarm_id,
        "kind": row.kind,
        "subject": row.subject,
        "show_id": row.show_id,
        "detail": row.detail,
        "seen_count": row.seen_count,
        "raised_at": write_instant(row.raised_at_ms),
        "seen_at": write_instant(row.seen_at_ms),
    }
