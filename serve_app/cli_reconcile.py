"""``housefull reconcile``: what the payment providers have against what is written down here."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from serve_app.house_error import BadInput

if TYPE_CHECKING:
    from actors.reconciliation import ReconciliationReport
    from integrations.payments.provider_config import PaymentProvidersConfig
    from serve_app.settings import Settings

_EXIT_FAILED = 1
_HOUR_MS = 3_600_000
_HOURS_MAX = 24 * 366


def reconcile(
    since: Annotated[
        int, typer.Option(min=1, max=_HOURS_MAX, metavar="HOURS", help="How far to look back.")
    ] = 72,
    look_only: Annotated[
        bool, typer.Option("--look-only", help="Tell what is found, and do nothing about it.")
    ] = False,
) -> None:
    """Compare the payment providers' books with ours, both ways.

    What lags behind is woken and goes its usual way; what a person has to judge becomes an alarm.
    A line for everything that is found; exit status 1 then, or when a provider is away.
    """
    from actors.config import ActorsConfig
    from actors.reconciliation import reconcile as compare
    from serve_app.house.databases import open_databases
    from serve_app.settings import load_settings

    settings = load_settings()
    providers = _providers(settings)
    with open_databases(settings, "housefull reconcile") as databases:
        config = ActorsConfig(databases.shards, heartbeat_dir="", payments=providers)
        report = asyncio.run(compare(config, looks_only=look_only, looked_back_ms=since * _HOUR_MS))
    _tell(report)
    if not report.is_clean:
        raise typer.Exit(_EXIT_FAILED)


def _providers(settings: Settings) -> PaymentProvidersConfig:
    """With whom the house takes money; a sandbox is there only while its house runs."""
    from integrations.payments.provider_config import PaymentProvidersConfig
    from serve_app.house.data_directory import DataDirectory
    from serve_app.house.payment_sandbox import PaymentSandbox

    if settings.payments == "off":
        return PaymentProvidersConfig()
    if not settings.has_payment_sandbox:
        return settings.provider_accounts()
    data = DataDirectory(settings.data_dir)
    house = data.running()
    port = None if house is None or house.sandbox_url is None else urlsplit(house.sandbox_url).port
    if port is None:
        raise BadInput("the payment sandbox runs with its house; start the house first")
    return PaymentSandbox(data, port).providers


def _tell(report: ReconciliationReport) -> None:
    for finding in report.findings:
        typer.echo(f"{finding.subject}: {finding.kind}: {finding.detail}", err=True)
    for reason in report.unreachable:
        typer.echo(f"not compared: {reason}", err=True)
    for total in report.totals:
        typer.echo(
            f"{total.provider}: {total.payment_count:,} payments, "
            f"{total.captured_minor:,} {total.currency} minor units captured, "
            f"{total.refunded_minor:,} refunded"
        )
    if report.is_clean:
        typer.echo("the providers' books and ours agree")
    else:
        typer.echo(f"{len(report.findings):,} findings, {len(report.unreachable):,} not compared")
