"""What a house says when it is open: where it is, and what to try first."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from persistence.catalogue import Catalogue, ShowSearch
from reservation.listing import ShowKind
from serve_app.house.demo_logins import BOX_OFFICE, CUSTOMER, FILE, read_demo_logins
from serve_app.house.ports import PortChoice
from serve_app.settings import Settings

if TYPE_CHECKING:
    from persistence.catalogue import SearchItem

_JSON = "-H 'Content-Type: application/json'"
_BEARER = '-H "Authorization: Bearer $token"'


async def next_show(catalogue: Catalogue) -> SearchItem | None:
    """A show to try the house with: the next performance, else the next run of anything."""
    now_ms = time.time_ns() // 1_000_000
    for kind in (ShowKind.PERFORMANCE, None):
        page = await catalogue.search(ShowSearch(kind=kind, starts_from_ms=now_ms, limit=1))
        if page.items:
            return page.items[0]
    return None


def welcome(
    settings: Settings,
    url: str,
    ports: Sequence[PortChoice],
    show: SearchItem | None,
    *,
    started_in_s: float,
    trusted: Path | None = None,
    sandbox_url: str | None = None,
) -> str:
    """The text, ready to print; its commands can be copied into a shell.

    Args:
        trusted: the certificate that clients have to be given.
        sandbox_url: where the house's own payment provider is, if it has one.
    """
    curl = "curl" if trusted is None else f"curl --cacert {shlex.quote(str(trusted))}"
    lines = [
        "",
        f"Housefull is open at {url} (started in {started_in_s:.0f} s).",
        *(port.sentence for port in ports if port.sentence),
        "",
    ]
    can_log_in = settings.is_for_this_machine and bool(read_demo_logins(settings.data_dir))
    if show is None:
        lines.append("The catalogue has no coming show yet: see `housefull import --help`.")
    else:
        lines += _to_look(curl, url, show)
        if can_log_in:
            lines += ["", *_to_buy(curl, show, settings.data_dir / FILE)]
            if sandbox_url is not None:
                lines += ["", *_to_pay(curl, show, settings.data_dir / FILE, sandbox_url)]
    if not can_log_in:
        lines.append("The first admin: `housefull accounts create-admin EMAIL`.")
    lines += [
        "",
        f"Described in {url}/api/NAME/openapi.json: browse, booking, payments, account, organiser.",
        f"Data and logs are kept in {settings.data_dir}.",
        "Ctrl-C stops everything.",
        "",
    ]
    return "\n".join(lines)


def _to_look(curl: str, url: str, show: SearchItem) -> list[str]:
    return [
        f"Search; look at the seats of “{show.title}”:",
        f"  house={url}",
        f'  {curl} "$house/api/browse/shows?limit=3"',
        f'  {curl} "$house/api/browse/shows/{show.show_id}/seat-map?labels=false"',
    ]


def _to_buy(curl: str, show: SearchItem, logins: Path) -> list[str]:
    return [
        f"Log in at the box office (all demo logins: {logins}); hold two seats, sell them, list:",
        *_to_hold(curl, show, logins, BOX_OFFICE),
        f'  {curl} "$house/api/booking/holds/$hold/confirm" {_BEARER} \\',
        f'    {_JSON} -d \'{{"payment": "counter"}}\'',
        f'  {curl} "$house/api/booking/bookings" {_BEARER}',
    ]


def _to_pay(curl: str, show: SearchItem, logins: Path, sandbox_url: str) -> list[str]:
    return [
        f"Or as a customer, who pays (the payment sandbox at {sandbox_url} plays the provider):",
        *_to_hold(curl, show, logins, CUSTOMER),
        f'  payment=$({curl} -s "$house/api/booking/holds/$hold/checkout" {_BEARER} \\',
        f"    -X POST -H 'Idempotency-Key: my-first-payment' | sed {_member('payment_id')})",
        f"  curl {sandbox_url}/sandbox/stripe/pay {_JSON} -d '{{}}'; sleep 2",
        f'  {curl} "$house/api/payments/payments/$payment" {_BEARER}',
    ]


def _to_hold(curl: str, show: SearchItem, logins: Path, email: str) -> list[str]:
    body = f'{{"email": "{email}", "password": "\'"$password"\'"}}'
    return [
        f"  password=$(sed -n 's/^{email} //p' {shlex.quote(str(logins))})",
        f'  token=$({curl} -s "$house/api/account/sessions" {_JSON} \\',
        f"    -d '{body}' | sed {_member('access_token')})",
        f'  hold=$({curl} -s "$house/api/booking/shows/{show.show_id}/holds" {_BEARER} \\',
        f"    -H 'Idempotency-Key: my-first-hold' {_JSON} \\",
        f'    -d \'{{"best_available": {{"count": 2}}}}\' | sed {_member("hold_id")})',
    ]


def _member(name: str) -> str:
    """What makes ``sed`` print one member of a JSON object."""
    return rf"""'s/.*"{name}":"\([^"]*\)".*/\1/'"""
