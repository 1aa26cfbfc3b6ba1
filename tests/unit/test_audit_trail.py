"""The trail of changes: what is written of each, and what happens when it cannot be written."""

from __future__ import annotations

import logging
from typing import cast

import pytest

from persistence.audit_log import AuditEntry, AuditLog
from reservation.access import HOUSE_TENANT, Role
from reservation.faults import OutcomeUnknown, ShowUnavailable
from serve_app.api.organiser import audit_trail
from serve_app.api.organiser.acting import Acting
from serve_app.api.organiser.audit_trail import Action, AuditTrail
from tests.support.access import principal_named

OLGA = Acting(principal_named("olga", Role.ORGANISER), HOUSE_TENANT, "request-1")


class FakeLog:
    """A log that is away for some attempts."""

    def __init__(self, faults: int = 0) -> None:
        self.entries: list[AuditEntry] = []
        self._faults = faults

    async def append_audit(self, entry: AuditEntry) -> None:
        if self._faults:
            self._faults -= 1
            raise ShowUnavailable("away")
        self.entries.append(entry)


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_trail, "_PAUSE_S", 0.0)


def trail(log: FakeLog) -> AuditTrail:
    return AuditTrail(cast(AuditLog, log), lambda: 1_000)


async def test_only_what_is_different_is_told() -> None:
    log = FakeLog()
    before, after = {"name": "Old", "version": 1, "gone": 1}, {"name": "New", "version": 1}
    await trail(log).note(OLGA, Action.VENUE_CHANGED, "ven_1", before=before, after=after)
    (entry,) = log.entries
    assert entry.before == {"name": "Old", "gone": 1}
    assert entry.after == {"name": "New"}
    assert (entry.account_id, entry.tenant_id) == (OLGA.principal.account_id, HOUSE_TENANT)
    assert (entry.action, entry.object_id, entry.request_id) == (
        "venue_changed",
        "ven_1",
        "request-1",
    )
    assert entry.at_ms == 1_000


async def test_a_detail_that_is_too_large_is_told_by_its_hash() -> None:
    log = FakeLog()
    await trail(log).note(OLGA, Action.SEATS_BLOCKED, "shw_1", after={"seats": ["A"] * 50_000})
    assert log.entries[0].after is not None
    assert set(log.entries[0].after) == {"bytes", "sha256"}


async def test_a_log_that_is_away_for_a_moment_gets_the_entry_all_the_same() -> None:
    log = FakeLog(faults=2)
    await trail(log).note(OLGA, Action.SHOW_PUBLISHED, "shw_1")
    assert len(log.entries) == 1


async def test_a_change_that_cannot_be_written_down_is_logged_and_not_called_a_success(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.ERROR), pytest.raises(OutcomeUnknown):
        await trail(FakeLog(faults=3)).note(OLGA, Action.SHOW_CANCELLED, "shw_1")
    assert "shw_1" in caplog.text
    assert "show_cancelled" in caplog.text
