"""The money of a show: its ledger, what that adds up to, and how far its refunds are."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter
from starlette.requests import Request
from starlette.responses import Response

from persistence.payment_books import NumberedEntry, ShowMoney
from persistence.refund_jobs import RefundJob
from reservation.ids import ShowId
from reservation.ledger import EntryKind
from serve_app.api.api_document import Handler, Operation, problems
from serve_app.api.cursors import read_cursor, write_cursor
from serve_app.api.edge import json_response
from serve_app.api.instants import Instant, write_instant
from serve_app.api.organiser.acting import ANY_QUERY, BOX_OFFICE, ORGANISERS, Acting
from serve_app.api.organiser.counter import Counter
from serve_app.api.organiser.fields import Currency, Next, PageQuery, View
from serve_app.api.organiser.outcomes import READING, missing
from serve_app.api.organiser.show_document import FOR, SHOW
from serve_app.api.organiser.shows import show_id_of_path
from serve_app.api.problems import bad_field
from serve_app.api.query_models import query_parameters

_CURSOR = "ledger"
_Count = Annotated[int, Field(ge=0)]


class LedgerEntryView(View):
    """Something that happened to the money of a show; never changed, never removed."""

    model_config = ConfigDict(title="LedgerEntry")

    number: Annotated[int, Field(ge=1, description="Counts the show's entries without a gap.")]
    kind: Literal["captured", "booked", "cancelled", "kept", "refunded", "returned"]
    amount_minor: Annotated[int, Field(ge=1)]
    currency: Currency
    payment_id: Annotated[str, Field(pattern="^pay_")]
    refund_id: str | None
    at: Instant


class LedgerPage(View):
    """One page of a ledger, the oldest first."""

    entries: list[LedgerEntryView]
    next: Next = None


class ShowMoneyView(View):
    """`captured = earned + refunded + in flight`, at one moment, in one currency."""

    model_config = ConfigDict(title="ShowMoney")

    currency: Currency
    captured_minor: int
    earned_minor: Annotated[
        int, Field(description="Captured for bookings that stand or kept of others, less given up.")
    ]
    refunded_minor: int
    in_flight_minor: Annotated[
        int, Field(description="Captured, and neither earned nor paid back yet.")
    ]
    promised_minor: Annotated[int, Field(description="Booked, and still to be captured.")]
    kept_minor: Annotated[int, Field(description="Of cancelled bookings; part of what is earned.")]
    given_up_minor: Annotated[
        int, Field(description="Earned, and paid back because the house wanted it.")
    ]
    disagreements: Annotated[
        list[str], Field(description="What does not add up; nothing, when all is well.")
    ]


class ShowMoneyList(View):
    """The money of a show in each currency that there is any of."""

    money: list[ShowMoneyView]


class RefundJobView(View):
    """How far the bookings of a cancelled show are cancelled and their money given back."""

    model_config = ConfigDict(title="RefundJob")

    show_id: str
    state: Literal["running", "done"]
    bookings: _Count
    cancelled: Annotated[int, Field(ge=0, description="How many of them are cancelled by now.")]
    requested_by: Annotated[str | None, Field(description="The account; null: not known.")]
    last_error: Annotated[str | None, Field(description="Why it does not go on; null: it does.")]
    started_at: Instant
    finished_at: Instant | None


_PAGE: TypeAdapter[PageQuery] = TypeAdapter(PageQuery)

MODELS = (LedgerEntryView, LedgerPage, ShowMoneyView, ShowMoneyList, RefundJobView)

LEDGER = Operation(
    "GET",
    "/shows/{show_id}/ledger",
    tag="money",
    roles=ORGANISERS,
    summary="What happened to the money of a show",
    responses={
        200: {"description": "One page.", "model": LedgerPage},
        **problems(*READING, "show_not_found"),
    },
    extra={"parameters": [SHOW, *query_parameters(PageQuery)]},
)
MONEY = Operation(
    "GET",
    "/shows/{show_id}/money",
    tag="money",
    roles=ORGANISERS,
    summary="What the ledger of a show adds up to",
    responses={
        200: {"description": "In each currency.", "model": ShowMoneyList},
        **problems(*READING, "show_not_found"),
    },
    extra={"parameters": [SHOW, *FOR]},
)
JOB = Operation(
    "GET",
    "/shows/{show_id}/refund-job",
    tag="money",
    roles=BOX_OFFICE,
    summary="How far the refunds of a cancelled show are",
    responses={
        200: {"description": "The job.", "model": RefundJobView},
        **problems(*READING, "show_not_found", "not_found"),
    },
    extra={"parameters": [SHOW, *FOR]},
)


class MoneyRoutes:
    """The handlers."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter

    def operations(self) -> Iterable[tuple[Operation, Handler]]:
        """Which handler answers where."""
        yield LEDGER, self.list_ledger
        yield MONEY, self.sum_money
        yield JOB, self.find_refund_job

    async def list_ledger(self, request: Request) -> Response:
        acting, query = await self._counter.begin(request, _PAGE)
        show_id = await self._own_show(acting, request)
        after = _entry_of(query.cursor)
        books = self._counter.desk.money.books_of(show_id)
        entries = await books.ledger(show_id, after, query.limit + 1)
        page = entries[: query.limit]
        view: dict[str, Any] = {"entries": [_view_of_entry(entry) for entry in page]}
        if len(entries) > query.limit:
            view["next"] = write_cursor(page[-1].number, _CURSOR)
        return json_response(view)

    async def sum_money(self, request: Request) -> Response:
        acting, _ = await self._counter.begin(request, ANY_QUERY)
        show_id = await self._own_show(acting, request)
        sums = await self._counter.desk.money.books_of(show_id).sums(show_id)
        return json_response({"money": [_view_of_money(money) for money in sums]})

    async def find_refund_job(self, request: Request) -> Response:
        acting, _ = await self._counter.begin(request, ANY_QUERY)
        show_id = await self._own_show(acting, request)
        job = await self._counter.desk.money.jobs_of(show_id).find(show_id)
        if job is None:
            raise missing("refund job")
        return json_response(_view_of_job(job))

    async def _own_show(self, acting: Acting, request: Request) -> ShowId:
        show_id = show_id_of_path(request)
        if await self._counter.desk.organisers.shows.find(acting.tenant_id, show_id) is None:
            raise missing("show")
        return show_id


