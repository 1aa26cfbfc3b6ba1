"""How seating plans and routes are stored, and the ids that are made from their content.

A plan is stored in two pieces, because an actor needs the layout and never a label::

    offset  size
    0       4     "HFSP" for a layout, "HFSL" for labels
    4       1     version of the format: 1, or 2 for the layout of a revised plan
    5       4     length of the content, little-endian
    9       ...   content, compressed by zlib, whose checksum finds damage

    content of a layout: length of the JSON (4), JSON, then columns of little-endian integers:
        category_of (2 bytes each), traits (1), x, y, rank (4 each, signed),
        first, end and row_index of the runs (4 each); in version 2 then the seat index at
        every place (4 each), as many as "place_count" in the JSON says
    content of labels: count (4), then the labels in UTF-8 with a zero byte between them

Columns become arrays by one copy each. Compression makes 750 kB of an arena a fifth of that,
and undoing it takes less time than the bytes it saves need on their way from the database.

An id is a hash of the content before compression, so that no release of zlib changes it.
"""

from __future__ import annotations

import hashlib
import math
import sys
import zlib
from array import array
from collections.abc import Iterable, Sequence
from typing import Final

import orjson

from reservation.limits import SEATS_PER_PLAN_MAX
from reservation.route import Route, Stop
from reservation.seating_plan import AdmissionTier, Category, Run, SeatingPlan, SeatRow

_LAYOUT_MAGIC = b"HFSP"
_LABELS_MAGIC = b"HFSL"
_VERSION = 1
_VERSION_REVISED = 2
_HEADER_SIZE = 9
_CONTENT_SIZE_MAX = 1 << 30
_COLUMN_BYTES: Final = {"H": 2, "i": 4}
_ALPHABET = b"0123456789abcdefghjkmnpqrstvwxyz"
_TO_BASE32 = bytes(_ALPHABET[value & 31] for value in range(256))
_ID_LETTERS = 20


def plan_id_of(plan: SeatingPlan) -> str:
    """The id of this plan, labels included: the same content has the same id everywhere.

    Raises:
        ValueError: the plan cannot be stored, see ``encode_layout`` and ``encode_labels``.
    """
    layout = _layout_content(plan)
    return "pln_" + _id_letters(_int_bytes(len(layout)) + layout + _labels_content(plan.labels))


def route_id_of(route: Route) -> str:
    """The id of this route: the same stops at the same times have the same id everywhere.

    Raises:
        ValueError: the route cannot be stored, see ``encode_stops``.
    """
    return route_id_of_stops(encode_stops(route))


def route_id_of_stops(encoded: bytes) -> str:
    """The id of the route that ``encode_stops`` made this of."""
    return "rte_" + _id_letters(encoded)


def encode_layout(plan: SeatingPlan) -> bytes:
    """The plan without its labels.

    Raises:
        ValueError: the plan contradicts itself or has a value that does not fit; the message
            begins with the name of the column.
    """
    version = _VERSION if plan.order is None else _VERSION_REVISED
    return _pack(_LAYOUT_MAGIC, _layout_content(plan), version)


def decode_layout(data: bytes, labels: tuple[str, ...] = ()) -> SeatingPlan:
    """The plan that ``encode_layout`` was given, with these labels.

    Raises:
        ValueError: ``data`` is damaged or of a newer version, or the number of labels is wrong.
    """
    content = _unpack(_LAYOUT_MAGIC, data, "layout", version_max=_VERSION_REVISED)
    try:
        plan = _read_layout(content, labels, is_revised=data[4] == _VERSION_REVISED)
    except (ValueError, TypeError, KeyError, IndexError) as error:
        raise ValueError(f"layout: damaged ({error})") from error
    if labels and len(labels) != plan.seat_count:
        raise ValueError(f"labels: {len(labels)} labels for {plan.seat_count} seats")
    return plan


def encode_labels(labels: Sequence[str]) -> bytes:
    """The labels of a plan.

    Raises:
        ValueError: a label has a zero character or is no valid Unicode.
    """
    return _pack(_LABELS_MAGIC, _labels_content(labels))


def decode_labels(data: bytes) -> tuple[str, ...]:
    """The labels that ``encode_labels`` was given.

    Raises:
        ValueError: ``data`` is damaged or of a newer version.
    """
    content = _unpack(_LABELS_MAGIC, data, "labels")
    count = int.from_bytes(content[:4], "little")
    labels = tuple(str(content[4:], "utf-8").split("\0")) if count else ()
    if len(content) < 4 or len(labels) != count:
        raise ValueError("labels: damaged (the count is wrong)")
    return labels


