"""Imports of timetables as jobs that outlive the process that started them.

Theory of operation
-------------------
    uploading --start--> queued --claim--> running --finish--> done
        |                   |                 |----fail------> failed
        |                   |                 |--lease over--> running again, by whoever claims it
        '-------------------'-----cancel------'--------------> cancelled

The archive comes in pieces that are stored with the job, so any replica can do it, and nothing
depends on one machine's disk. A worker has a claimed job for the length of its lease, and for as
long again with each report. When a worker dies, its lease runs out and the job is claimed anew and
done from the start: an import can be repeated at any time. A job that was claimed three times in
vain fails, so that an archive which kills its readers does not kill them for ever.

Every word of a worker names the worker, and counts for nothing once the job is not its own any
more: a worker that was thought dead cannot end a job that somebody else does now.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import asyncpg
import orjson

from persistence.catalogue_text import checked_text
from persistence.organiser_rows import (
    Page,
    Place,
    Put,
    PutOutcome,
    PutStatements,
    digest_of,
    find_row,
    is_storable_id,
    json_text,
    list_rows,
    put_change,
    put_new,
)
from persistence.queries import load_queries
from persistence.sessions import Pool, reading, writing
from reservation.ids import AccountId, TenantId
from reservation.organiser_ids import ImportJobId

CHUNK_BYTES_MAX = 1 << 20
CHUNKS_PER_JOB_MAX = 64
"""With a megabyte each, twice what the organiser application accepts."""

PROBLEMS_KEPT_MAX = 1_000
ATTEMPTS_MAX = 3
UPLOAD_PATIENCE_MS = 24 * 3_600_000
"""An upload that nobody has added to for a day is given up."""

_FILE_NAME_LENGTH_MAX = 300
_STAGE_LENGTH_MAX = 200
_PROBLEM_LENGTH_MAX = 1_000
_VAIN = f"every one of {ATTEMPTS_MAX} attempts was broken off"

_QUERIES = load_queries("import_jobs.sql")


class ImportState(StrEnum):
    """Where a job is in its life."""

    UPLOADING = "uploading"
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class JobProblem(NamedTuple):
    """One thing that is wrong with the files, and where."""

    file: str
    place: str
    reason: str


class JobCounts(NamedTuple):
    """What a job did with shows."""

    created: int = 0
    updated: int = 0
    unchanged: int = 0


@dataclass(frozen=True, slots=True)
class ImportJobRow:
    """One job.

    Shapes:
        done, total: of the stage it is in, in the stage's own unit.
        problems: the first thousand; ``problem_count`` is of all.
        failure: why it failed, or was cancelled by the house; otherwise empty.
    """

    import_job_id: ImportJobId
    tenant_id: TenantId
    account_id: AccountId
    file_name: str
    parameters: Mapping[str, object]
    state: ImportState
    archive_bytes: int
    chunk_count: int
    attempt: int
    stage: str
    done: int
    total: int
    counts: JobCounts
    problem_count: int
    problems: tuple[JobProblem, ...]
    failure: str
    version: int
    created_at_ms: int
    updated_at_ms: int
    finished_at_ms: int | None


def _row_of(record: asyncpg.Record) -> ImportJobRow:
    return ImportJobRow(
        ImportJobId(record["import_job_id"]),
        TenantId(record["tenant_id"]),
        AccountId(record["account_id"]),
        record["file_name"],
        orjson.loads(record["parameters_text"]),
        ImportState(record["state"]),
        record["archive_bytes"],
        record["chunk_count"],
        record["attempt_count"],
        record["stage"],
        record["done_count"],
        record["total_count"],
        JobCounts(record["created_count"], record["updated_count"], record["unchanged_count"]),
        record["problem_count"],
        tuple(JobProblem(*problem) for problem in orjson.loads(record["problems_text"])),
        record["failure"],
        record["version"],
        record["created_at_ms"],
        record["updated_at_ms"],
        record["finished_at_ms"],
    )


_JOB = PutStatements(
    _QUERIES["insert_import_job"],
    _QUERIES["find_import_job"],
    _QUERIES["queue_import_job"],
    _QUERIES["list_import_jobs"],
    "import_job_id",
    _row_of,
)


class ImportJobs:
    """Makes, finds and works off jobs.

    Raises:
        ValueError: from the writing methods, a field that cannot be stored; the message begins
            with its name.
        Fault: from every method, when the database is away.

    Args:
        pool: stays the caller's, with the rights of ``housefull_organiser``.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    # -- for organisers ----------------------------------------------------------------

    async def create(
        self,
        tenant_id: TenantId,
        job_id: ImportJobId,
        account_id: AccountId,
        parameters: Mapping[str, object],
        file_name: str,
    ) -> Put[ImportJobRow]:
        """A new job that waits for its archive."""
        columns = (
            checked_text("file_name", file_name, _FILE_NAME_LENGTH_MAX),
            json_text("parameters", parameters),
        )
        digest = digest_of(*columns)
        return await put_new(self._pool, _JOB, tenant_id, job_id, digest, account_id, *columns)

    async def append_chunk(
        self, tenant_id: TenantId, job_id: ImportJobId, number: int, content: bytes
    ) -> PutOutcome:
        """One piece of the archive; the same number again replaces it.

        Args:
            number: from 0. Pieces may come in any order.
            content: 1 byte to 1 MiB.

        Returns:
            CREATED; NOT_FOUND; or STALE when the job is not being uploaded any more.
        """
        if not 0 <= number < CHUNKS_PER_JOB_MAX:
            raise ValueError(f"number: not in 0..{CHUNKS_PER_JOB_MAX - 1}")
        if not 1 <= len(content) <= CHUNK_BYTES_MAX:
            raise ValueError(f"content: not 1 to {CHUNK_BYTES_MAX} bytes")
        if not is_storable_id(job_id):
            return PutOutcome.NOT_FOUND
        async with writing(self._pool) as connection, connection.transaction():
            locked = await connection.fetchrow(_QUERIES["lock_uploading_job"], tenant_id, job_id)
            if locked is not None:
                await connection.execute(_QUERIES["put_chunk"], job_id, number, content)
                return PutOutcome.CREATED
            known = await connection.fetchrow(_QUERIES["find_import_job"], tenant_id, job_id)
        return PutOutcome.NOT_FOUND if known is None else PutOutcome.STALE

    async def start(
        self, tenant_id: TenantId, job_id: ImportJobId, chunk_count: int
    ) -> Put[ImportJobRow]:
        """The archive is complete, with so many pieces; pieces beyond them are forgotten.

        Returns:
            REPEATED when the job was started before.

        Raises:
            ValueError: a piece is missing.
        """
        if not 1 <= chunk_count <= CHUNKS_PER_JOB_MAX:
            raise ValueError(f"chunk_count: not in 1..{CHUNKS_PER_JOB_MAX}")
        if not is_storable_id(job_id):
            return Put(PutOutcome.NOT_FOUND)
        async with writing(self._pool) as connection, connection.transaction():
            locked = await connection.fetchrow(_QUERIES["lock_uploading_job"], tenant_id, job_id)
            if locked is not None:
                await connection.execute(_QUERIES["drop_chunks_from"], job_id, chunk_count)
                size = await connection.fetchrow(_QUERIES["measure_chunks"], job_id)
                if size is None or size["chunk_count"] != chunk_count:
                    raise ValueError(f"chunk_count: not all of the {chunk_count} pieces are there")
                record = await connection.fetchrow(
                    _QUERIES["queue_import_job"],
                    tenant_id,
                    job_id,
                    None,
                    chunk_count,
                    size["archive_bytes"],
                )
                assert record is not None, "the job was locked a moment ago"
                return Put(PutOutcome.UPDATED, _row_of(record))
            known = await connection.fetchrow(_QUERIES["find_import_job"], tenant_id, job_id)
        if known is None:
            return Put(PutOutcome.NOT_FOUND)
        if known["state"] == ImportState.CANCELLED.value:
            return Put(PutOutcome.STALE)
        return Put(PutOutcome.REPEATED, _row_of(known))

    async def find(self, tenant_id: TenantId, job_id: ImportJobId) -> ImportJobRow | None:
        """The job; None when the tenant has none with this id."""
        return await find_row(self._pool, _JOB, tenant_id, job_id)

    async def list(
        self, tenant_id: TenantId, limit: int = 50, after: Place | None = None
    ) -> Page[ImportJobRow]:
        """The tenant's jobs, the newest first."""
        return await list_rows(self._pool, _JOB, tenant_id, limit, after)

    async def cancel(self, tenant_id: TenantId, job_id: ImportJobId) -> Put[ImportJobRow]:
        """Stop a job; what it has imported stays. STALE when it has ended otherwise."""
        put = await put_change(
            self._pool, _JOB, tenant_id, job_id, None, update=_QUERIES["cancel_import_job"]
        )
        if put.outcome is PutOutcome.UPDATED:
            await self._drop_archive(job_id)
        elif put.outcome is PutOutcome.STALE:
            known = await self.find(tenant_id, job_id)
            if known is not None and known.state is ImportState.CANCELLED:
                return Put(PutOutcome.REPEATED, known)
        return put

    # -- for workers ----------------------------------------------------------------------

    async def claim(self, worker: str, lease_ms: int) -> ImportJobRow | None:
        """A job to do, the oldest first; None when there is none.

        Args:
            worker: a name that no other worker has, and no earlier life of this one.
        """
        async with writing(self._pool) as connection:
            given_up = await connection.fetch(_QUERIES["give_up_import_jobs"], ATTEMPTS_MAX, _VAIN)
            record = await connection.fetchrow(_QUERIES["claim_import_job"], worker, lease_ms)
        for job in given_up:
            await self._drop_archive(ImportJobId(job["import_job_id"]))
        return None if record is None else _row_of(record)

    async def read_archive(self, job: ImportJobRow) -> AsyncIterator[bytes]:
        """The pieces of the archive, in their order. They end early when the job has ended."""
        for number in range(job.chunk_count):
            async with reading(self._pool) as connection:
                content = await connection.fetchval(
                    _QUERIES["read_chunk"], job.import_job_id, number
                )
            if content is None:
                return
            yield content

    async def report(
        self, job_id: ImportJobId, worker: str, lease_ms: int, stage: str, done: int, total: int
    ) -> bool:
        """Say how far the job is, and keep it; False when it is not this worker's any more."""
        checked_text("stage", stage, _STAGE_LENGTH_MAX)
        return await self._say("report_import_job", job_id, worker, lease_ms, stage, done, total)

    async def finish(
        self,
        job_id: ImportJobId,
        worker: str,
        counts: JobCounts,
        problems: Sequence[JobProblem] = (),
        problem_count: int | None = None,
    ) -> bool:
        """The job is done; False when it was not this worker's any more.

        Args:
            problems: the first thousand are kept.
            problem_count: of all problems, when there were more than these.
        """
        return await self._end(
            job_id, worker, ImportState.DONE, counts, problems, problem_count, ""
        )

    async def fail(
        self,
        job_id: ImportJobId,
        worker: str,
        reason: str,
        problems: Sequence[JobProblem] = (),
        counts: JobCounts | None = None,
        problem_count: int | None = None,
    ) -> bool:
        """The job cannot be done, for this reason; False when it was not this worker's any more."""
        counts = counts or JobCounts()
        return await self._end(
            job_id, worker, ImportState.FAILED, counts, problems, problem_count, reason
        )

    async def cancel_abandoned_uploads(self) -> int:
        """Give up uploads that nobody has added to for a day. Says how many."""
        async with writing(self._pool) as connection:
            jobs = await connection.fetch(
                _QUERIES["cancel_abandoned_uploads"],
                UPLOAD_PATIENCE_MS,
                "the upload was not completed",
            )
        for job in jobs:
            await self._drop_archive(ImportJobId(job["import_job_id"]))
        return len(jobs)

    async def _end(
        self,
        job_id: ImportJobId,
        worker: str,
        state: ImportState,
        counts: JobCounts,
        problems: Sequence[JobProblem],
        problem_count: int | None,
        failure: str,
    ) -> bool:
        kept = [tuple(map(_storable, problem)) for problem in problems[:PROBLEMS_KEPT_MAX]]
        ended = await self._say(
            "end_import_job",
            job_id,
            worker,
            state.value,
            *counts,
            max(len(problems), problem_count or 0),
            json_text("problems", kept),
            _storable(failure),
        )
        if ended:
            await self._drop_archive(job_id)
        return ended

    async def _say(self, query: str, job_id: ImportJobId, worker: str, *said: object) -> bool:
        async with writing(self._pool) as connection:
            record = await connection.fetchrow(_QUERIES[query], job_id, worker, *said)
        return record is not None

    async def _drop_archive(self, job_id: ImportJobId) -> None:
        async with writing(self._pool) as connection:
            await connection.execute(_QUERIES["drop_chunks"], job_id)


def _storable(text: str) -> str:
    # What a strange file contains must not keep the job from ending.
    cleaned = text.encode(errors="backslashreplace").decode().replace("\0", "\\0")
    return cleaned[:_PROBLEM_LENGTH_MAX]
