"""Stripe's errors: their kinds, their words, their shape."""

from __future__ import annotations

from typing import Any

_TYPES_WITHOUT_HELP = frozenset({"api_error", "idempotency_error"})


class StripeRefusal(Exception):
    """The call is answered with an error.

    Shapes:
        is_checked: the operation had begun, so an idempotency key replays this.
        details: more of the error object, such as ``payment_intent``.
    """

    def __init__(
        self,
        status: int,
        error_type: str,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        is_checked: bool = True,
        details: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.error_type = error_type
        self.message = message
        self.code = code
        self.param = param
        self.is_checked = is_checked
        self.details = details or {}

    def body(self, request_id: str) -> dict[str, Any]:
        """The answer."""
        error: dict[str, Any] = {}
        if self.code is not None:
            error["code"] = self.code
            error["doc_url"] = f"https://stripe.com/docs/error-codes/{self.code.replace('_', '-')}"
        error |= self.details
        error["message"] = self.message
        if self.param is not None:
            error["param"] = self.param
        if self.error_type not in _TYPES_WITHOUT_HELP:
            error["request_log_url"] = f"https://dashboard.stripe.com/test/logs/{request_id}"
        error["type"] = self.error_type
        return {"error": error}


def invalid(message: str, code: str | None = None, param: str | None = None) -> StripeRefusal:
    """The operation will not do this."""
    return StripeRefusal(400, "invalid_request_error", message, code=code, param=param)


def bad_parameter(message: str, code: str | None, param: str | None) -> StripeRefusal:
    """The parameters are not those of the operation, which did not begin."""
    return StripeRefusal(
        400, "invalid_request_error", message, code=code, param=param, is_checked=False
    )


def missing(kind: str, object_id: str, *, param: str, is_in_path: bool) -> StripeRefusal:
    """There is no such object."""
    return StripeRefusal(
        404 if is_in_path else 400,
        "invalid_request_error",
        f"No such {kind}: '{object_id}'",
        code="resource_missing",
        param=param,
    )


def failed() -> StripeRefusal:
    """Something broke at Stripe."""
    return StripeRefusal(
        500,
        "api_error",
        "An unknown error occurred. (This is the sandbox, which was told to fail.)",
    )


def rate_limited() -> StripeRefusal:
    """Too many calls."""
    return StripeRefusal(
        429,
        "invalid_request_error",
        "Request rate limit exceeded. Learn more about rate limits here "
        "https://stripe.com/docs/rate-limits.",
        code="rate_limit",
    )
