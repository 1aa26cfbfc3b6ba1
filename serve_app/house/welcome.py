"""What a house says when it is open: where it is, and what to try first."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from persistence.catalogue import Catalogue, ShowSearch
from reservation.listing import ShowKind
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
) -> str:
    """The text, ready to print; its commands can be copied into a shell."""
    lines = [
        "",
        f"Housefull is open at {url} (started in {started_in_s:.0f} s).",
        *(port.sentence for port in ports if port.sentence),
        "",
    ]
    if show is None:
        lines.append("The catalogue has no coming show yet: see `housefull import --help`.")
    else:
        lines += [
            f"Search; look at the seats of “{show.title}”; hold two of them:",
            f"  curl '{url}/api/browse/shows?limit=3'",
            f"  curl '{url}/api/browse/shows/{show.show_id}/seat-map?labels=false'",
            f"  curl '{url}/api/booking/shows/{show.show_id}/holds' \\",
            "    -H 'X-Customer-Id: me' -H 'Idempotency-Key: my-first-hold' \\",
            "    -H 'Content-Type: application/json' -d '{\"best_available\": {\"count\": 2}}'",
        ]
    lines += [
        "",
        f"Described in {url}/api/browse/openapi.json and {url}/api/booking/openapi.json.",
        f"Data and logs are kept in {settings.data_dir}.",
        "Ctrl-C stops everything.",
        "",
    ]
    return "\n".join(lines)
