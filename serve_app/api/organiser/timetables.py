"""Imports of timetables: begun here, sent here, and run in the background.

An archive comes from a stranger and is up to 32 MiB, so it is never held in memory: it goes to a
file while it comes, is looked at there without being unpacked, and then to the database, where
whoever runs the import finds it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

from starlette.requests import Request
from starlette.responses import Response

from integrations.gtfs_archive import FeedFiles, UnusableFeed
from integrations.gtfs_timetable import DAYS_MAX
from persistence.import_jobs import CHUNK_BYTES_MAX, ImportJobRow, ImportState
from persistence.organiser_rows import PutOutcome
from reservation.organiser_ids import (
    ImportJobId,
    ObjectKind,
    derive_object_id,
    is_object_id,
)
from serve_app.api.api_document import Handler, Operation
from serve_app.api.body_guard import large_body_parts
from serve_app.api.edge import json_response
from serve_app.api.organiser import timetable_bodies as bodies
from serve_app.api.organiser.acting import ANY_QUERY, Acting, body_of, creation_key
from serve_app.api.organiser.audit_trail import Action
from serve_app.api.organiser.chosen_plans import chosen_plan
from serve_app.api.organiser.counter import Counter
from serve_app.api.organiser.outcomes import (
    REPLAYED,
    accepted,
    bad_text,
    created,
    missing,
    place_of,
    problem_of,
    view_of_page,
)
from serve_app.api.organiser.show_bodies import policy_of_body
from serve_app.api.organiser.upload_room import UploadRoom
from serve_app.api.problems import ERRORS_SHOWN_MAX, FieldError, Problem, bad_field, bad_request
from serve_app.api.strict_json import read_nothing
from serve_app.catalogue.importing import FareTerms
from serve_app.catalogue.timetable_jobs import ARCHIVE_NAME, TimetableTerms

UPLOADS_AT_ONCE_MAX = 4

_WHAT = "import"
_MEDIA_TYPES = (b"application/zip", b"application/x-zip-compressed", b"application/octet-stream")


class TimetableRoutes:
    """The handlers."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._room = UploadRoom(UPLOADS_AT_ONCE_MAX)

    def operations(self) -> Iterable[tuple[Operation, Handler]]:
        """Which handler answers where."""
        yield bodies.CREATE, self.create_timetable_import
        yield bodies.LIST, self.list_timetable_imports
        yield bodies.FIND, self.find_timetable_import
        yield bodies.UPLOAD, self.upload_timetable
        yield bodies.CANCEL, self.cancel_timetable_import

    async def create_timetable_import(self, request: Request) -> Response:
        acting, _ = await self._counter.begin(request, ANY_QUERY)
        key = creation_key(request)
        sent = body_of(bodies.IMPORT, request)
        terms = await self._terms_of(acting, sent)
        job_id = ImportJobId(derive_object_id(ObjectKind.IMPORT_JOB, acting.tenant_id, key))
        try:
            put = await self._counter.desk.organisers.import_jobs.create(
                acting.tenant_id,
                job_id,
                acting.principal.account_id,
                terms.to_json(),
                sent.file_name,
            )
        except ValueError as error:
            raise bad_text(error) from None
        view = bodies.view_of_import(accepted(put, _WHAT), with_problems=True)
        if put.outcome is PutOutcome.CREATED:
            await self._counter.audit.note(
                acting, Action.TIMETABLE_IMPORT_CREATED, job_id, after=terms.to_json()
            )
        return created(request, put, view, "timetable-imports", job_id)

    async def list_timetable_imports(self, request: Request) -> Response:
        acting, query = await self._counter.begin(request, bodies.PAGE)
        page = await self._counter.desk.organisers.import_jobs.list(
            acting.tenant_id, limit=query.limit, after=place_of(query)
        )
        views = [bodies.view_of_import(row, with_problems=False) for row in page.items]
        return json_response(view_of_page("timetable_imports", views, page.next))

    async def find_timetable_import(self, request: Request) -> Response:
        acting, _ = await self._counter.begin(request, ANY_QUERY)
        row = await self._row(acting, request)
        return json_response(bodies.view_of_import(row, with_problems=True))

    async def upload_timetable(self, request: Request) -> Response:
        acting, _ = await self._counter.begin(request, ANY_QUERY)
        row = await self._row(acting, request)
        if row.state in (ImportState.QUEUED, ImportState.RUNNING, ImportState.DONE):
            return _accepted(row, is_repeated=True)
        if row.state is not ImportState.UPLOADING:
            raise _over(row)
        _check_media_type(request)
        with self._room.place(), TemporaryDirectory(prefix="housefull-upload-") as directory:
            archive = Path(directory) / ARCHIVE_NAME
            await _receive(request, archive)
            await asyncio.to_thread(_look_into, archive)
            row = await self._store(acting, row, archive)
        self._counter.desk.wake_imports()
        return _accepted(row, is_repeated=False)

    async def cancel_timetable_import(self, request: Request) -> Response:
        acting, _ = await self._counter.begin(request, ANY_QUERY)
        read_nothing(request.scope)
        before = await self._row(acting, request)
        put = await self._counter.desk.organisers.import_jobs.cancel(
            acting.tenant_id, before.import_job_id
        )
        if put.outcome is PutOutcome.STALE:
            raise _over(before)
        view = bodies.view_of_import(accepted(put, _WHAT), with_problems=True)
        if put.outcome is PutOutcome.REPEATED:
            return json_response(view, 200, REPLAYED)
        await self._counter.audit.note(
            acting,
            Action.TIMETABLE_IMPORT_CANCELLED,
            before.import_job_id,
            before={"state": before.state.value},
            after={"state": ImportState.CANCELLED.value},
        )
        return json_response(view)

    # -- what they share ----------------------------------------------------------------

    async def _terms_of(self, acting: Acting, sent: bodies.TimetableImportBody) -> TimetableTerms:
        if sent.to_date < sent.from_date:
            raise bad_field("to_date", "is before from_date")
        if (sent.to_date - sent.from_date).days >= DAYS_MAX:
            raise bad_field("to_date", f"is {DAYS_MAX} days or more after from_date")
        plan_id, plan = await chosen_plan(self._counter.desk, acting.tenant_id, sent)
        known = {category.name for category in plan.categories}
        errors = [
            FieldError(f"fares.categories.{name}", "the seating plan has no such category")
            for name in sent.fares.categories
            if name not in known
        ]
        if errors:
            raise bad_request(errors)
        fares = FareTerms(
            sent.fares.currency,
            bodies.fare_rule_of(sent.fares, "fares"),
            {
                name: bodies.fare_rule_of(rule, f"fares.categories.{name}")
                for name, rule in sent.fares.categories.items()
            },
        )
        return TimetableTerms(
            sent.from_date,
            sent.to_date,
            plan_id,
            fares,
            policy_of_body(sent.policy),
            sent.is_on_sale,
        )

    async def _store(self, acting: Acting, row: ImportJobRow, archive: Path) -> ImportJobRow:
        jobs = self._counter.desk.organisers.import_jobs
        number = 0
        with archive.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES_MAX):
                outcome = await jobs.append_chunk(
                    acting.tenant_id, row.import_job_id, number, chunk
                )
                if outcome is PutOutcome.STALE:
                    raise _over(row)
                if outcome is not PutOutcome.CREATED:
                    raise problem_of(outcome, _WHAT)
                number += 1
        put = await jobs.start(acting.tenant_id, row.import_job_id, number)
        if put.outcome is PutOutcome.STALE:
            raise _over(row)
        started = accepted(put, _WHAT)
        if put.outcome is PutOutcome.UPDATED:
            await self._counter.audit.note(
                acting,
                Action.TIMETABLE_IMPORT_STARTED,
                row.import_job_id,
                after={"archive_bytes": started.archive_bytes},
            )
        return started

    async def _row(self, acting: Acting, request: Request) -> ImportJobRow:
        named = request.path_params["timetable_import_id"]
        if not is_object_id(ObjectKind.IMPORT_JOB, named):
            raise missing(_WHAT)
        row = await self._counter.desk.organisers.import_jobs.find(
            acting.tenant_id, ImportJobId(named)
        )
        if row is None:
            raise missing(_WHAT)
        return row


