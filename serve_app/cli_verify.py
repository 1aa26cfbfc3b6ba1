"""``housefull verify``: what the journal says against what the tables say, show by show."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from serve_app.house_error import BadInput

if TYPE_CHECKING:
    from persistence.verification import Verdict
    from reservation.ids import ShowId
    from serve_app.databases import Databases

_EXIT_FAILED = 1


def verify(
    show_ids: Annotated[
        list[str] | None, typer.Argument(metavar="[SHOW_ID]...", help="All shows without any.")
    ] = None,
) -> None:
    """Replay the journal and prove that no seat was sold twice."""
    from reservation.ids import ShowId, is_show_id
    from serve_app.databases import open_databases
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
    from persistence.provisioning import connected_pool
    from persistence.verification import verify_shows

    shows = entries = seat_legs = faulty = 0
    async with AsyncExitStack() as opened:
        pools = [
            await opened.enter_async_context(connected_pool(url)) for url in databases.admin_urls
        ]
        async for verdict in verify_shows(pools, databases.shards, show_ids):
            shows += 1
            entries += verdict.entries
            seat_legs += verdict.seat_legs
            faulty += bool(verdict.faults)
            _report(verdict)
    result = f"{faulty:,} shows have faults" if faulty else "everything agrees"
    typer.echo(
        f"{shows:,} shows, {entries:,} journal entries, {seat_legs:,} seat-legs taken: {result}"
    )
    return not faulty


def _report(verdict: Verdict) -> None:
    for fault in verdict.faults:
        where = "" if fault.seat_index is None else f" (seat {fault.seat_index}, leg {fault.leg})"
        typer.echo(f"{verdict.show_id}: {fault.what}{where}", err=True)
