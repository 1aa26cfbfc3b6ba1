"""Published rates of real systems, from the lowest up, and which of them a run passed.

The rungs differ in hardware and in what one order is: some are a whole country's record, some one
event on one server, none chose seats on two cores. They say what a rate means, and nothing more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from benchmarks.results import RunResult

OVER_HTTP = "http_hot_show"
BELOW_HTTP = "engine_hot_show"


class Rung(NamedTuple):
    """One published figure."""

    rate_per_s: float
    who: str
    what: str
    source: str


RUNGS = (
    Rung(8.3, "pretix", "one event with a quota: 500 orders a minute", "docs.pretix.eu, scaling"),
    Rung(17, "Ticketmaster", "a stadium of 60,000 seats in an hour", "accessaa.co.uk, 2022"),
    Rung(25, "pretix", "one event without a quota: 1,500 orders a minute", "docs.pretix.eu"),
    Rung(65, "Oasis 2024", "tickets of the sale, mean of six hours", "renerocks.ai, TigerFans"),
    Rung(106, "alf.io", "check-in redirects, 250 clients", "github.com/alfio-event, PR 898"),
    Rung(200, "seats.io", "booked places, limit of an account", "docs.seats.io, rate limit"),
    Rung(248, "IRCTC 2014", "record: 14,904 tickets in a minute, all of India", "ndtv.in"),
    Rung(250, "12306, 2013-16", "peak: 15,000 tickets a minute, China", "tanzu.vmware.com"),
    Rung(272, "TigerFans", "checkouts, PostgreSQL only", "renerocks.ai, Amdahl analysis"),
    Rung(441, "IRCTC 2020", "26,458 tickets in a minute", "bloggistan.com"),
    Rung(530, "IRCTC 2025", "record: 31,814 tickets in a minute", "business-standard.com, 2025-06"),
    Rung(861, "TigerFans", "checkouts, TigerBeetle and Redis", "renerocks.ai, single worker"),
    Rung(977, "TigerFans", "reservations, TigerBeetle and Redis", "renerocks.ai, single worker"),
    Rung(1_032, "12306, 2015", "orders after the in-memory grid", "besthub.dev"),
    Rung(2_500, "new Indian PRS", "target: 150,000 tickets a minute", "ddindia.co.in, 2025-06"),
)


class Climbed(NamedTuple):
    """A rung and whether a run passed it; None where that was not measured."""

    rung: Rung
    over_http: bool | None
    below_http: bool | None

    def as_json(self) -> dict[str, object]:
        """See docs/BENCHMARKS.md."""
        return {
            **self.rung._asdict(),
            "passed_over_http": self.over_http,
            "passed_below_http": self.below_http,
        }


def climbed(result: RunResult) -> list[Climbed]:
    """All rungs, against our durable holds a second on one hot show."""
    http, engine = _rate(result, OVER_HTTP), _rate(result, BELOW_HTTP)
    return [
        Climbed(
            rung,
            None if http is None else http > rung.rate_per_s,
            None if engine is None else engine > rung.rate_per_s,
        )
        for rung in RUNGS
    ]


def _rate(result: RunResult, scenario: str) -> float | None:
    found = result.find(scenario)
    if found is None or "actor" not in found.rounds:
        return None
    return found.rate("actor")