def encode_stops(route: Route) -> bytes:
    """The stops of a route as JSON.

    Raises:
        ValueError: a name or code is no valid Unicode, or a number does not fit.
    """
    stops: list[dict[str, object]] = []
    for position, stop in enumerate(route.stops):
        for field in ("arrival_s", "departure_s", "distance_m"):
            if not -(2**31) <= getattr(stop, field) < 2**31:
                raise ValueError(f"stops[{position}].{field}: does not fit into 32 bits")
        for field in ("latitude", "longitude"):
            degrees = getattr(stop, field)
            if degrees is not None and not math.isfinite(degrees):
                raise ValueError(f"stops[{position}].{field}: not a number")
        stops.append(
            {
                "code": stop.code,
                "name": stop.name,
                "arrival_s": stop.arrival_s,
                "departure_s": stop.departure_s,
                "distance_m": stop.distance_m,
                # 7 and 7.0 are equal, and must not make two ids.
                "latitude": None if stop.latitude is None else float(stop.latitude),
                "longitude": None if stop.longitude is None else float(stop.longitude),
            }
        )
    return _json_bytes(stops, "stops")


def decode_stops(data: bytes | str) -> Route:
    """The route that ``encode_stops`` was given.

    Raises:
        ValueError: ``data`` is damaged.
    """
    try:
        return Route(tuple(Stop(**stop) for stop in orjson.loads(data)))
    except (ValueError, TypeError) as error:
        raise ValueError(f"stops: damaged ({error})") from error


def _layout_content(plan: SeatingPlan) -> bytes:
    seat_count = plan.seat_count
    if seat_count > SEATS_PER_PLAN_MAX:
        raise ValueError(f"category_of: more than {SEATS_PER_PLAN_MAX} seats")
    for name in ("traits", "x", "y", "rank"):
        if len(getattr(plan, name)) != seat_count:
            raise ValueError(f"{name}: {len(getattr(plan, name))} entries for {seat_count} seats")
    if plan.labels and len(plan.labels) != seat_count:
        raise ValueError(f"labels: {len(plan.labels)} entries for {seat_count} seats")
    if seat_count and max(plan.category_of) >= len(plan.categories):
        raise ValueError("category_of: a seat is of a category that the plan does not have")
    for tier in plan.admission_tiers:
        if not 0 <= tier.category_index < len(plan.categories):
            raise ValueError(f"admission_tiers: {tier.code} is of a category that is not there")
    _check_order(plan)
    _check_cover("rows", ((row.first, row.end) for row in plan.rows), plan.place_count)
    _check_cover("runs", ((run.first, run.end) for run in plan.runs), plan.place_count)
    for run in plan.runs:
        if not 0 <= run.row_index < len(plan.rows):
            raise ValueError(f"runs: the run at seat {run.first} is in no row")
        row = plan.rows[run.row_index]
        if not row.first <= run.first < run.end <= row.end:
            raise ValueError(f"runs: the run at seat {run.first} leaves its row")
    members: dict[str, object] = {
        "name": plan.name,
        "categories": plan.categories,
        "admission_tiers": plan.admission_tiers,
        "rows": plan.rows,
        "seat_count": seat_count,
        "run_count": len(plan.runs),
    }
    if plan.order is not None:
        members["place_count"] = plan.place_count
    head = _json_bytes(members, "plan")
    return b"".join(
        (
            _int_bytes(len(head)),
            head,
            _column("category_of", "H", plan.category_of),
            plan.traits,
            _column("x", "i", plan.x),
            _column("y", "i", plan.y),
            _column("rank", "i", plan.rank),
            _column("runs", "i", [run.first for run in plan.runs]),
            _column("runs", "i", [run.end for run in plan.runs]),
            _column("runs", "i", [run.row_index for run in plan.runs]),
            b"" if plan.order is None else _column("order", "i", plan.order),
        )
    )


def _read_layout(content: bytes, labels: tuple[str, ...], *, is_revised: bool) -> SeatingPlan:
    columns_at = 4 + int.from_bytes(content[:4], "little")
    head = orjson.loads(content[4:columns_at])
    reader = _ColumnReader(content, columns_at)
    seat_count, run_count = head["seat_count"], head["run_count"]
    plan = SeatingPlan(
        name=head["name"],
        categories=tuple(Category(*category) for category in head["categories"]),
        category_of=reader.integers("H", seat_count),
        traits=reader.octets(seat_count),
        x=reader.integers("i", seat_count),
        y=reader.integers("i", seat_count),
        rank=reader.integers("i", seat_count),
        rows=tuple(SeatRow(*row) for row in head["rows"]),
        runs=tuple(
            map(
                Run,
                reader.integers("i", run_count),
                reader.integers("i", run_count),
                reader.integers("i", run_count),
            )
        ),
        admission_tiers=tuple(AdmissionTier(*tier) for tier in head["admission_tiers"]),
        labels=labels,
        order=reader.integers("i", head["place_count"]) if is_revised else None,
    )
    if reader.offset != len(content):
        raise ValueError("its length is wrong")
    return plan


