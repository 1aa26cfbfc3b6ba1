"""Timetables over HTTP: begun, sent, imported in the background, and what can go wrong."""

from __future__ import annotations

import asyncio
import io
import threading
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from persistence.catalogue import Catalogue
from persistence.import_jobs import ImportJobs
from reservation.access import HOUSE_TENANT
from reservation.ids import TenantId
from reservation.organiser_ids import ImportJobId
from serve_app.api.organiser.timetable_bodies import ARCHIVE_BYTES_MAX
from serve_app.catalogue.timetable_jobs import TimetableJobs, running
from tests.support.access import OTHER_TENANT
from tests.support.http_house import (
    BOOKING,
    BROWSE,
    COACH,
    as_customer,
    code_of,
    fields_of,
    open_client,
)
from tests.support.organiser_house import (
    DEMO_TRAINS,
    ORGANISER,
    Organiser,
    OrganiserHouse,
    open_organiser_house,
    zipped,
)

RUNS = {"from_date": "2026-12-01", "to_date": "2026-12-07"}
FARES = {"currency": "CZK", "base_minor": 2_000, "per_km_minor": "120"}
ZIP = {"Content-Type": "application/zip"}
PATIENCE_S = 30


@pytest.fixture(scope="module")
async def house() -> AsyncIterator[OrganiserHouse]:
    async with open_organiser_house() as house:
        yield house


@pytest.fixture(scope="module")
async def olga(house: OrganiserHouse) -> AsyncIterator[Organiser]:
    async with open_client(house.app(), ORGANISER) as client:
        yield Organiser(client)


@pytest.fixture(scope="module")
async def booking(house: OrganiserHouse) -> AsyncIterator[httpx.AsyncClient]:
    async with open_client(house.house.booking_app(), BOOKING) as client:
        yield client


async def hold(booking: httpx.AsyncClient, show_id: str, seat: str) -> Any:
    held = await booking.post(
        f"/shows/{show_id}/holds", json={"seats": [seat]}, headers=as_customer(f"rider-{seat}")
    )
    assert held.status_code == 201, held.text
    return held.json()


async def begin(olga: Organiser, **more: Any) -> str:
    """Begin an import of the coach; its address."""
    body = {
        **RUNS,
        "fares": FARES,
        "file_name": "trains.zip",
        "seating_plan_id": await olga.make_plan(COACH),
        **more,
    }
    begun = await olga.make("/timetable-imports", body)
    assert begun["state"] == "uploading"
    return f"/timetable-imports/{begun['timetable_import_id']}"


async def send(olga: Organiser, path: str, archive: bytes) -> httpx.Response:
    return await olga.ask("POST", f"{path}/archive", content=archive, headers=ZIP)


