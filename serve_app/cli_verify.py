"""``housefull verify``: what the journal says against what the tables say, show by show."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from serve_app.api.instants import write_instant
from serve_app.house_error import BadInput

if TYPE_CHECKING:
    from persistence.catalogue import Catalogue
    from persistence.verification import Verdict
    from reservation.audit import AuditFault
    from reservation.ids import ShowId
    from serve_app.house.databases import Databases

_EXIT_FAILED = 1


def verify(
    show_ids: Annotated[
        list[str] | None, typer.Argument(metavar="[SHOW_ID]...", help="All shows without any.")
    ] = None,
) -> None:
    """Replay the journal and prove that no seat was sold twice and no money is lost.

    A line for every fault: show, seat, leg, time, and what is wrong; exit status 1 then.
    """
    from reservation.ids import ShowId, is_show_id
    from serve_app.house.databases import open_databases
    from serve_app.settings import load_settings

    wanted = [ShowId(show_id) for show_id in show_ids or ()]
    for show_id in wanted:
        if not is_show_id(show_id):
            raise BadInput(f"{show_id!r} is not the id of a show")
    with open_databases(load_settings(), "housefull verify") as databases:
        is_right = asyncio.run(_verify(databases, wanted))
    if not is_right:
        raise typer.Exit(_EXIT_FAILED)


async def _verify(databases: Databases, show_ids: Sequence[ShowId]) -> bool:
    from persistence.catalogue import Catalogue
    from persistence.provisioning import connected_pool
    from persistence.verification import verify_shows

    shows = entries = seat_legs = payments = faults = 0
    async with AsyncExitStack() as opened:
        pools = [
            await opened.enter_async_context(connected_pool(url)) for url in databases.admin_urls
        ]
        catalogue = Catalogue(pools[0])
        async for verdict in verify_shows(pools, databases.shards, show_ids):
            shows += 1
            entries += verdict.entries
            seat_legs += verdict.seat_legs
            payments += verdict.payments
            faults += len(verdict.faults)
            if verdict.faults:
                await _report(verdict, catalogue)
    result = f"{faults:,} faults" if faults else "nothing was sold twice and all books agree"
    typer.echo(
        f"{shows:,} shows, {entries:,} journal entries, {seat_legs:,} seat-legs taken, "
        f"{payments:,} payments: {result}"
    )
    return not faults


async def _report(verdict: Verdict, catalogue: Catalogue) -> None:
    listing = await catalogue.find_listing(verdict.show_id)
    plan = None if listing is None else await catalogue.load_plan(listing.plan_id)
    for fault in verdict.faults:
        seat = fault.seat_index
        label = "" if seat is None else str(seat)
        if plan is not None and seat is not None and 0 <= seat < len(plan.labels):
            label = plan.labels[seat]
        typer.echo(_line(verdict.show_id, fault, label), err=True)


def _line(show_id: ShowId, fault: AuditFault, label: str) -> str:
    parts: list[str] = [show_id]
    if label:
        parts.append(f"seat {label}")
    if fault.leg is not None:
        parts.append(f"leg {fault.leg}")
    if fault.at_ms:
        parts.append(write_instant(fault.at_ms))
    return f"{' '.join(parts)}: {fault.what}"
