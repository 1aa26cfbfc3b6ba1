"""Imports of timetables that organisers upload, run in the background of an application.

Theory of operation
-------------------
Jobs, and the archives they are about, are in the database, so any process can take one. A process
takes one at a time and has it for as long as it reports: a *lease*. When the process dies the lease
ends and somebody takes the job anew, from the beginning; what was imported already is met again and
left as it is, so nothing is done twice.

    queued --claim--> running --finish--> done
                         |  \\--fail-----> failed
                         \\---lease over-> claimed again, and failed after some attempts

Reading a feed is work for the processor and takes as long as the feed is large. It is done in a
thread with an event loop and connections of its own, so that requests are answered meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import date
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import orjson

from actors.show_ref import ShowRefs
from integrations.gtfs_timetable import FareRule
from persistence.catalogue import Catalogue
from persistence.catalogue_rows import policy_json, policy_of
from persistence.claim_reader import ClaimReader
from persistence.import_jobs import ImportJobRow, ImportJobs, JobCounts, JobProblem
from reservation.faults import Fault
from reservation.ids import ShowId
from reservation.show import SalesPolicy
from serve_app.catalogue.importing import (
    FareTerms,
    ImportProblem,
    ImportRefused,
    ImportReport,
    import_timetable,
)

log = logging.getLogger(__name__)

LEASE_MS = 60_000
REPORT_EVERY_S = 1.0
LOOK_EVERY_S = 30.0
"""For jobs that another process left; the ones that begin here wake us."""

ARCHIVE_NAME = "timetable.zip"
RENEWALS_AT_ONCE = 8

OpenCatalogue = Callable[[], AbstractAsyncContextManager[Catalogue]]
Renew = Callable[[ShowId], Awaitable[None]]


class TimetableTerms(NamedTuple):
    """What an import makes of a timetable."""

    from_date: date
    to_date: date
    plan_id: str
    fares: FareTerms
    policy: SalesPolicy
    is_on_sale: bool

    def to_json(self) -> dict[str, Any]:
        """The terms as a job keeps them."""
        return {
            "from_date": self.from_date.isoformat(),
            "to_date": self.to_date.isoformat(),
            "plan_id": self.plan_id,
            "currency": self.fares.currency,
            "every_category": _rule_json(self.fares.every_category),
            "by_category": {
                name: _rule_json(rule) for name, rule in self.fares.by_category.items()
            },
            "policy": orjson.loads(policy_json(self.policy)),
            "is_on_sale": self.is_on_sale,
        }

    @classmethod
    def of_json(cls, kept: Mapping[str, Any]) -> TimetableTerms:
        """The terms that a job keeps."""
        return cls(
            date.fromisoformat(kept["from_date"]),
            date.fromisoformat(kept["to_date"]),
            kept["plan_id"],
            FareTerms(
                kept["currency"],
                _rule_of(kept["every_category"]),
                {name: _rule_of(rule) for name, rule in kept["by_category"].items()},
            ),
            policy_of(orjson.dumps(kept["policy"]).decode()),
            kept["is_on_sale"],
        )


class _Stopped(Exception):
    """The import is not ours any more, or the process is leaving."""


class _Progress:
    """What the thread of an import says, and what it is told. One writer for each field."""

    def __init__(self) -> None:
        self.now: tuple[str, int, int] = ("reading", 0, 0)
        self._is_stopping = threading.Event()

    def __call__(self, stage: str, done: int, total: int) -> None:
        """See ``importing.Progress``."""
        if self._is_stopping.is_set():
            raise _Stopped
        self.now = (stage, done, total)

    def stop(self) -> None:
        """Let the import end at its next step."""
        self._is_stopping.set()


class TimetableJobs:
    """Runs the imports that are waiting; see the module's docstring.

    Args:
        jobs: of this process's event loop.
        open_catalogue: a catalogue of the event loop that enters it.
        renew: lets the actor of a show read again what it sells.
    """

    def __init__(self, jobs: ImportJobs, open_catalogue: OpenCatalogue, renew: Renew) -> None:
        self._jobs = jobs
        self._open_catalogue = open_catalogue
        self._renew = renew
        self._worker = f"worker-{secrets.token_hex(8)}"
        self._is_awake = asyncio.Event()

    def wake(self) -> None:
        """Look for a job now."""
        self._is_awake.set()

    async def run(self) -> None:
        """Run jobs until cancelled."""
        while True:
            self._is_awake.clear()
            try:
                job = await self._jobs.claim(self._worker, LEASE_MS)
                if job is not None:
                    await self.run_job(job)
                    continue
                await self._jobs.cancel_abandoned_uploads()
            except Fault as fault:
                log.warning("imports of timetables wait for the database: %s", fault)
            except Exception:
                # The job's lease ends by itself; whoever takes it next may have more luck.
                log.exception("bug: an import of a timetable broke off")
            try:
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._is_awake.wait()
            except TimeoutError:
                pass

    async def run_job(self, job: ImportJobRow) -> None:
        """Run one job that is ours, and say how it ended.

        Raises:
            Fault: the database is away; the job will be taken anew.
        """
        progress = _Progress()
        reporting = asyncio.create_task(self._report(job, progress))
        try:
            with TemporaryDirectory(prefix="housefull-import-") as directory:
                archive = Path(directory) / ARCHIVE_NAME
                await self._fetch(job, archive)
                report = await asyncio.to_thread(self._import_in_thread, job, archive, progress)
            problems = [*report.problems, *await self._renew_all(report.updated_ids, progress)]
        except _Stopped:
            log.info("import %s is not ours any more", job.import_job_id)
            return
        except ImportRefused as refused:
            await self._jobs.fail(
                job.import_job_id, self._worker, refused.reason, _kept(refused.problems)
            )
            return
        finally:
            progress.stop()
            reporting.cancel()
        # The last that people see of it, however short it was.
        await self._jobs.report(job.import_job_id, self._worker, LEASE_MS, *progress.now)
        counts = JobCounts(report.created, report.updated, report.unchanged)
        await self._jobs.finish(job.import_job_id, self._worker, counts, _kept(problems))

    async def _fetch(self, job: ImportJobRow, archive: Path) -> None:
        with archive.open("wb") as file:
            async for chunk in self._jobs.read_archive(job):
                file.write(chunk)

    def _import_in_thread(
        self, job: ImportJobRow, archive: Path, progress: _Progress
    ) -> ImportReport:
        return asyncio.run(self._import(job, archive, progress))

    async def _import(self, job: ImportJobRow, archive: Path, progress: _Progress) -> ImportReport:
        terms = TimetableTerms.of_json(job.parameters)
        async with self._open_catalogue() as catalogue:
            return await import_timetable(
                catalogue,
                archive,
                from_date=terms.from_date,
                to_date=terms.to_date,
                plan_id=terms.plan_id,
                fares=terms.fares,
                policy=terms.policy,
                owner=job.tenant_id,
                is_on_sale=terms.is_on_sale,
                progress=progress,
            )

    async def _report(self, job: ImportJobRow, progress: _Progress) -> None:
        """Keep the job ours, and tell the thread when it is not."""
        loop = asyncio.get_running_loop()
        ours_until_s = loop.time() + LEASE_MS / 1_000
        while True:
            begun_s = loop.time()
            try:
                is_ours = await self._jobs.report(
                    job.import_job_id, self._worker, LEASE_MS, *progress.now
                )
                ours_until_s = begun_s + LEASE_MS / 1_000
            except Fault:
                is_ours = loop.time() < ours_until_s
            if not is_ours:
                progress.stop()
                return
            await asyncio.sleep(REPORT_EVERY_S)

    async def _renew_all(
        self, show_ids: tuple[ShowId, ...], progress: _Progress
    ) -> list[ImportProblem]:
        """Let the actors of shows that were changed read them again."""
        some = asyncio.Semaphore(RENEWALS_AT_ONCE)
        problems: list[ImportProblem] = []
        done = 0

        async def renew(show_id: ShowId) -> None:
            nonlocal done
            async with some:
                try:
                    await self._renew(show_id)
                except Fault as fault:
                    log.warning("renewing %s: %r", show_id, fault)
                    reason = "is changed, but is still sold as before; import again"
                    problems.append(ImportProblem("", show_id, reason))
                done += 1
                progress("actors", done, len(show_ids))

        await asyncio.gather(*map(renew, show_ids))
        return problems


def renewing(refs: ShowRefs, claims: ClaimReader) -> Renew:
    """Lets actors read again the shows that somebody has had to do with already.

    A timetable has thousands of runs that nobody has asked for yet. No actor knows those, and
    renewing them would make actors learn them for nothing.
    """

    async def renew(show_id: ShowId) -> None:
        if (await claims.position_of(show_id)).epoch:
            await refs.renew(show_id)

    return renew


@asynccontextmanager
async def running(jobs: TimetableJobs) -> AsyncIterator[None]:
    """Jobs are run while this is open."""
    task = asyncio.create_task(jobs.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


def _rule_json(rule: FareRule) -> dict[str, Any]:
    return {"base_minor": rule.base_minor, "per_km_minor": str(rule.per_km_minor)}


def _rule_of(kept: Mapping[str, Any]) -> FareRule:
    return FareRule(kept["base_minor"], Decimal(kept["per_km_minor"]))


def _kept(problems: Iterable[ImportProblem]) -> list[JobProblem]:
    return [JobProblem(*problem) for problem in problems]