async def ended(olga: Organiser, path: str) -> Any:
    """The import once it is over."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            job = await olga.get(path)
            if job["state"] not in ("queued", "running"):
                return job
            await asyncio.sleep(0.05)


async def test_a_timetable_becomes_shows_and_importing_it_again_changes_nothing(
    house: OrganiserHouse, olga: Organiser, booking: httpx.AsyncClient
) -> None:
    archive = zipped(DEMO_TRAINS)
    path = await begin(olga)
    sent = await send(olga, path, archive)
    assert sent.status_code == 202, sent.text
    assert sent.json()["archive_bytes"] == len(archive)
    job = await ended(olga, path)
    assert (job["state"], job["failure"], job["problems"]) == ("done", "", [])
    assert job["created"] > 10
    assert job["progress"]["done"] == job["progress"]["total"]
    assert job["progress"]["stage"] == "shows"

    shows = await olga.get("/shows", kind="train", limit=100)
    assert len(shows["shows"]) == job["created"]
    async with open_client(house.house.browse_app(), BROWSE) as browse:
        show_id = shows["shows"][0]["show_id"]
        detail = (await browse.get(f"/shows/{show_id}")).json()
        assert len(detail["stops"]) > 2

    again = await send(olga, path, archive)
    assert again.status_code == 202
    assert again.headers["idempotent-replayed"] == "true"

    second = await begin(olga)
    await send(olga, second, archive)
    repeated = await ended(olga, second)
    assert (repeated["created"], repeated["updated"]) == (0, 0)
    assert repeated["unchanged"] == job["created"]

    sold = shows["shows"][0]["show_id"]
    before = await hold(booking, sold, "Coach-1-1")
    dearer = await begin(olga, fares={**FARES, "base_minor": 3_000})
    await send(olga, dearer, archive)
    changed = await ended(olga, dearer)
    assert (changed["created"], changed["updated"]) == (0, job["created"])
    assert changed["progress"]["stage"] == "actors"
    after = await hold(booking, sold, "Coach-1-2")
    assert after["amount_minor"] == before["amount_minor"] + 1_000, "its actor learnt the new fare"


async def test_two_houses_import_one_timetable_and_each_has_its_own_shows(
    olga: Organiser,
) -> None:
    oscar = Organiser(olga.client, "oscar", tenant_id=OTHER_TENANT)
    path = await begin(oscar)
    await send(oscar, path, zipped(DEMO_TRAINS))
    assert (await ended(oscar, path))["state"] == "done"
    theirs = {show["show_id"] for show in (await oscar.get("/shows", limit=100))["shows"]}
    ours = {show["show_id"] for show in (await olga.get("/shows", limit=100))["shows"]}
    assert theirs
    assert not theirs & ours
    assert (await olga.ask("GET", path)).status_code == 404


async def test_problems_of_the_files_are_told_and_the_rest_is_imported(olga: Organiser) -> None:
    files = {path.name: path.read_text() for path in DEMO_TRAINS.iterdir()}
    files["stop_times.txt"] += "no-such-trip,08:00:00,08:00:00,PRG,1\n"
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    path = await begin(olga, from_date="2027-01-04", to_date="2027-01-04")
    await send(olga, path, content.getvalue())
    job = await ended(olga, path)
    assert job["problem_count"] == len(job["problems"]) > 0
    assert job["problems"][0]["file"] == "stop_times.txt"
    assert job["problems"][0]["place"].startswith("line ")
    if job["state"] == "failed":
        assert job["failure"]


async def test_an_import_without_any_run_fails_and_says_why(olga: Organiser) -> None:
    path = await begin(olga, from_date="2099-01-01", to_date="2099-01-02")
    await send(olga, path, zipped(DEMO_TRAINS))
    job = await ended(olga, path)
    assert job["state"] == "failed"
    assert "nothing to import" in job["failure"]
    late = await send(olga, path, zipped(DEMO_TRAINS))
    assert code_of(late) == "import_is_over"


def _bomb() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("stop_times.txt", bytes(64 * 1024 * 1024))
    return content.getvalue()


def _crowd() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for number in range(10_000):
            archive.writestr(f"{number}.txt", "")
    return content.getvalue()


@pytest.mark.parametrize(
    ("archive", "reason"),
    [
        (b"not a zip archive", "not a zip archive"),
        (_bomb(), "packed more than"),
        (_crowd(), "lists more files"),
    ],
    ids=["text", "bomb", "crowd"],
)
async def test_an_archive_that_is_none_or_a_trap_is_refused_before_it_is_kept(
    house: OrganiserHouse, olga: Organiser, archive: bytes, reason: str
) -> None:
    path = await begin(olga)
    refused = await send(olga, path, archive)
    assert code_of(refused) == "archive_not_accepted"
    assert reason in refused.text
    assert (await olga.get(path))["state"] == "uploading", "another one may be sent"
    kept = await house.admin_pool.fetchval(
        "SELECT count(*) FROM import_job_chunk WHERE import_job_id = $1", path.rpartition("/")[2]
    )
    assert kept == 0


async def test_a_body_that_is_too_large_or_no_archive_is_refused(olga: Organiser) -> None:
    path = f"{await begin(olga)}/archive"

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(ARCHIVE_BYTES_MAX // (1 << 20) + 1):
            yield bytes(1 << 20)

    announced = {**ZIP, "Content-Length": str(ARCHIVE_BYTES_MAX + 1)}
    refused = await olga.ask("POST", path, headers=announced, content=b"PK")
    assert code_of(refused) == "body_too_large"
    streamed = await olga.ask("POST", path, headers=ZIP, content=endless())
    assert code_of(streamed) == "body_too_large"
    assert streamed.headers["connection"] == "close"
    empty = await olga.ask("POST", path, headers=ZIP, content=b"")
    assert fields_of(empty) == ["body"]
    odd = await olga.ask("POST", path, headers={"Content-Type": "text/plain"}, content=b"x")
    assert code_of(odd) == "unsupported_media_type"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"to_date": "2026-11-30"}, "to_date"),
        ({"to_date": "2028-12-01"}, "to_date"),
        ({"from_date": "yesterday"}, "from_date"),
        ({"fares": {**FARES, "per_km_minor": "-1"}}, "fares.per_km_minor"),
        ({"fares": {**FARES, "per_km_minor": 120}}, "fares.per_km_minor"),
        ({"fares": {**FARES, "categories": {"Sofa": {}}}}, "fares.categories.Sofa"),
        ({"fares": {**FARES, "currency": "crown"}}, "fares.currency"),
        ({"seating_plan_id": "vpl_" + "0" * 20}, "seating_plan_id"),
        ({"plan_id": "pln_" + "0" * 20}, "plan_id"),
        ({"state": "done"}, "state"),
    ],
)
async def test_terms_that_cannot_be_name_their_field(
    olga: Organiser, change: dict[str, Any], field: str
) -> None:
    body = {**RUNS, "fares": FARES, "seating_plan_id": await olga.make_plan(COACH), **change}
    refused = await olga.ask("POST", "/timetable-imports", body)
    assert refused.status_code == 422
    assert fields_of(refused) == [field]


async def test_a_cancelled_import_stays_cancelled(olga: Organiser) -> None:
    path = await begin(olga)
    assert (await olga.do(f"{path}/cancel"))["state"] == "cancelled"
    again = await olga.ask("POST", f"{path}/cancel")
    assert again.headers["idempotent-replayed"] == "true"
    assert code_of(await send(olga, path, zipped(DEMO_TRAINS))) == "import_is_over"


async def test_an_import_whose_process_died_is_done_by_the_next_one(
    house: OrganiserHouse, olga: Organiser
) -> None:
    path = await begin(olga, from_date="2026-12-21", to_date="2026-12-21")
    job_id = ImportJobId(path.rpartition("/")[2])
    jobs: ImportJobs = house.organisers.import_jobs
    tenant_id: TenantId = HOUSE_TENANT
    archive = zipped(DEMO_TRAINS)
    await jobs.append_chunk(tenant_id, job_id, 0, archive)
    async with house.admin_pool.acquire() as connection, connection.transaction():
        # As a process leaves it that took the job and died at once.
        await connection.execute(
            "UPDATE import_job SET state = 'running', worker = 'gone', lease_until_ms = 1, "
            "attempt_count = 1, chunk_count = 1, archive_bytes = $2 WHERE import_job_id = $1",
            job_id,
            len(archive),
        )
    house.jobs.wake()
    job = await ended(olga, path)
    assert job["state"] == "done"
    assert job["attempt"] == 2


async def test_an_import_that_is_cancelled_while_it_runs_stops_and_stores_nothing_more(
    house: OrganiserHouse, olga: Organiser
) -> None:
    path = await begin(olga, from_date="2026-12-22", to_date="2026-12-22")
    may_go_on = threading.Event()

    @asynccontextmanager
    async def open_slowly() -> AsyncIterator[Catalogue]:
        # In the thread of the import, on its own event loop: nobody else waits for this.
        assert may_go_on.wait(PATIENCE_S)
        async with house.open_catalogue() as catalogue:
            yield catalogue

    told = asyncio.Event()

    class Noting(ImportJobs):
        async def report(self, *said: Any) -> bool:
            is_ours = await super().report(*said)
            if not is_ours:
                told.set()
            return is_ours

    async def store(path: str) -> None:
        # Not over HTTP: that would wake the house's own worker.
        job_id, archive = ImportJobId(path.rpartition("/")[2]), zipped(DEMO_TRAINS)
        await house.organisers.import_jobs.append_chunk(HOUSE_TENANT, job_id, 0, archive)
        await house.organisers.import_jobs.start(HOUSE_TENANT, job_id, 1)

    async def comes_to(path: str, state: str) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while (await olga.get(path))["state"] != state:  # noqa: ASYNC110  # Over HTTP.
                await asyncio.sleep(0.02)

    await store(path)
    jobs = TimetableJobs(Noting(house.own_pool), open_slowly, house.house.refs.renew)
    async with running(jobs):
        await comes_to(path, "running")
        assert (await olga.do(f"{path}/cancel"))["state"] == "cancelled"
        async with asyncio.timeout(PATIENCE_S):
            await told.wait()
        may_go_on.set()
        # The next job is taken when this one is over.
        after = await begin(olga, from_date="2026-12-23", to_date="2026-12-23")
        await store(after)
        jobs.wake()
        await comes_to(after, "done")
    assert (await olga.get(path))["state"] == "cancelled"
    day = {"starts_from": "2026-12-22T00:00:00Z", "starts_before": "2026-12-22T23:00:00Z"}
    assert (await olga.get("/shows", kind="train", **day))["shows"] == []