def _entry_of(cursor: str | None) -> int:
    if cursor is None:
        return 0
    number, kind = read_cursor(cursor)
    if kind != _CURSOR or number < 0:
        raise bad_field("cursor", "is not a cursor of this list")
    return number


def _view_of_entry(numbered: NumberedEntry) -> dict[str, Any]:
    entry = numbered.entry
    return {
        "number": numbered.number,
        "kind": entry.kind.value,
        "amount_minor": entry.amount_minor,
        "currency": entry.currency,
        "payment_id": entry.payment_id,
        "refund_id": entry.refund_id,
        "at": write_instant(entry.at_ms),
    }


def _view_of_money(money: ShowMoney) -> dict[str, Any]:
    return {
        "currency": money.currency,
        "captured_minor": money.captured_minor,
        "earned_minor": money.earned_minor,
        "refunded_minor": money.refunded_minor,
        "in_flight_minor": money.in_flight_minor,
        "promised_minor": money.promised_minor,
        "kept_minor": money.kept_minor,
        "given_up_minor": money.given_up_minor,
        "disagreements": money.disagreements(),
    }


def _view_of_job(job: RefundJob) -> dict[str, Any]:
    finished_at_ms = job.finished_at_ms
    return {
        "show_id": job.show_id,
        "state": job.state.value,
        "bookings": job.total,
        "cancelled": job.done,
        "requested_by": job.requested_by or None,
        "last_error": job.last_error,
        "started_at": write_instant(job.created_at_ms),
        "finished_at": None if finished_at_ms is None else write_instant(finished_at_ms),
    }


assert {kind.value for kind in EntryKind} == {
    "captured",
    "booked",
    "cancelled",
    "kept",
    "refunded",
    "returned",
}