async def _receive(request: Request, archive: Path) -> None:
    parts = large_body_parts(
        request, bytes_max=bodies.ARCHIVE_BYTES_MAX, deadline_ms=bodies.ARCHIVE_DEADLINE_MS
    )
    size = 0
    with archive.open("wb") as file:
        async for part in parts:
            file.write(part)
            size += len(part)
    if not size:
        raise bad_field("body", "is empty; it must be a zip archive")


def _look_into(archive: Path) -> None:
    """Refuse what is no feed, or a trap, before it is kept. Nothing is unpacked."""
    try:
        FeedFiles(archive)
    except UnusableFeed as unusable:
        errors = [
            {"field": problem.file, "reason": problem.reason}
            for problem in unusable.problems[:ERRORS_SHOWN_MAX]
        ]
        detail = "; ".join(str(problem) for problem in unusable.problems[:3])
        raise Problem("archive_not_accepted", detail, members={"errors": errors}) from None


def _check_media_type(request: Request) -> None:
    named = [value for name, value in request.scope["headers"] if name == b"content-type"]
    media_type = named[0].partition(b";")[0].strip().lower() if named else b""
    if media_type not in _MEDIA_TYPES:
        raise Problem("unsupported_media_type", "Content-Type must be application/zip.")


def _accepted(row: ImportJobRow, *, is_repeated: bool) -> Response:
    view = bodies.view_of_import(row, with_problems=True)
    return json_response(view, 202, REPLAYED if is_repeated else {})


def _over(row: ImportJobRow) -> Problem:
    return Problem("import_is_over", f"The import is {row.state.value}; begin another one.")
