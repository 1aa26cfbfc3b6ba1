"""Imports as jobs on a real database: uploaded, taken by one worker at a time, survived."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from persistence.import_jobs import (
    ATTEMPTS_MAX,
    CHUNK_BYTES_MAX,
    CHUNKS_PER_JOB_MAX,
    PROBLEMS_KEPT_MAX,
    ImportJobRow,
    ImportJobs,
    ImportState,
    JobCounts,
    JobProblem,
)
from persistence.organiser_rows import PutOutcome
from reservation.organiser_ids import ImportJobId, ObjectKind
from tests.conftest import House
from tests.support.two_tenants import (
    ACCOUNT,
    OURS,
    THEIRS,
    OrganiserStores,
    made,
    open_organiser_stores,
)

LEASE_MS = 60_000


@pytest.fixture
async def house(empty_house: House) -> AsyncIterator[OrganiserStores]:
    async with open_organiser_stores(*empty_house) as house:
        yield house


@pytest.fixture
def jobs(house: OrganiserStores) -> ImportJobs:
    return house.organisers.import_jobs


def job(key: str) -> ImportJobId:
    return ImportJobId(made(ObjectKind.IMPORT_JOB, key))


async def queued(jobs: ImportJobs, key: str, *chunks: bytes) -> ImportJobId:
    """A job whose archive is complete."""
    job_id = job(key)
    await jobs.create(OURS, job_id, ACCOUNT, {"to_date": "2026-12-31"}, "feed.zip")
    for number, chunk in enumerate(chunks or (b"zip",)):
        assert await jobs.append_chunk(OURS, job_id, number, chunk) is PutOutcome.CREATED
    put = await jobs.start(OURS, job_id, max(1, len(chunks)))
    assert put.outcome is PutOutcome.UPDATED
    return job_id


async def look(jobs: ImportJobs, job_id: ImportJobId) -> ImportJobRow:
    row = await jobs.find(OURS, job_id)
    assert row is not None
    return row


async def archive(jobs: ImportJobs, row: ImportJobRow) -> bytes:
    return b"".join([chunk async for chunk in jobs.read_archive(row)])


async def outlive_lease(house: OrganiserStores, job_id: ImportJobId) -> None:
    """Let the time of the job's worker be over."""
    connection = await asyncpg.connect(house.superuser_dsn)
    await connection.execute(
        "UPDATE import_job SET lease_until_ms = house_now_ms() - 1 WHERE import_job_id = $1", job_id
    )
    await connection.close()


async def count_chunks(house: OrganiserStores) -> int:
    async with house.pool.acquire() as connection:
        count: int = await connection.fetchval("SELECT count(*) FROM import_job_chunk")
    return count


# --- uploading


async def test_an_archive_comes_in_any_order_and_is_read_in_its_own(jobs: ImportJobs) -> None:
    job_id = job("1")
    put = await jobs.create(OURS, job_id, ACCOUNT, {"a": [1]}, "feed.zip")
    assert put.row is not None
    assert (put.row.state, put.row.parameters) == (ImportState.UPLOADING, {"a": [1]})
    for number, chunk in ((2, b"three"), (0, b"one"), (1, b"WRONG"), (1, b"two")):
        assert await jobs.append_chunk(OURS, job_id, number, chunk) is PutOutcome.CREATED
    put = await jobs.start(OURS, job_id, 3)
    assert put.row is not None
    assert (put.row.state, put.row.chunk_count, put.row.archive_bytes) == (
        ImportState.QUEUED,
        3,
        11,
    )
    assert await archive(jobs, put.row) == b"onetwothree"
    assert await jobs.start(OURS, job_id, 3) == (PutOutcome.REPEATED, put.row)
    assert await jobs.append_chunk(OURS, job_id, 0, b"late") is PutOutcome.STALE


async def test_what_is_left_of_an_upload_that_broke_off_is_forgotten(jobs: ImportJobs) -> None:
    job_id = job("1")
    await jobs.create(OURS, job_id, ACCOUNT, {}, "feed.zip")
    for number in range(4):
        await jobs.append_chunk(OURS, job_id, number, b"old")
    await jobs.append_chunk(OURS, job_id, 0, b"new")
    put = await jobs.start(OURS, job_id, 1)
    assert put.row is not None
    assert await archive(jobs, put.row) == b"new"


