"""How Stripe answers a call: who asks, is it well formed, was it asked before, what comes out."""

from __future__ import annotations

import base64
import binascii
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from integrations.sandbox.form_encoding import read_form
from integrations.sandbox.http_call import Answer, Call
from integrations.sandbox.idempotency import IdempotencyKeys, KeyTaken
from integrations.sandbox.identifiers import random_letters
from integrations.sandbox.settings import Keys
from integrations.sandbox.state import Journal
from integrations.sandbox.stripe_errors import StripeRefusal, bad_parameter, failed, rate_limited
from integrations.sandbox.stripe_lists import expand
from integrations.sandbox.stripe_parameters import read_parameters
from integrations.sandbox.stripe_store import API_VERSION, StripeStore

KEY_LENGTH_MAX = 255
_IDEMPOTENCY = "idempotency-key"


@dataclass(frozen=True, slots=True)
class Asked:
    """A call that is allowed and well formed.

    Shapes:
        object_id: from the path, empty if there is none.
        client_secret: what a browser showed; None for a server, which needs none.
        is_browser: it came with the publishable key.
    """

    object_id: str
    params: dict[str, Any]
    is_browser: bool
    client_secret: str | None


Act = Callable[[Asked], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class StripeDesk:
    """What all operations of the account share."""

    store: StripeStore
    journal: Journal
    keys: Keys
    idempotency: IdempotencyKeys


class StripeOperation:
    """A ``Dialect`` for one operation.

    Args:
        shape: the typed dictionary of its parameters; see ``stripe_parameters``.
        is_public: a browser may ask for it.
    """

    def __init__(self, desk: StripeDesk, shape: str, act: Act, *, is_public: bool = False) -> None:
        self._desk = desk
        self.shape = shape
        self._act = act
        self._is_public = is_public

    def answer(self, call: Call, *, is_spoiled: bool) -> Answer:
        """See ``Dialect``."""
        request_id = f"req_{random_letters(14)}"
        key = self._key_of(call)
        try:
            asked = self._read(call)
            replay = self._replay(call, key)
            if replay is not None:
                return self._finished(call, request_id, *replay)
            refusal: StripeRefusal | None = None
            try:
                status, body = 200, self._do(asked, request_id, key)
            except StripeRefusal as error:
                refusal, status, body = error, error.status, orjson.dumps(error.body(request_id))
            if is_spoiled and refusal is None:
                status, body = 500, orjson.dumps(failed().body(request_id))
            answer = Answer(status, body)
            if key is not None and (refusal is None or refusal.is_checked):
                self._desk.idempotency.save(key, call, answer, request_id)
            self._desk.journal.commit()
            extra = (("Stripe-Should-Retry", "false"),) if status == 500 else ()
            return self._finished(call, request_id, answer, extra)
        except StripeRefusal as error:
            body = orjson.dumps(error.body(request_id))
            return self._finished(call, request_id, Answer(error.status, body), ())

    def at_work(self, call: Call) -> contextlib.AbstractContextManager[bool]:
        """See ``Dialect``."""
        return self._desk.idempotency.at_work(self._key_of(call))

    def failed(self) -> Answer:
        """See ``Dialect``."""
        return self._plain(failed())

    def rate_limited(self) -> Answer:
        """See ``Dialect``."""
        return self._plain(rate_limited())

    def _plain(self, refusal: StripeRefusal) -> Answer:
        request_id = f"req_{random_letters(14)}"
        headers = (("Request-Id", request_id), ("Access-Control-Allow-Origin", "*"))
        return Answer(refusal.status, orjson.dumps(refusal.body(request_id)), headers)

    def _key_of(self, call: Call) -> str | None:
        # Only effects have keys; Stripe ignores them on anything but POST.
        return call.headers.get(_IDEMPOTENCY) if call.method == "POST" else None

    def _do(self, asked: Asked, request_id: str, key: str | None) -> bytes:
        self._desk.store.request = (request_id, key)
        try:
            shown = self._act(asked)
            expand(self._desk.store, shown, asked.params.get("expand") or [])
            return orjson.dumps(shown)
        finally:
            self._desk.store.request = (None, None)

    def _replay(
        self, call: Call, key: str | None
    ) -> tuple[Answer, tuple[tuple[str, str], ...]] | None:
        if key is None:
            return None
        if len(key) > KEY_LENGTH_MAX:
            raise bad_parameter("Idempotency keys are up to 255 characters long.", None, None)
        if self._desk.idempotency.is_at_work(key):
            raise StripeRefusal(
                409,
                "idempotency_error",
                "There is currently another in-progress request using this Idempotent Key (that "
                "probably means you submitted twice, and the other request is still going "
                f"through): {key}. Please try again later.",
                code="idempotency_key_in_use",
                is_checked=False,
            )
        saved = self._desk.idempotency.find(key, call)
        if saved is None:
            return None
        if saved is KeyTaken.OTHER_PARAMETERS:
            raise StripeRefusal(
                400,
                "idempotency_error",
                "Keys for idempotent requests can only be used with the same parameters they were "
                f"first used with. Try using a key other than '{key}' if you meant to execute a "
                "different request.",
                is_checked=False,
            )
        replayed: tuple[tuple[str, str], ...] = (
            ("Idempotent-Replayed", "true"),
            ("Original-Request", saved.request_id),
        )
        if saved.status >= 500:
            replayed += (("Stripe-Should-Retry", "false"),)
        return Answer(saved.status, saved.body.encode()), replayed

    def _finished(
        self, call: Call, request_id: str, answer: Answer, extra: tuple[tuple[str, str], ...]
    ) -> Answer:
        headers = [
            ("Request-Id", request_id),
            ("Stripe-Version", call.headers.get("stripe-version", API_VERSION)),
            ("Access-Control-Allow-Origin", "*"),
            *extra,
        ]
        if _IDEMPOTENCY in call.headers:
            headers.append(("Idempotency-Key", call.headers[_IDEMPOTENCY]))
        return Answer(answer.status, answer.body, tuple(headers))

    def _read(self, call: Call) -> Asked:
        encoded = call.body.decode("utf-8", "replace") if call.method == "POST" else call.query
        try:
            form = read_form(encoded)
        except ValueError as error:
            raise bad_parameter(f"Invalid request: {error}", None, None) from error
        is_browser = self._is_publishable(call, form)
        client_secret, card = None, None
        if is_browser:
            client_secret = form.pop("client_secret", None)
            data = form.get("payment_method_data")
            if isinstance(data, dict) and data.get("type") == "card":
                # Only browsers show a card's number, so servers' clients know no such parameter.
                card = form.pop("payment_method_data")
        params = read_parameters(self.shape, form)
        if card is not None:
            params["payment_method_data"] = card
        return Asked(call.ids.get("id", ""), params, is_browser, client_secret)

    def _is_publishable(self, call: Call, form: dict[str, Any]) -> bool:
        key = _presented_key(call.headers.get("authorization", "")) or form.pop("key", "")
        keys = self._desk.keys
        if key == keys.secret_key:
            return False
        if key == keys.publishable_key:
            if self._is_public:
                return True
            raise StripeRefusal(
                403,
                "invalid_request_error",
                "This API call cannot be made with a publishable API key. Please use a secret API "
                "key. You can find a list of your API keys at "
                "https://dashboard.stripe.com/account/apikeys.",
                code="secret_key_required",
                is_checked=False,
            )
        if not key:
            message = (
                "You did not provide an API key. You need to provide your API key in the "
                "Authorization header, using Bearer auth (e.g. 'Authorization: Bearer "
                "YOUR_SECRET_KEY'). See https://stripe.com/docs/api#authentication for details, or "
                "we can help at https://support.stripe.com/."
            )
        else:
            shown = f"{key[:8]}{'*' * max(len(key) - 12, 0)}{key[-4:]}"
            message = f"Invalid API Key provided: {shown}"
        raise StripeRefusal(401, "invalid_request_error", message, is_checked=False)


def _presented_key(authorization: str) -> str:
    scheme, _, rest = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return rest.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(rest).decode().partition(":")[0]
        except (binascii.Error, UnicodeDecodeError):
            return ""
    return ""
