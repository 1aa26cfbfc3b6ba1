"""How long the choice of seats holds up a show's event loop.

Run with ``python -m benchmarks.best_available``. Everything is in one process: no network, no
database, nothing but ``SeatChooser`` on a seat map that is sold at random to the given share.
"""

from __future__ import annotations

import argparse
import gc
import platform
import random
import time
from collections import Counter
from collections.abc import Callable
from functools import partial

from actors.process import calm_collector
from reservation.commands import Wish
from reservation.drawing_order import drawing_order_of
from reservation.seat_assignment import Assignment, SeatChooser
from reservation.show import OrphanRule
from tests.support.plans import arena

LOADS_PERCENT = (0, 50, 90, 99)
PARTIES = (1, 2, 4, 8)


def measure(ask: Callable[[list[int]], Assignment | None], maps: list[list[int]]) -> str:
    """One line of results: milliseconds, and how the seats were found."""
    wall_ms: list[float] = []
    cpu_ms: list[float] = []
    found: Counter[str] = Counter()
    for taken in maps:
        begun, cpu_begun = time.perf_counter(), time.thread_time()
        assignment = ask(taken)
        cpu_ms.append((time.thread_time() - cpu_begun) * 1_000)
        wall_ms.append((time.perf_counter() - begun) * 1_000)
        found[assignment.arrangement if assignment else "none"] += 1
    ways = ", ".join(f"{way} {count}" for way, count in sorted(found.items()))
    return f"{_figures(wall_ms)}   {_figures(cpu_ms)}   {ways}"


def _figures(times_ms: list[float]) -> str:
    times_ms.sort()
    p50 = times_ms[len(times_ms) // 2]
    p99 = times_ms[min(len(times_ms) - 1, len(times_ms) * 99 // 100)]
    return f"{p50:6.2f} {p99:6.2f} {times_ms[-1]:6.2f}"


def _best(
    chooser: SeatChooser, wish: Wish, rule: OrphanRule, taken: list[int]
) -> Assignment | None:
    return chooser.best_available(taken, 1, wish, rule)


def _nearest(
    chooser: SeatChooser, named: tuple[int, ...], rule: OrphanRule, taken: list[int]
) -> Assignment | None:
    return chooser.nearest(taken, 1, named, rule)


def main() -> None:
    """Print p50, p99 and max for every load and party."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seats", type=int, default=50_000)
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--rule", choices=[each.value for each in OrphanRule], default="lenient")
    parser.add_argument("--category", type=int, default=None)
    arguments = parser.parse_args()
    rule = OrphanRule(arguments.rule)
    plan = arena(arguments.seats)
    begun = time.perf_counter()
    # What the first question of a process makes, and all others of its choosers share.
    order = drawing_order_of(plan)
    chooser = SeatChooser(plan)
    built_ms = (time.perf_counter() - begun) * 1_000
    begun = time.perf_counter()
    for _ in range(1_000):
        SeatChooser(plan)
    again_us = (time.perf_counter() - begun) * 1_000
    assert order.plan is plan
    # As every process of an actor does when it begins.
    calm_collector()
    print(f"{platform.machine()}, Python {platform.python_version()}, {plan.seat_count} seats")
    print(f"tables of the plan: {built_ms:.0f} ms once; each further chooser {again_us:.1f} us")
    print(f"orphan rule {rule}; {arguments.repeats} seat maps per line; milliseconds")
    print("                           wall clock             processor")
    print("question       sold party    p50    p99    max      p50    p99    max   found")
    source = random.Random(20_261_201)
    for sold_percent in LOADS_PERCENT:
        maps = [
            [int(source.random() * 100 < sold_percent) for _ in range(plan.seat_count)]
            for _ in range(min(arguments.repeats, 20))
        ]
        maps = [maps[k % len(maps)] for k in range(arguments.repeats)]
        # A million seats of maps are ours, not a show's: no question may pay for looking at them.
        gc.collect()
        for party in PARTIES:
            wish = Wish(party, category_index=arguments.category)
            named = tuple(range(plan.seat_count // 3, plan.seat_count // 3 + party))
            questions: dict[str, Callable[[list[int]], Assignment | None]] = {
                "best_available": partial(_best, chooser, wish, rule),
                "nearest": partial(_nearest, chooser, named, rule),
            }
            for question, ask in questions.items():
                print(f"{question:14} {sold_percent:3}% {party:5} {measure(ask, maps)}", flush=True)


if __name__ == "__main__":
    main()
