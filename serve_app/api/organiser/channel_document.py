"""Channels as organisers send and see them, and under which address each of their routes is."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter

from persistence.channels import ChannelRow
from reservation.rejections import Rejection
from serve_app.api.api_document import Operation, body, path, problems
from serve_app.api.instants import Instant, write_instant
from serve_app.api.organiser import outcomes
from serve_app.api.organiser.acting import BOX_OFFICE, ORGANISERS
from serve_app.api.organiser.blocks import SeatLabels
from serve_app.api.organiser.fields import (
    ExpectedVersion,
    Label,
    Name,
    Next,
    PageQuery,
    RequestBody,
    Version,
    View,
    examples,
)
from serve_app.api.organiser.outcomes import CREATION, CREATION_KEY, READING, REPLAYED_HEADER
from serve_app.api.organiser.show_document import ASKING, FOR, SHOW
from serve_app.api.query_models import query_parameters

_EXAMPLE_ID = "chn_7k2m9p4qx0c1b5dn3fg8"
_ChannelId = Annotated[str, Field(max_length=40, examples=[_EXAMPLE_ID])]


class ChannelBody(RequestBody):
    """A new channel."""

    model_config = ConfigDict(json_schema_extra=examples({"name": "Hotel desk"}))

    name: Name


class ChannelChange(RequestBody):
    """What is to change; whatever is absent stays."""

    name: Name | None = None
    version: ExpectedVersion = None


class ChannelSeatsBody(RequestBody):
    """Seats that go to a channel, or come back from it."""

    channel_id: _ChannelId
    seats: SeatLabels


class ChannelView(View):
    """A channel."""

    model_config = ConfigDict(title="Channel")

    channel_id: Annotated[str, Field(pattern="^chn_", examples=[_EXAMPLE_ID])]
    name: str
    is_open: bool
    version: Version
    created_at: Instant
    updated_at: Instant
    access_key: Annotated[
        str | None,
        Field(description="Told once, when it was made: `access_key` of holds of this channel."),
    ] = None


class ChannelList(View):
    """One page of channels, the newest first."""

    channels: list[ChannelView]
    next: Next = None


class ChannelSeatsView(View):
    """Seats of a show and their channel."""

    model_config = ConfigDict(title="ChannelSeats")

    channel_id: str
    seats: list[Label]


class AllocationView(View):
    """A seat of a show, and the channel that sells it."""

    model_config = ConfigDict(title="Allocation")

    channel_id: str
    seat: Label


class AllocationList(View):
    """One page of the seats of a show that channels sell, sold ones included."""

    allocations: list[AllocationView]
    next: Next = None


CHANNEL: TypeAdapter[ChannelBody] = TypeAdapter(ChannelBody)
CHANGE: TypeAdapter[ChannelChange] = TypeAdapter(ChannelChange)
SEATS: TypeAdapter[ChannelSeatsBody] = TypeAdapter(ChannelSeatsBody)
PAGE: TypeAdapter[PageQuery] = TypeAdapter(PageQuery)

MODELS = (
    ChannelBody,
    ChannelChange,
    ChannelSeatsBody,
    ChannelView,
    ChannelList,
    ChannelSeatsView,
    AllocationView,
    AllocationList,
)

_CHANNEL = path("channel_id", _EXAMPLE_ID)
_BODY = ("malformed_json", "invalid_request", "unsupported_media_type")
_ONE = {"description": "The channel.", "model": ChannelView}
_MOVED = {"description": "They are.", "model": ChannelSeatsView, "headers": REPLAYED_HEADER}

CREATE = Operation(
    "POST",
    "/channels",
    status=201,
    tag="channels",
    roles=ORGANISERS,
    summary="Add a channel",
    description="The answer has its access key, this once.",
    responses={201: {**_ONE, "headers": REPLAYED_HEADER}, **problems(*CREATION)},
    extra={"parameters": [CREATION_KEY, *FOR], "requestBody": body(ChannelBody)},
)
LIST = Operation(
    "GET",
    "/channels",
    tag="channels",
    roles=BOX_OFFICE,
    summary="The channels",
    responses={200: {"description": "One page.", "model": ChannelList}, **problems(*READING)},
    extra={"parameters": query_parameters(PageQuery)},
)
FIND = Operation(
    "GET",
    "/channels/{channel_id}",
    tag="channels",
    roles=BOX_OFFICE,
    summary="One channel",
    responses={200: _ONE, **problems(*READING)},
    extra={"parameters": [_CHANNEL, *FOR]},
)
UPDATE = Operation(
    "PATCH",
    "/channels/{channel_id}",
    tag="channels",
    roles=ORGANISERS,
    summary="Rename a channel",
    responses={200: _ONE, **problems(*outcomes.CHANGE)},
    extra={"parameters": [_CHANNEL, *FOR], "requestBody": body(ChannelChange)},
)
REPLACE_KEY = Operation(
    "POST",
    "/channels/{channel_id}/key",
    tag="channels",
    roles=ORGANISERS,
    summary="Give a channel another access key",
    description="The one before is of no use two seconds later.",
    responses={200: _ONE, **problems(*_BODY, "not_done", "outcome_unknown")},
    extra={"parameters": [_CHANNEL, *FOR]},
)
CLOSE = Operation(
    "POST",
    "/channels/{channel_id}/close",
    tag="channels",
    roles=ORGANISERS,
    summary="Close a channel",
    description=(
        "For good. Its key is of no use any more and its free seats, of every show, are for "
        "everybody; what is held or booked of them stays so."
    ),
    responses={
        200: {**_ONE, "headers": REPLAYED_HEADER},
        **problems(*_BODY, Rejection.SHOW_CANCELLED.value, "show_not_found", *ASKING),
    },
    extra={"parameters": [_CHANNEL, *FOR]},
)
LIST_SEATS = Operation(
    "GET",
    "/shows/{show_id}/allocations",
    tag="channels",
    roles=BOX_OFFICE,
    summary="Which seats of a show are which channel's",
    responses={
        200: {"description": "One page.", "model": AllocationList},
        **problems(*READING, "show_not_found"),
    },
    extra={"parameters": [SHOW, *query_parameters(PageQuery)]},
)
ALLOCATE = Operation(
    "POST",
    "/shows/{show_id}/allocate",
    tag="channels",
    roles=ORGANISERS,
    summary="Give seats to a channel",
    description="All or nothing; refused when one is held, booked, blocked or another channel's.",
    responses={
        200: _MOVED,
        **problems(
            *_BODY,
            "show_not_found",
            "channel_is_closed",
            Rejection.SEAT_UNAVAILABLE.value,
            Rejection.SHOW_CANCELLED.value,
            *ASKING,
        ),
    },
    extra={"parameters": [SHOW, *FOR], "requestBody": body(ChannelSeatsBody)},
)
TAKE_BACK = Operation(
    "POST",
    "/shows/{show_id}/take-back",
    tag="channels",
    roles=ORGANISERS,
    summary="Take seats back from a channel",
    description="What is held or booked of them stays so; the rest is for everybody.",
    responses={
        200: _MOVED,
        **problems(
            *_BODY,
            "show_not_found",
            Rejection.SEAT_NOT_ALLOCATED.value,
            Rejection.CHANNEL_NOT_FOUND.value,
            Rejection.SHOW_CANCELLED.value,
            *ASKING,
        ),
    },
    extra={"parameters": [SHOW, *FOR], "requestBody": body(ChannelSeatsBody)},
)


def view_of_channel(row: ChannelRow) -> dict[str, Any]:
    """A channel as clients get it, without its key."""
    return {
        "channel_id": row.channel_id,
        "name": row.name,
        "is_open": row.is_open,
        "version": row.version,
        "created_at": write_instant(row.created_at_ms),
        "updated_at": write_instant(row.updated_at_ms),
    }
