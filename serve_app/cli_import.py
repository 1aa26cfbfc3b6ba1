"""``housefull import``: seating plans and timetables from files into the catalogue.

What is wrong with the files is reported on standard error, one line per problem, as
``file:line: reason``; the rest is imported, unless ``--strict`` is given.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from serve_app.house_error import BadInput, HouseError

if TYPE_CHECKING:
    from persistence.catalogue import Catalogue
    from serve_app.catalogue.importing import FareTerms, ImportProblem, ImportReport, Progress

import_commands = typer.Typer(
    help="Fill the catalogue from files.", no_args_is_help=True, add_completion=False
)

# ISO 4217: currencies that do not have two digits after the decimal point.
_DIGITS = {
    code: digits
    for digits, codes in (
        (0, "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"),
        (3, "BHD IQD JOD KWD LYD OMR TND"),
        (4, "CLF UYW"),
    )
    for code in codes.split()
}

_LINE = re.compile(r"^line (\d+)(, column \d+)?$")

_File = Annotated[
    Path, typer.Argument(exists=True, dir_okay=False, readable=True, help="Seating plan (JSON).")
]
_Extras = Annotated[
    Path | None,
    typer.Option(exists=True, dir_okay=False, readable=True, help="Its sibling (JSON)."),
]
_Strict = Annotated[bool, typer.Option("--strict", help="Import nothing if there is a problem.")]


@import_commands.command("seating-plan")
def seating_plan(file: _File, extras: _Extras = None, strict: _Strict = False) -> None:
    """Store a seating plan."""
    from serve_app.catalogue.importing import import_seating_plan

    async def store(catalogue: Catalogue, progress: Progress) -> ImportReport:
        return await import_seating_plan(catalogue, file, extras_path=extras, strict=strict)

    report = _imported(store, "housefull import seating-plan")
    typer.echo(f"{_counts(report)}: {', '.join(report.plan_ids)}")


@import_commands.command()
def gtfs(
    feed: Annotated[
        Path, typer.Argument(exists=True, readable=True, help="GTFS feed: a folder or a zip file.")
    ],
    from_date: Annotated[
        datetime, typer.Option("--from", formats=["%Y-%m-%d"], help="First service day.")
    ],
    to_date: Annotated[
        datetime, typer.Option("--to", formats=["%Y-%m-%d"], help="Last service day.")
    ],
    seating_plan: Annotated[
        Path,
        typer.Option(exists=True, dir_okay=False, readable=True, help="Seats of every vehicle."),
    ],
    extras: _Extras = None,
    coaches: Annotated[
        int, typer.Option(min=1, help="The seating plan is one coach of so many.")
    ] = 1,
    fare_per_km: Annotated[str, typer.Option(metavar="AMOUNT", help="Such as 0.12.")] = "0",
    fare_base: Annotated[str, typer.Option(metavar="AMOUNT", help="Once a ride.")] = "0",
    currency: Annotated[str, typer.Option(help="Three letters, ISO 4217.")] = "EUR",
    strict: _Strict = False,
) -> None:
    """Store a show for every run of a timetable."""
    from serve_app.catalogue.importing import import_gtfs

    fares = _fare_terms(currency, fare_base, fare_per_km)
    first, last = from_date.date(), to_date.date()
    _check_days(first, last)

    async def store(catalogue: Catalogue, progress: Progress) -> ImportReport:
        return await import_gtfs(
            catalogue,
            feed,
            from_date=first,
            to_date=last,
            plan_path=seating_plan,
            extras_path=extras,
            coaches=coaches,
            fares=fares,
            strict=strict,
            progress=progress,
        )

    report = _imported(store, "housefull import gtfs")
    typer.echo(f"{_counts(report)} from {first} to {last}")


def _imported(
    store: Callable[[Catalogue, Progress], Awaitable[ImportReport]], what: str
) -> ImportReport:
    from serve_app.catalogue.importing import ImportRefused
    from serve_app.house.databases import open_databases
    from serve_app.settings import load_settings

    with open_databases(load_settings(), what) as databases, _progress_bar() as progress:
        try:
            report = asyncio.run(_stored(store, databases.catalogue_admin_url, progress))
        except ImportRefused as error:
            lines = [error.reason, *(_line_of(problem) for problem in error.problems)]
            raise HouseError("\n".join(lines)) from error
    for problem in report.problems:
        typer.echo(_line_of(problem), err=True)
    return report


async def _stored(
    store: Callable[[Catalogue, Progress], Awaitable[ImportReport]], url: str, progress: Progress
) -> ImportReport:
    from persistence.catalogue import Catalogue
    from persistence.provisioning import connected_pool

    async with connected_pool(url) as pool:
        return await store(Catalogue(pool), progress)


@contextmanager
def _progress_bar() -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    tasks: dict[str, TaskID] = {}
    with Bars(console=Console(stderr=True), transient=True) as bars:

        def progress(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done, total=total)

        yield progress


def _line_of(problem: ImportProblem) -> str:
    # As compilers write it, so that editors can jump there.
    place = _LINE.sub(r"\1\2", problem.place).replace(", column ", ":")
    where = ":".join(part for part in (problem.file, place) if part)
    return f"{where}: {problem.reason}" if where else problem.reason


def _counts(report: ImportReport) -> str:
    text = f"created {report.created:,}, updated {report.updated:,}, unchanged {report.unchanged:,}"
    if report.problems:
        text += f", problems {len(report.problems):,}"
    return text


def _fare_terms(currency: str, base: str, per_km: str) -> FareTerms:
    from integrations.gtfs_timetable import FareRule
    from serve_app.catalogue.importing import FareTerms

    if len(currency) != 3 or not currency.isascii() or not currency.isalpha():
        raise BadInput(f"--currency: {currency!r} is not three letters of ISO 4217")
    currency = currency.upper()
    unit = Decimal(10) ** _DIGITS.get(currency, 2)
    base_minor = _amount("--fare-base", base) * unit
    if base_minor != int(base_minor):
        raise BadInput(f"--fare-base: {base} has more digits than {currency} has")
    rule = FareRule(int(base_minor), _amount("--fare-per-km", per_km) * unit)
    return FareTerms(currency, rule)


def _amount(option: str, text: str) -> Decimal:
    try:
        amount = Decimal(text)
    except InvalidOperation:
        amount = Decimal("nan")
    if not amount.is_finite() or amount < 0:
        raise BadInput(f"{option}: {text!r} is not an amount such as 2.50")
    return amount


def _check_days(first: date, last: date) -> None:
    from integrations.gtfs_timetable import DAYS_MAX

    if last < first:
        raise BadInput(f"--to: {last} is before {first}")
    if (last - first).days >= DAYS_MAX:
        raise BadInput(f"--to: {first} to {last} is more than {DAYS_MAX} days")
