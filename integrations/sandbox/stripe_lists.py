"""Stripe's lists: the newest first, page after page; searching by metadata; expanding ids."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol, TypeVar

from integrations.sandbox.state import Table
from integrations.sandbox.stripe_errors import bad_parameter, invalid, missing
from integrations.sandbox.stripe_store import StripeStore

LIMIT_MAX = 100
_LIMIT = 10
_EXPAND_DEPTH_MAX = 4


class Listed(Protocol):
    """What can be listed."""

    @property
    def id(self) -> str: ...

    @property
    def created(self) -> int: ...


ListedT = TypeVar("ListedT", bound=Listed)

_CLAUSE = re.compile(
    r"""\s*(?:metadata\[["'](?P<key>[^"']+)["']\]|(?P<field>[a-z_]+))\s*"""
    r"""(?P<sign>:|>=|<=|>|<)\s*(?:["'](?P<text>[^"']*)["']|(?P<number>\d+))\s*"""
)


def list_page(
    table: Table[ListedT],
    kind: str,
    url: str,
    params: dict[str, Any],
    fits: Callable[[ListedT], bool],
    shown: Callable[[ListedT], Any],
    *,
    among: list[str] | None = None,
) -> dict[str, Any]:
    """One page of a list.

    Args:
        among: ids of all rows that may fit, the oldest first, where they are known.

    Raises:
        StripeRefusal: of the limit or a cursor.
    """
    if among is not None:
        table = table.part(among)
    limit = params.get("limit", _LIMIT)
    if not 1 <= limit <= LIMIT_MAX:
        word = "less than or equal to 100" if limit > LIMIT_MAX else "greater than or equal to 1"
        raise bad_parameter(f"This value must be {word}.", "parameter_invalid_integer", "limit")
    earliest, latest = _created_range(params.get("created"))
    starting_after, ending_before = params.get("starting_after"), params.get("ending_before")
    for name in ("starting_after", "ending_before"):
        if name in params and table.find(params[name]) is None:
            raise missing(kind, params[name], param=name, is_in_path=False)
    rows: Iterator[ListedT]
    if ending_before is not None:
        later = table.oldest_first(ending_before)
        rows = (row for row in later if earliest <= row.created <= latest and fits(row))
    else:
        # The newest first: everything behind the first that is too old is too old as well.
        recent = itertools.takewhile(
            lambda row: row.created >= earliest, table.newest_first(starting_after)
        )
        rows = (row for row in recent if row.created <= latest and fits(row))
    page = list(itertools.islice(rows, limit + 1))
    has_more = len(page) > limit
    page = page[:limit]
    if ending_before is not None:
        page.reverse()
    return {
        "object": "list",
        "data": [shown(row) for row in page],
        "has_more": has_more,
        "url": url,
    }


def _created_range(created: Any) -> tuple[float, float]:
    if created is None:
        return 0, float("inf")
    if isinstance(created, int):
        return created, created
    if isinstance(created, str):
        return int(created), int(created)
    earliest = max(created.get("gte", 0), created.get("gt", -1) + 1)
    latest = min(created.get("lte", float("inf")), created.get("lt", float("inf")) - 1)
    return earliest, latest


def search_intents(store: StripeStore, params: dict[str, Any]) -> dict[str, Any]:
    """Intents by metadata, status, amount, currency or time; clauses joined by ``AND``.

    Raises:
        StripeRefusal: of a query that it does not understand.
    """
    clauses = [_read_clause(part) for part in re.split(r"\s+AND\s+", params["query"])]
    limit = params.get("limit", _LIMIT)
    lag_s = store.settings.search_lag_ms / 1_000
    seen_before = store.clock.now_ms() / 1_000 - lag_s
    offset = int(params.get("page") or 0)
    found = []
    named = next(
        (clause for clause in clauses if clause.field == "metadata" and clause.sign == ":"), None
    )
    if named is not None:
        ids = store.with_metadata(named.key, str(named.wanted))
        rows = [row for row in (store.intents.find(row_id) for row_id in reversed(ids)) if row]
    else:
        rows = list(store.intents.newest_first())
    for intent in rows:
        if intent.created <= seen_before and all(_matches(intent, clause) for clause in clauses):
            found.append(intent)
    page = found[offset : offset + limit]
    has_more = len(found) > offset + limit
    return {
        "object": "search_result",
        "data": [intent.rendered() for intent in page],
        "has_more": has_more,
        "next_page": str(offset + limit) if has_more else None,
        "url": "/v1/payment_intents/search",
    }


class _Clause(NamedTuple):
    """A field, or a key of the metadata; a sign; a value."""

    field: str
    key: str
    sign: str
    wanted: str | int


def _read_clause(written: str) -> _Clause:
    match = _CLAUSE.fullmatch(written)
    known = ("status", "currency", "amount", "created")
    if match is None or (match["field"] is not None and match["field"] not in known):
        raise invalid(f"We were unable to parse your search query: {written}", None, "query")
    number = match["number"]
    value: str | int = int(number) if number is not None else match["text"]
    if match["key"] is not None:
        return _Clause("metadata", match["key"], match["sign"], value)
    return _Clause(str(match["field"]), "", match["sign"], value)


def _matches(intent: Any, clause: _Clause) -> bool:
    field, key, sign, wanted = clause
    if field == "metadata":
        return bool(intent.metadata.get(key) == str(wanted))
    value = getattr(intent, field)
    if sign == ":":
        return str(value) == str(wanted)
    wanted = int(wanted)
    order = {">": value > wanted, ">=": value >= wanted, "<": value < wanted, "<=": value <= wanted}
    return bool(order[sign])


def expand(store: StripeStore, shown: dict[str, Any], paths: list[str]) -> None:
    """Put objects in the place of ids, as ``expand`` asks.

    Raises:
        StripeRefusal: of what is no id.
    """
    for path in paths:
        steps = path.split(".")
        if len(steps) > _EXPAND_DEPTH_MAX + 1:
            raise invalid(f"You cannot expand more than 4 levels of a property: {path}")
        places = [shown]
        if steps[0] == "data" and "data" in shown:
            places, steps = shown["data"], steps[1:]
        for place in places:
            _expand_one(store, place, steps, path)


def _expand_one(store: StripeStore, place: dict[str, Any], steps: list[str], path: str) -> None:
    if not steps:
        return
    name = steps[0]
    if name == "refunds" and place.get("object") == "charge":
        place.setdefault("refunds", _refunds_of(store, place["id"]))
    elif name not in place:
        raise invalid(f"This property cannot be expanded ({path}).", None, "expand")
    inner = place[name]
    if isinstance(inner, str):
        inner = store.rendered(inner)
        if inner is None:
            raise invalid(f"This property cannot be expanded ({path}).", None, "expand")
        place[name] = inner
    if isinstance(inner, dict):
        rest = steps[1:]
        if rest[:1] == ["data"] and "data" in inner:
            for item in inner["data"]:
                _expand_one(store, item, rest[1:], path)
        else:
            _expand_one(store, inner, rest, path)


def _refunds_of(store: StripeStore, charge_id: str) -> dict[str, Any]:
    charge = store.charges.find(charge_id)
    assert charge is not None, "it was just shown"
    refunds = [store.refunds.find(refund_id) for refund_id in reversed(charge.refunds)]
    return {
        "object": "list",
        "data": [refund.rendered() for refund in refunds if refund is not None],
        "has_more": False,
        "url": f"/v1/charges/{charge_id}/refunds",
    }
