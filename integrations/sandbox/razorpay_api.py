"""Razorpay's operations: who asks, which path is which, what each shows."""

from __future__ import annotations

import base64
import binascii
import contextlib
import itertools
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import parse_qsl

import orjson

from integrations.sandbox.faults import FaultPlan
from integrations.sandbox.http_call import Answer, Call, Endpoint
from integrations.sandbox.idempotency import IdempotencyKeys, KeyTaken
from integrations.sandbox.razorpay_errors import (
    RazorpayRefusal,
    bad_field,
    failed,
    rate_limited,
    unknown_id,
)
from integrations.sandbox.razorpay_objects import Order, RazorpayRefund
from integrations.sandbox.razorpay_orders import RazorpayOrders
from integrations.sandbox.razorpay_refunds import RazorpayRefunds
from integrations.sandbox.razorpay_store import RazorpayStore
from integrations.sandbox.settings import Keys
from integrations.sandbox.state import Journal

COUNT_MAX = 100
_KEY_HEADER = "x-refund-idempotency"
_KEY = re.compile(r"[A-Za-z0-9_-]{10,}")


@dataclass(frozen=True, slots=True)
class Asked:
    """A call that is allowed and well formed.

    Shapes:
        ids: from the path.
        data: the JSON of a POST or PATCH, the query of a GET.
    """

    ids: dict[str, str]
    data: dict[str, Any]