class _ColumnReader:
    """Takes columns off the content, one after another."""

    def __init__(self, content: bytes, offset: int) -> None:
        self._content = memoryview(content)
        self.offset = offset

    def octets(self, count: int) -> bytes:
        taken = self._content[self.offset : self.offset + count]
        if len(taken) != count:
            raise ValueError("it ends too early")
        self.offset += count
        return bytes(taken)

    def integers(self, typecode: str, count: int) -> array[int]:
        column = array(typecode)
        column.frombytes(self.octets(count * _COLUMN_BYTES[typecode]))
        if sys.byteorder == "big":
            column.byteswap()
        return column


def _column(name: str, typecode: str, values: Iterable[int]) -> bytes:
    try:
        column = array(typecode, values)
    except OverflowError as error:
        raise ValueError(f"{name}: a value does not fit ({error})") from error
    assert column.itemsize == _COLUMN_BYTES[typecode]
    if sys.byteorder == "big":
        column.byteswap()
    return column.tobytes()


def _check_order(plan: SeatingPlan) -> None:
    if plan.order is None:
        return
    if not set(plan.order) <= set(range(plan.seat_count)):
        raise ValueError("order: at a place is a seat that the plan does not have")
    if len(set(plan.order)) != len(plan.order):
        raise ValueError("order: a seat is at two places")


def _check_cover(name: str, ranges: Iterable[tuple[int, int]], seat_count: int) -> None:
    reached = 0
    for first, end in ranges:
        if first != reached or end <= first:
            raise ValueError(f"{name}: seat {reached} is not where the next one starts")
        reached = end
    if reached != seat_count:
        raise ValueError(f"{name}: they cover {reached} of {seat_count} seats")


def _labels_content(labels: Sequence[str]) -> bytes:
    joined = "\0".join(labels)
    if labels and joined.count("\0") != len(labels) - 1:
        raise ValueError("labels: a label has a zero character")
    try:
        return _int_bytes(len(labels)) + joined.encode()
    except UnicodeEncodeError as error:
        raise ValueError("labels: a label is not valid Unicode") from error


def _pack(magic: bytes, content: bytes, version: int = _VERSION) -> bytes:
    if len(content) > _CONTENT_SIZE_MAX:
        raise ValueError(f"plan: its content is above {_CONTENT_SIZE_MAX} bytes")
    # Level 1, because level 6 took five times as long for an arena and saved 7 % of the bytes.
    return magic + bytes((version,)) + _int_bytes(len(content)) + zlib.compress(content, 1)


def _unpack(magic: bytes, data: bytes, what: str, version_max: int = _VERSION) -> bytes:
    if len(data) < _HEADER_SIZE or data[:4] != magic:
        raise ValueError(f"{what}: damaged (it does not start as it should)")
    if not _VERSION <= data[4] <= version_max:
        raise ValueError(f"{what}: version {data[4]} is not known here")
    size = int.from_bytes(data[5:_HEADER_SIZE], "little")
    if size > _CONTENT_SIZE_MAX:
        raise ValueError(f"{what}: damaged (its length is impossible)")
    inflater = zlib.decompressobj()
    try:
        # One more than promised, so that a longer content is noticed without unpacking it all.
        content = inflater.decompress(memoryview(data)[_HEADER_SIZE:], size + 1)
    except zlib.error as error:
        raise ValueError(f"{what}: damaged ({error})") from error
    if len(content) != size or not inflater.eof or inflater.unused_data:
        raise ValueError(f"{what}: damaged (its length is wrong)")
    return content


def _json_bytes(value: object, what: str) -> bytes:
    # NamedTuples are written as the lists they are; orjson refuses what is not valid Unicode.
    try:
        return orjson.dumps(value, default=_as_list)
    except TypeError as error:
        raise ValueError(f"{what}: cannot be stored ({error})") from error


def _as_list(value: object) -> list[object]:
    if isinstance(value, tuple):
        return list(value)
    raise TypeError(f"{type(value).__name__} is not stored")


def _int_bytes(value: int) -> bytes:
    return value.to_bytes(4, "little")


def _id_letters(content: bytes) -> str:
    digest = hashlib.blake2b(content, digest_size=_ID_LETTERS).digest()
    return digest.translate(_TO_BASE32).decode("ascii")
