"""What a house says when it is open: where it is, and what to try first."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from persistence.catalogue import Catalogue, ShowSearch
from reservation.listing import ShowKind
from serve_app.house.demo_logins import BOX_OFFICE, FILE, read_demo_logins
from serve_app.house.ports import PortChoice
from serve_app.settings import Settings

if TYPE_CHECKING:
    from persistence.catalogue import SearchItem


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
) -> str:
    """The text, ready to print; its commands can be copied into a shell.

    Args:
        trusted: the certificate that clients have to be given.
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
    if not can_log_in:
        lines.append("The first admin: `housefull accounts create-admin EMAIL`.")
    lines += [
        "",
        f"Described in {url}/api/NAME/openapi.json: browse, booking, account, organiser.",
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
    json = "-H 'Content-Type: application/json'"
    bearer = '-H "Authorization: Bearer $token"'
    body = f'{{"email": "{BOX_OFFICE}", "password": "\'"$password"\'"}}'
    return [
        f"Log in at the box office (all demo logins: {logins}); hold two seats, sell them, list:",
        f"  password=$(sed -n 's/^{BOX_OFFICE} //p' {shlex.quote(str(logins))})",
        f'  token=$({curl} -s "$house/api/account/sessions" {json} \\',
        f"    -d '{body}' | sed {_member('access_token')})",
        f'  hold=$({curl} -s "$house/api/booking/shows/{show.show_id}/holds" {bearer} \\',
        f"    -H 'Idempotency-Key: my-first-hold' {json} \\",
        f'    -d \'{{"best_available": {{"count": 2}}}}\' | sed {_member("hold_id")})',
        f'  {curl} "$house/api/booking/holds/$hold/confirm" {bearer} \\',
        f'    {json} -d \'{{"payment": "counter"}}\'',
        f'  {curl} "$house/api/booking/bookings" {bearer}',
    ]


def _member(name: str) -> str:
    """What makes ``sed`` print one member of a JSON object."""
    return rf"""'s/.*"{name}":"\([^"]*\)".*/\1/'"""