Act = Callable[[Asked], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class RazorpayDesk:
    """What all operations of the account share."""

    store: RazorpayStore
    journal: Journal
    keys: Keys
    idempotency: IdempotencyKeys


class RazorpayOperation:
    """A ``Dialect`` for one operation; only refunds have idempotency keys."""

    def __init__(self, desk: RazorpayDesk, act: Act, *, has_keys: bool) -> None:
        self._desk = desk
        self._act = act
        self._has_keys = has_keys

    def answer(self, call: Call, *, is_spoiled: bool) -> Answer:
        """See ``Dialect``."""
        try:
            self._check_caller(call)
            key = self._key_of(call)
            replay = self._replay(call, key)
            if replay is not None:
                return replay
            asked = Asked(call.ids, _read_data(call))
            try:
                answer = Answer(200, orjson.dumps(self._act(asked)))
            except RazorpayRefusal as error:
                if not error.is_checked:
                    raise
                answer = Answer(error.status, orjson.dumps(error.body()))
            else:
                if is_spoiled:
                    answer = self.failed()
            if key is not None:
                self._desk.idempotency.save(key, call, answer, "")
        except RazorpayRefusal as error:
            answer = Answer(error.status, orjson.dumps(error.body()))
        self._desk.journal.commit()
        return answer

    def at_work(self, call: Call) -> contextlib.AbstractContextManager[bool]:
        """See ``Dialect``."""
        key = call.headers.get(_KEY_HEADER) if self._has_keys else None
        return self._desk.idempotency.at_work(key)

    def failed(self) -> Answer:
        """See ``Dialect``."""
        refusal = failed()
        return Answer(refusal.status, orjson.dumps(refusal.body()))

    def rate_limited(self) -> Answer:
        """See ``Dialect``."""
        refusal = rate_limited()
        return Answer(refusal.status, orjson.dumps(refusal.body()))

    def _check_caller(self, call: Call) -> None:
        scheme, _, rest = call.headers.get("authorization", "").partition(" ")
        try:
            shown = base64.b64decode(rest).decode() if scheme.lower() == "basic" else ""
        except (binascii.Error, UnicodeDecodeError):
            shown = ""
        keys = self._desk.keys
        if shown != f"{keys.razorpay_key_id}:{keys.razorpay_key_secret}":
            raise RazorpayRefusal("Authentication failed", status=401)

    def _key_of(self, call: Call) -> str | None:
        key = call.headers.get(_KEY_HEADER) if self._has_keys else None
        if key is not None and _KEY.fullmatch(key) is None:
            raise RazorpayRefusal(
                "The idempotency key must be at least 10 characters of letters, numbers, hyphens "
                "and underscores.",
                is_checked=False,
            )
        return key

    def _replay(self, call: Call, key: str | None) -> Answer | None:
        if key is None:
            return None
        if self._desk.idempotency.is_at_work(key):
            raise RazorpayRefusal(
                "Request failed because another request with the same idempotency key is in "
                "progress.",
                status=409,
            )
        saved = self._desk.idempotency.find(key, call)
        if saved is None:
            return None
        if saved is KeyTaken.OTHER_PARAMETERS:
            raise RazorpayRefusal(
                "Different request with the same idempotency key has already been processed."
            )
        return Answer(saved.status, saved.body.encode())


def _read_data(call: Call) -> dict[str, Any]:
    if call.method == "GET":
        return dict(parse_qsl(call.query))
    if not call.body:
        return {}
    try:
        data = orjson.loads(call.body)
    except orjson.JSONDecodeError:
        raise RazorpayRefusal("The request body is not valid JSON.", is_checked=False) from None
    if not isinstance(data, dict):
        raise RazorpayRefusal("The request body is not an object.", is_checked=False)
    return data


class RazorpayApi:
    """All operations, over one account."""

    def __init__(self, desk: RazorpayDesk, faults: FaultPlan) -> None:
        self._desk = desk
        self._faults = faults
        self._store = desk.store
        self.orders = RazorpayOrders(desk.store, desk.keys.razorpay_key_secret)
        self.refunds = RazorpayRefunds(desk.store)

    def operations(self) -> list[tuple[str, str, Endpoint]]:
        """Method, path and endpoint of each."""
        orders, refunds = self.orders, self.refunds
        return [
            self._op(
                "POST", "orders", "create", lambda asked: orders.create(asked.data).rendered()
            ),
            self._op("GET", "orders", "list", self._list_orders),
            self._op(
                "GET", "orders/{id}", "fetch", lambda asked: orders.find(asked.ids["id"]).rendered()
            ),
            self._op(
                "PATCH",
                "orders/{id}",
                "edit",
                lambda asked: orders.edit(orders.find(asked.ids["id"]), asked.data).rendered(),
            ),
            self._op("GET", "orders/{id}/payments", "payments", self._payments_of_order),
            self._op(
                "GET",
                "payments",
                "list",
                lambda asked: _collection(self._store.payments.newest_first(), asked.data),
            ),
            self._op(
                "GET",
                "payments/{id}",
                "fetch",
                lambda asked: orders.find_payment(asked.ids["id"]).rendered(),
            ),
            self._op(
                "PATCH",
                "payments/{id}",
                "edit",
                lambda asked: orders.edit_payment(
                    orders.find_payment(asked.ids["id"]), asked.data
                ).rendered(),
            ),
            self._op(
                "POST",
                "payments/{id}/capture",
                "capture",
                lambda asked: orders.capture(
                    orders.find_payment(asked.ids["id"]), asked.data
                ).rendered(),
            ),
            self._op(
                "POST",
                "payments/{id}/refund",
                "refund",
                lambda asked: refunds.create(
                    orders.find_payment(asked.ids["id"]), asked.data
                ).rendered(),
                has_keys=True,
            ),
            self._op("GET", "payments/{id}/refunds", "refunds", self._refunds_of_payment),
            self._op("GET", "payments/{id}/refunds/{refund_id}", "fetch_refund", self._one_refund),
            self._op("POST", "refunds", "create", self._create_refund, has_keys=True),
            self._op(
                "GET",
                "refunds",
                "list",
                lambda asked: _collection(self._store.refunds.newest_first(), asked.data),
            ),
            self._op(
                "GET",
                "refunds/{id}",
                "fetch",
                lambda asked: refunds.find(asked.ids["id"]).rendered(),
            ),
            self._op(
                "PATCH",
                "refunds/{id}",
                "edit",
                lambda asked: refunds.edit(refunds.find(asked.ids["id"]), asked.data).rendered(),
            ),
        ]

    def _op(
        self, method: str, path: str, verb: str, act: Act, *, has_keys: bool = False
    ) -> tuple[str, str, Endpoint]:
        noun = path.partition("/")[0]
        operation = RazorpayOperation(self._desk, act, has_keys=has_keys)
        endpoint = Endpoint(f"razorpay.{noun}.{verb}", operation, self._faults)
        return method, f"/v1/{path}", endpoint

    def _list_orders(self, asked: Asked) -> dict[str, Any]:
        receipt, authorized = asked.data.get("receipt"), asked.data.get("authorized")

        def fits(order: Order) -> bool:
            if receipt is not None and order.receipt != receipt:
                return False
            return authorized is None or self._has_money(order) == (authorized == "1")

        orders = (order for order in self._store.orders.newest_first() if fits(order))
        return _collection(orders, asked.data)

    def _has_money(self, order: Order) -> bool:
        found = (self._store.payments.find(payment_id) for payment_id in order.payments)
        return any(row is not None and row.status in ("authorized", "captured") for row in found)

    def _payments_of_order(self, asked: Asked) -> dict[str, Any]:
        order = self.orders.find(asked.ids["id"])
        return _whole(self.orders.find_payment(row_id) for row_id in order.payments)

    def _refunds_of_payment(self, asked: Asked) -> dict[str, Any]:
        payment = self.orders.find_payment(asked.ids["id"])
        newest_first = (self.refunds.find(row_id) for row_id in reversed(payment.refunds))
        return _collection(newest_first, asked.data)

    def _one_refund(self, asked: Asked) -> dict[str, Any]:
        refund: RazorpayRefund = self.refunds.find(asked.ids["refund_id"])
        if refund.payment_id != asked.ids["id"]:
            raise unknown_id()
        return refund.rendered()

    def _create_refund(self, asked: Asked) -> dict[str, Any]:
        data = dict(asked.data)
        payment_id = data.pop("payment_id", None)
        if payment_id is None:
            raise bad_field("The payment id field is required.", "payment_id")
        return self.refunds.create(self.orders.find_payment(str(payment_id)), data).rendered()


class _Listed(Protocol):
    @property
    def created_at(self) -> int: ...

    def rendered(self) -> dict[str, Any]: ...


def _collection(newest_first: Iterator[Any], data: dict[str, Any]) -> dict[str, Any]:
    earliest, latest = _number(data, "from", 0), _number(data, "to", 2**62)
    count, skip = _number(data, "count", 10), _number(data, "skip", 0)
    if not 1 <= count <= COUNT_MAX:
        raise bad_field("The count must be between 1 and 100.", "count")
    # The newest first: everything behind the first that is too old is too old as well.
    recent = itertools.takewhile(lambda row: row.created_at >= earliest, newest_first)
    fitting = (row for row in recent if row.created_at <= latest)
    return _whole(itertools.islice(fitting, skip, skip + count))


def _whole(rows: Iterable[_Listed]) -> dict[str, Any]:
    items = [row.rendered() for row in rows]
    return {"entity": "collection", "count": len(items), "items": items}


def _number(data: dict[str, Any], name: str, otherwise: int) -> int:
    value = str(data.get(name, otherwise))
    if not value.isdecimal():
        raise bad_field(f"The {name} must be an integer.", name)
    return int(value)
