"""What a house says when it is open: where it is, and what to try first."""

from __future__ import annotations

from collections.abc import Sequence

from serve_app.ports import PortChoice
from serve_app.settings import Settings


def welcome(
    settings: Settings, url: str, ports: Sequence[PortChoice], *, started_in_s: float
) -> str:
    """The text, ready to print."""
    lines = [
        "",
        f"Housefull is open at {url} (started in {started_in_s:.0f} s).",
        *(port.sentence for port in ports if port.sentence),
        "",
        "Try:",
        f"  curl '{url}/api/browse/shows?limit=3'",
        f"  curl '{url}/api/browse/openapi.json'",
        f"  curl '{url}/api/booking/openapi.json'",
        "",
        f"Data and logs are kept in {settings.data_dir}.",
        "Ctrl-C stops everything.",
        "",
    ]
    return "\n".join(lines)
