"""The connection that Razorpay's client speaks over.

Theory of operation

The client waits for its sockets, has no time limit of its own, prints to the console when a
connection fails, and loses the status of an answer on the way to its exceptions: "too many
requests" looks like "wrong parameter". It takes any object that can ``get`` and ``post`` for its
session, so it gets one that does all four differently: each request ends by the call's deadline,
and whatever is not a success is raised from here, as a fault of ours, which the client lets pass.

A line is one call's. It knows whether something that has an effect is under way, and once it is
given up it starts nothing, so that who stops waiting knows what to say.
"""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import requests
import urllib3

from integrations.payments.payment_gateway import (
    GatewayBusy,
    GatewayKeyRefused,
    GatewayRefused,
    KeySpent,
)
from reservation.faults import Fault, OutcomeUnknown

MAX_ANSWER_BYTES = 8 * 1024 * 1024

_CONNECT_TIMEOUT_S = 3.0
_LEAST_TIME_S = 0.2
_CHUNK = 65_536


@dataclass(frozen=True, slots=True)
class Answer:
    """What the client looks at of an answer."""

    status_code: int
    body: bytes

    def json(self) -> Any:
        """Its document."""
        return json.loads(self.body)


class RazorpayLine:
    """One call's connection; see the module's docstring.

    Args:
        session: shared between calls; keeps connections open.
        deadline_s: on the monotonic clock.
    """

    def __init__(
        self, session: requests.Session, deadline_s: float, request_timeout_s: float
    ) -> None:
        self._session = session
        self._deadline_s = deadline_s
        self._request_timeout_s = request_timeout_s
        self._lock = threading.Lock()
        self._is_given_up = False
        self._may_have_effect = False

    def give_up(self) -> bool:
        """Start nothing any more. Returns whether it is certain that nothing has happened."""
        with self._lock:
            self._is_given_up = True
            return not self._may_have_effect

    def get(self, url: str, **options: Any) -> Answer:
        """Read something."""
        return self._request("GET", url, options)

    def post(self, url: str, **options: Any) -> Answer:
        """Do something."""
        return self._request("POST", url, options)

    def _request(self, method: str, url: str, options: dict[str, Any]) -> Answer:
        ends_at_s = min(self._deadline_s, time.monotonic() + self._request_timeout_s)
        is_reading = method == "GET"
        with self._lock:
            if self._is_given_up or ends_at_s - time.monotonic() < _LEAST_TIME_S:
                raise GatewayBusy("there was no time left to ask Razorpay")
            self._may_have_effect = self._may_have_effect or not is_reading
        answer = self._answer(method, url, options, ends_at_s)
        if isinstance(answer, Fault):
            raise answer
        fault = fault_of(answer, is_reading=is_reading)
        if fault is not None:
            raise fault
        return answer

    def _answer(
        self, method: str, url: str, options: dict[str, Any], ends_at_s: float
    ) -> Answer | Fault:
        left_s = ends_at_s - time.monotonic()
        limits = (min(_CONNECT_TIMEOUT_S, left_s), left_s)
        try:
            with self._session.request(
                method, url, timeout=limits, stream=True, allow_redirects=False, **options
            ) as response:
                body = bytearray()
                # The library's limit is for each piece; a slow drip would pass it.
                while piece := response.raw.read1(_CHUNK, decode_content=True):
                    body += piece
                    if len(body) > MAX_ANSWER_BYTES or time.monotonic() > ends_at_s:
                        return _unsure("its answer did not end", method == "GET")
                return Answer(response.status_code, bytes(body))
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            if _is_not_sent(error):
                return GatewayBusy("Razorpay cannot be reached")
            return _unsure(f"no answer ({type(error).__name__})", method == "GET")


def fault_of(answer: Answer, *, is_reading: bool) -> Fault | None:
    """What an answer means that is not a success.

    Descriptions are not repeated: they may name people and cards.
    """
    status = answer.status_code
    document = _document_of(answer)
    if 200 <= status < 300:
        return None if document is not None else _unsure("its answer is not JSON", is_reading)
    error = (document or {}).get("error")
    error = error if isinstance(error, Mapping) else {}
    code = _word(error.get("code")) or f"http_{status}"
    reason = _word(error.get("reason"))
    told = f"{status} {code} {reason}".strip()
    description = str(error.get("description") or "").lower()
    if status == 429:
        return GatewayBusy(f"Razorpay takes no more now ({told})")
    if status in (401, 403):
        return GatewayKeyRefused(f"Razorpay does not accept the key ({told})")
    if "idempotency key" in description:
        # Another request was made under it before, and may have had its effect.
        return KeySpent(f"Razorpay knows the key of another request ({told})")
    if 400 <= status < 500 and status not in (408, 409) and code not in _NOT_A_NO:
        return GatewayRefused(
            f"Razorpay refused ({told})",
            code=reason or code,
            is_unknown_object=status == 404 or "does not exist" in description,
        )
    return _unsure(told, is_reading)


_NOT_A_NO = frozenset({"GATEWAY_ERROR", "SERVER_ERROR"})


def _document_of(answer: Answer) -> dict[str, Any] | None:
    try:
        document = answer.json()
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _word(found: object) -> str:
    # Codes are words; anything longer would be text.
    text = found if isinstance(found, str) else ""
    return text if len(text) <= 64 and text.replace("_", "").isalnum() and text != "NA" else ""


def _unsure(told: str, is_reading: bool) -> Fault:
    if is_reading:
        return GatewayBusy(f"Razorpay could not be read ({told})")
    return OutcomeUnknown(f"Razorpay may have done it or not ({told})")


def _is_not_sent(error: BaseException) -> bool:
    # Without a connection nothing has left, whatever was to be asked.
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return True
    reason = getattr(error.args[0] if error.args else None, "reason", None)
    if isinstance(reason, urllib3.exceptions.SSLError):
        cause = reason.args[0] if reason.args else None
        return isinstance(cause, ssl.SSLCertVerificationError)
    return isinstance(
        reason, urllib3.exceptions.NewConnectionError | urllib3.exceptions.ConnectTimeoutError
    )
