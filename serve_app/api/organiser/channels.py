"""Channels: whoever sells seats of a show apart from everybody else, with a key of its own.

A channel belongs to the tenant, and has seats of any number of shows. Its key is made here, told
once, and kept as a hash; whoever holds seats of the channel shows it to the booking application.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from persistence.channels import ChannelDraft, ChannelRow
from persistence.organiser_rows import PutOutcome
from reservation.commands import AllocateSeats, CloseChannel, Command, DeallocateSeats
from reservation.ids import ChannelId
from reservation.organiser_ids import ObjectKind, derive_object_id, is_object_id
from reservation.outcome import Repeated
from reservation.rejections import Rejected, Rejection
from serve_app.api.api_document import Handler, Operation
from serve_app.api.edge import json_response
from serve_app.api.organiser import channel_document as document
from serve_app.api.organiser.acting import ANY_QUERY, Acting, body_of, creation_key
from serve_app.api.organiser.asking import ask, outcome_of, rejection_problem, seat_indexes_of
from serve_app.api.organiser.audit_trail import Action
from serve_app.api.organiser.blocks import seat_after, show_and_plan, view_of_seats
from serve_app.api.organiser.channel_document import view_of_channel
from serve_app.api.organiser.counter import Counter
from serve_app.api.organiser.outcomes import (
    REPLAYED,
    accepted,
    bad_text,
    created,
    missing,
    place_of,
    view_of_page,
)
from serve_app.api.problems import Problem
from serve_app.api.strict_json import read_nothing

_KEY_BYTES = 32
_KEY_PREFIX = "chk_"
_NOTHING_TO_CLOSE = Rejection.CHANNEL_NOT_FOUND


class ChannelRoutes:
    """The handlers."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter

    def operations(self) -> Iterable[tuple[Operation, Handler]]:
        """Which handler answers where."""
        yield document.CREATE, self.create_channel
        yield document.LIST, self.list_channels
        yield document.FIND, self.find_channel
        yield document.UPDATE, self.change_channel
        yield document.REPLACE_KEY, self.replace_channel_key
        yield document.CLOSE, self.close_channel
        yield document.LIST_SEATS, self.list_channel_seats
        yield document.ALLOCATE, self.allocate_seats
        yield document.TAKE_BACK, self.take_seats_back

    async def create_channel(self, request: Request) -> Response:
        acting, _ = await self._counter.begin(request, ANY_QUERY)
        key = creation_key(request)
        body = body_of(document.CHANNEL, request)
        channel_id = ChannelId(derive_object_id(ObjectKind.CHANNEL, acting.tenant_id, key))
        access_key = _new_access_key()
        try:
            put = await self._counter.desk.organisers.channels.create(
                acting.tenant_id, channel_id, ChannelDraft(body.name), _sha256_of(access_key)
            )
        except ValueError as error:
            raise bad_text(error) from None
        view = view_of_channel(accepted(put, "channel"))
        if put.outcome is PutOutcome.CREATED:
            await self._counter.audit.note(acting, Action.CHANNEL_CREATED, channel_id, after=view)
            view["access_key"] = access_key
        # A repetition is not told the key: it is known as a hash only. It can be replaced.
        return created(request, put, view, "channels", channel_id)

    async def list_channels(self, request: Request) -> Response:
        acting, query = await self._counter.begin(request, document.PAGE)
        page = await self._counter.desk.organisers.channels.list(
            acting.tenant_id, limit=query.limit, after=place_of(query)
        )
        views = [view_of_channel(row) for row in page.items]
        return json_response(view_of_page("channels", views, page.next))

    async def find_channel(self, request: Request) -> Response:
        acting, _ = await self._counter.begin(request, ANY_QUERY)
        row = await self._row(acting, request.path_params["channel_id"])
        return json_response(view_of_channel(row))

    async def change_channel(self, request: Request) -> Response:
        acting, _ = await self._counter.begin(request, ANY_QUERY)
        change = body_of(document.CHANGE, request)
        row = await self._row(acting, request.path_params["channel_id"])
        draft = ChannelDraft(row.name if change.name is None else change.name)
        try:
            put = await self._counter.desk.organisers.channels.update(
                acting.tenant_id,
                row.channel_id,
                draft,
                expected_version=change.version or row.version,
            )
        except ValueError as error:
            raise bad_text(error) from None
        view = view_of_channel(accepted(put, "channel"))
        before = view_of_channel(row)
        await self._counter.audit.note(
            acting, Action.CHANNEL_CHANGED, row.channel_id, before=before, after=view
        )
        return json_response(view)

    async def replace_channel_key(self, request: Request) -> Response:
        acting, _ = await self._counter.begin(request, ANY_QUERY)
        read_nothing(request.scope)
        row = await self._row(acting, request.path_params["channel_id"])
        access_key = _new_access_key()
        put = await self._counter.desk.organisers.channels.replace_key(
            acting.tenant_id, row.channel_id, _sha256_of(access_key)
        )
        view = view_of_channel(accepted(put, "channel"))
        await self._counter.audit.note(acting, Action.CHANNEL_KEY_REPLACED, row.channel_id)
        return json_response({**view, "access_key": access_key})

    async def close_channel(self, request: Request) -> Response:
        acting, _ = await self._counter.begin(request, ANY_QUERY)
        read_nothing(request.scope)
        row = await self._row(acting, request.path_params["channel_id"])
        desk = self._counter.desk
        # First the key: from then on no hold is made, so what is free now stays free.
        put = await desk.organisers.channels.set_open(
            acting.tenant_id, row.channel_id, is_open=False
        )
        view = view_of_channel(accepted(put, "channel"))
        shows = await desk.sales.shows_of_channel(row.channel_id)
        for show_id in shows:
            outcome = await outcome_of(desk, show_id, CloseChannel(row.channel_id))
            if isinstance(outcome, Rejected) and outcome.code is not _NOTHING_TO_CLOSE:
                raise rejection_problem(outcome, None)
        if not shows and put.outcome is PutOutcome.REPEATED:
            return json_response(view, 200, REPLAYED)
        await self._counter.audit.note(
            acting, Action.CHANNEL_CLOSED, row.channel_id, after={"shows": list(shows)}
        )
        return json_response(view)

    async def list_channel_seats(self, request: Request) -> Response:
        acting, query = await self._counter.begin(request, document.PAGE)
        row, plan = await show_and_plan(self._counter, acting, request)
        page = await self._counter.desk.sales.allocations(
            row.listing.show_id, limit=query.limit, after=seat_after(query.cursor)
        )
        views = [
            {"channel_id": channel_id, "seat": plan.labels[seat_index]}
            for seat_index, channel_id in page.items
        ]
        return json_response(view_of_seats("allocations", views, page.next))

    async def allocate_seats(self, request: Request) -> Response:
        acting, _ = await self._counter.begin(request, ANY_QUERY)
        body = body_of(document.SEATS, request)
        show, plan = await show_and_plan(self._counter, acting, request)
        channel = await self._row(acting, body.channel_id)
        if not channel.is_open:
            raise Problem("channel_is_closed", "The channel is closed, for good.")
        seat_indexes = seat_indexes_of(body.seats, plan)
        command = AllocateSeats(channel.channel_id, seat_indexes)
        return await self._move(
            acting, show.listing.show_id, command, plan, body, Action.CHANNEL_SEATS_ALLOCATED
        )

    async def take_seats_back(self, request: Request) -> Response:
        acting, _ = await self._counter.begin(request, ANY_QUERY)
        body = body_of(document.SEATS, request)
        show, plan = await show_and_plan(self._counter, acting, request)
        channel = await self._row(acting, body.channel_id)
        seat_indexes = seat_indexes_of(body.seats, plan)
        command = DeallocateSeats(channel.channel_id, seat_indexes)
        return await self._move(
            acting, show.listing.show_id, command, plan, body, Action.CHANNEL_SEATS_TAKEN_BACK
        )

    async def _move(
        self, acting: Acting, show_id: Any, command: Command, plan: Any, body: Any, action: Action
    ) -> Response:
        outcome = await ask(self._counter.desk, show_id, command, plan)
        view = {"channel_id": body.channel_id, "seats": body.seats}
        if isinstance(outcome, Repeated):
            return json_response(view, 200, REPLAYED)
        await self._counter.audit.note(acting, action, show_id, after=view)
        return json_response(view)

    async def _row(self, acting: Acting, named: str) -> ChannelRow:
        if not is_object_id(ObjectKind.CHANNEL, named):
            raise missing("channel")
        row = await self._counter.desk.organisers.channels.find(acting.tenant_id, ChannelId(named))
        if row is None:
            raise missing("channel")
        return row


def _new_access_key() -> str:
    return _KEY_PREFIX + secrets.token_urlsafe(_KEY_BYTES)


def _sha256_of(access_key: str) -> bytes:
    # Nobody guesses 256 bits, so a plain hash keeps them as well as a slow one.
    return hashlib.sha256(access_key.encode()).digest()