async def test_an_archive_with_a_hole_is_not_started(jobs: ImportJobs) -> None:
    job_id = job("1")
    await jobs.create(OURS, job_id, ACCOUNT, {}, "feed.zip")
    for number in (0, 2):
        await jobs.append_chunk(OURS, job_id, number, b"x")
    with pytest.raises(ValueError, match=r"^chunk_count: not all of the 3 pieces are there"):
        await jobs.start(OURS, job_id, 3)
    assert (await look(jobs, job_id)).state is ImportState.UPLOADING
    await jobs.append_chunk(OURS, job_id, 1, b"x")
    assert (await jobs.start(OURS, job_id, 3)).outcome is PutOutcome.UPDATED


async def test_pieces_that_cannot_be_are_refused(jobs: ImportJobs) -> None:
    job_id = job("1")
    await jobs.create(OURS, job_id, ACCOUNT, {}, "feed.zip")
    for number, chunk, field in (
        (-1, b"x", "number"),
        (CHUNKS_PER_JOB_MAX, b"x", "number"),
        (0, b"", "content"),
        (0, bytes(CHUNK_BYTES_MAX + 1), "content"),
    ):
        with pytest.raises(ValueError, match=f"^{field}: "):
            await jobs.append_chunk(OURS, job_id, number, chunk)
    assert await jobs.append_chunk(OURS, job_id, 0, bytes(CHUNK_BYTES_MAX)) is PutOutcome.CREATED
    for count in (0, CHUNKS_PER_JOB_MAX + 1):
        with pytest.raises(ValueError, match=r"^chunk_count: "):
            await jobs.start(OURS, job_id, count)
    with pytest.raises(ValueError, match=r"^file_name: "):
        await jobs.create(OURS, job("2"), ACCOUNT, {}, "a\0")
    with pytest.raises(ValueError, match=r"^parameters: "):
        await jobs.create(OURS, job("2"), ACCOUNT, {"a": "\0"}, "feed.zip")
    with pytest.raises(ValueError, match=r"^parameters: "):
        await jobs.create(OURS, job("2"), ACCOUNT, {"a": object()}, "feed.zip")


async def test_another_tenant_can_do_nothing_with_a_job(jobs: ImportJobs) -> None:
    job_id = job("1")
    await jobs.create(OURS, job_id, ACCOUNT, {}, "feed.zip")
    missing = (PutOutcome.NOT_FOUND, None)
    for stranger in (THEIRS, OURS):
        target = job_id if stranger == THEIRS else ImportJobId("a\0b")
        assert await jobs.find(stranger, target) is None
        assert await jobs.append_chunk(stranger, target, 0, b"x") is PutOutcome.NOT_FOUND
        assert await jobs.start(stranger, target, 1) == missing
        assert await jobs.cancel(stranger, target) == missing
    assert (await look(jobs, job_id)).state is ImportState.UPLOADING


# --- working


async def test_jobs_are_done_in_their_order_by_one_worker_each(jobs: ImportJobs) -> None:
    ids = [await queued(jobs, f"{number}") for number in range(6)]
    claimed = await asyncio.gather(*(jobs.claim(f"worker-{n}", LEASE_MS) for n in range(8)))
    found = [row.import_job_id for row in claimed if row is not None]
    assert sorted(found) == sorted(ids)
    assert claimed.count(None) == 2
    for row in filter(None, claimed):
        assert (row.state, row.attempt) == (ImportState.RUNNING, 1)


async def test_progress_is_seen_and_the_end_has_counts_and_problems(
    house: OrganiserStores, jobs: ImportJobs
) -> None:
    job_id = await queued(jobs, "1", b"one", b"two")
    row = await jobs.claim("worker", LEASE_MS)
    assert row is not None
    assert await archive(jobs, row) == b"onetwo"
    assert await jobs.report(job_id, "worker", LEASE_MS, "shows", 200, 1000)
    row = await look(jobs, job_id)
    assert (row.stage, row.done, row.total) == ("shows", 200, 1000)
    problems = [JobProblem("stops.txt", "line 7", "odd \0 \ud800")] * (PROBLEMS_KEPT_MAX + 5)
    assert await jobs.finish(job_id, "worker", JobCounts(3, 2, 1), problems, problem_count=5000)
    row = await look(jobs, job_id)
    assert (row.state, row.counts) == (ImportState.DONE, JobCounts(3, 2, 1))
    assert (row.problem_count, len(row.problems)) == (5000, PROBLEMS_KEPT_MAX)
    assert row.problems[0] == JobProblem("stops.txt", "line 7", "odd \\0 \\ud800")
    assert row.finished_at_ms is not None
    assert await count_chunks(house) == 0
    assert await archive(jobs, row) == b""
    assert await jobs.claim("worker", LEASE_MS) is None


