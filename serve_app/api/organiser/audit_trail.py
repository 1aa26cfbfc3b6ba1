"""Who changed what: every change of an organiser, written down beside what there was before.

An entry is written right after the change that it tells of, because only then it is known that
the change was made. When the database goes away in that moment the entry is tried a few times;
after that the whole entry goes into the log, and the client is told that the outcome is unknown.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any

import orjson

from persistence.audit_log import DETAIL_BYTES_MAX, AuditEntry, AuditLog
from reservation.faults import Fault, OutcomeUnknown
from serve_app.api.organiser.acting import Acting

log = logging.getLogger(__name__)

_ATTEMPTS = 3
_PAUSE_S = 0.2
_ABSENT = object()


class Action(StrEnum):
    """What was done. The values are public and stable."""

    VENUE_CREATED = "venue_created"
    VENUE_CHANGED = "venue_changed"
    VENUE_DELETED = "venue_deleted"
    SEATING_PLAN_CREATED = "seating_plan_created"
    SEATING_PLAN_CHANGED = "seating_plan_changed"
    SEATING_PLAN_VERSION_ADDED = "seating_plan_version_added"
    SHOW_CREATED = "show_created"
    SHOW_CHANGED = "show_changed"
    SHOW_PUBLISHED = "show_published"
    SHOW_CANCELLED = "show_cancelled"
    SHOW_PLAN_CHANGED = "show_plan_changed"
    SEATS_BLOCKED = "seats_blocked"
    SEATS_UNBLOCKED = "seats_unblocked"
    SERIES_CREATED = "series_created"
    SERIES_CHANGED = "series_changed"
    SERIES_SHOWS_ADDED = "series_shows_added"
    PROMO_CODE_CREATED = "promo_code_created"
    PROMO_CODE_CHANGED = "promo_code_changed"
    PROMO_CODE_DELETED = "promo_code_deleted"
    CHANNEL_CREATED = "channel_created"
    CHANNEL_CHANGED = "channel_changed"
    CHANNEL_KEY_REPLACED = "channel_key_replaced"
    CHANNEL_CLOSED = "channel_closed"
    CHANNEL_SEATS_ALLOCATED = "channel_seats_allocated"
    CHANNEL_SEATS_TAKEN_BACK = "channel_seats_taken_back"
    TIMETABLE_IMPORT_CREATED = "timetable_import_created"
    TIMETABLE_IMPORT_STARTED = "timetable_import_started"
    TIMETABLE_IMPORT_CANCELLED = "timetable_import_cancelled"
    LIST_EXPORTED = "list_exported"
    PRICE_TERMS_CHANGED = "price_terms_changed"
    REFUND_POLICY_CHANGED = "refund_policy_changed"
    REFUND_GRANTED = "refund_granted"
    BOOKING_CANCELLED = "booking_cancelled"
    ALARM_RESOLVED = "alarm_resolved"


class AuditTrail:
    """Writes entries. ``now_ms`` is asked for the instant of each."""

    def __init__(self, audit_log: AuditLog, now_ms: Callable[[], int]) -> None:
        self._audit_log = audit_log
        self._now_ms = now_ms

    async def note(
        self,
        acting: Acting,
        action: Action,
        object_id: str,
        *,
        before: Mapping[str, Any] | None = None,
        after: Mapping[str, Any] | None = None,
    ) -> None:
        """Write down that this was done.

        Shapes:
            before, after: what the object was and is, as the application's views have it; what
                is the same in both is left out.

        Raises:
            OutcomeUnknown: it was done, and could not be written down.
        """
        was, is_now = _differences(before, after)
        entry = AuditEntry(
            at_ms=self._now_ms(),
            account_id=acting.principal.account_id,
            tenant_id=acting.tenant_id,
            action=action.value,
            object_id=object_id,
            before=_storable(was),
            after=_storable(is_now),
            request_id=acting.request_id,
        )
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                await self._audit_log.append_audit(entry)
            except Fault as fault:
                if attempt == _ATTEMPTS:
                    log.exception("not in the audit log: %r", entry)
                    reason = "the change was made, but not written into the audit log"
                    raise OutcomeUnknown(reason) from fault
                await asyncio.sleep(_PAUSE_S * attempt)
            else:
                return


def _differences(
    before: Mapping[str, Any] | None, after: Mapping[str, Any] | None
) -> tuple[Mapping[str, Any] | None, Mapping[str, Any] | None]:
    if before is None or after is None:
        return before, after
    changed = [
        name
        for name in {**before, **after}
        if before.get(name, _ABSENT) != after.get(name, _ABSENT)
    ]
    return (
        {name: before[name] for name in changed if name in before},
        {name: after[name] for name in changed if name in after},
    )


def _storable(detail: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """The detail, or the hash of one that is too large for the log."""
    if detail is None:
        return None
    encoded = orjson.dumps(detail)
    if len(encoded) <= DETAIL_BYTES_MAX // 2:
        return detail
    return {"bytes": len(encoded), "sha256": hashlib.sha256(encoded).hexdigest()}