async def test_a_job_that_cannot_be_done_says_why(jobs: ImportJobs) -> None:
    job_id = await queued(jobs, "1")
    await jobs.claim("worker", LEASE_MS)
    assert await jobs.fail(job_id, "worker", "no stops.txt \0", [JobProblem("", "", "x")])
    row = await look(jobs, job_id)
    assert (row.state, row.failure) == (ImportState.FAILED, "no stops.txt \\0")
    assert row.problem_count == 1


async def test_a_job_whose_worker_died_is_done_by_another_one(
    house: OrganiserStores, jobs: ImportJobs
) -> None:
    job_id = await queued(jobs, "1")
    await jobs.claim("first", LEASE_MS)
    await jobs.report(job_id, "first", LEASE_MS, "shows", 900, 1000)
    assert await jobs.claim("second", LEASE_MS) is None
    await outlive_lease(house, job_id)
    row = await jobs.claim("second", LEASE_MS)
    assert row is not None
    assert (row.attempt, row.stage, row.done) == (2, "", 0)
    assert await archive(jobs, row) == b"zip"
    # The first one was only slow. Nothing that it says counts any more.
    assert not await jobs.report(job_id, "first", LEASE_MS, "shows", 950, 1000)
    assert not await jobs.finish(job_id, "first", JobCounts(1))
    assert not await jobs.fail(job_id, "first", "late")
    assert (await look(jobs, job_id)).state is ImportState.RUNNING
    assert await archive(jobs, row) == b"zip"
    assert await jobs.finish(job_id, "second", JobCounts(2))
    assert (await look(jobs, job_id)).counts == JobCounts(2)


async def test_a_job_that_brings_its_workers_down_fails_in_the_end(
    house: OrganiserStores, jobs: ImportJobs
) -> None:
    job_id, other = await queued(jobs, "1"), await queued(jobs, "2")
    for attempt in range(1, ATTEMPTS_MAX + 1):
        row = await jobs.claim(f"worker-{attempt}", LEASE_MS)
        assert row is not None
        assert (row.import_job_id, row.attempt) == (job_id, attempt)
        await outlive_lease(house, job_id)
    row = await jobs.claim("next", LEASE_MS)
    assert row is not None
    assert row.import_job_id == other
    failed = await look(jobs, job_id)
    assert failed.state is ImportState.FAILED
    assert "3 attempts" in failed.failure
    assert await count_chunks(house) == 1


async def test_a_cancelled_job_stops_its_worker_and_stays_cancelled(
    house: OrganiserStores, jobs: ImportJobs
) -> None:
    job_id = await queued(jobs, "1")
    await jobs.claim("worker", LEASE_MS)
    put = await jobs.cancel(OURS, job_id)
    assert put.row is not None
    assert put.row.state is ImportState.CANCELLED
    assert not await jobs.report(job_id, "worker", LEASE_MS, "shows", 1, 2)
    assert not await jobs.finish(job_id, "worker", JobCounts(1))
    assert await jobs.cancel(OURS, job_id) == (PutOutcome.REPEATED, put.row)
    assert await jobs.start(OURS, job_id, 1) == (PutOutcome.STALE, None)
    assert await jobs.claim("worker", LEASE_MS) is None
    assert await count_chunks(house) == 0
    done = await queued(jobs, "2")
    await jobs.claim("worker", LEASE_MS)
    await jobs.finish(done, "worker", JobCounts())
    assert await jobs.cancel(OURS, done) == (PutOutcome.STALE, None)


async def test_an_upload_that_nobody_completes_is_given_up(
    house: OrganiserStores, jobs: ImportJobs
) -> None:
    old, new = job("1"), job("2")
    for job_id in (old, new):
        await jobs.create(OURS, job_id, ACCOUNT, {}, "feed.zip")
        await jobs.append_chunk(OURS, job_id, 0, b"x")
    connection = await asyncpg.connect(house.superuser_dsn)
    await connection.execute(
        "UPDATE import_job SET updated_at_ms = updated_at_ms - 86400001 WHERE import_job_id = $1",
        old,
    )
    await connection.close()
    assert await jobs.cancel_abandoned_uploads() == 1
    assert (await look(jobs, old)).state is ImportState.CANCELLED
    assert (await look(jobs, new)).state is ImportState.UPLOADING
    assert await count_chunks(house) == 1
