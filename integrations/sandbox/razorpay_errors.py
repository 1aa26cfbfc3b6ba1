"""Razorpay's errors: their words, their shape."""

from __future__ import annotations

from typing import Any


class RazorpayRefusal(Exception):
    """The call is answered with an error.

    Shapes:
        field: the parameter that is to blame.
        is_checked: the operation had begun, so an idempotency key replays this.
    """

    def __init__(
        self,
        description: str,
        *,
        status: int = 400,
        code: str = "BAD_REQUEST_ERROR",
        field: str | None = None,
        is_checked: bool = True,
    ) -> None:
        super().__init__(description)
        self.description = description
        self.status = status
        self.code = code
        self.field = field
        self.is_checked = is_checked

    def body(self) -> dict[str, Any]:
        """The answer."""
        is_input = self.code == "BAD_REQUEST_ERROR" and self.status == 400
        error: dict[str, Any] = {
            "code": self.code,
            "description": self.description,
            "source": "business" if is_input else "NA",
            "step": "payment_initiation" if is_input else "NA",
            "reason": "input_validation_failed" if is_input else "NA",
            "metadata": {},
        }
        if self.field is not None:
            error["field"] = self.field
        return {"error": error}


def bad_field(description: str, field: str) -> RazorpayRefusal:
    """A parameter is not what it must be; nothing began."""
    return RazorpayRefusal(description, field=field, is_checked=False)


def unknown_id() -> RazorpayRefusal:
    """There is no such object."""
    return RazorpayRefusal("The id provided does not exist")


def failed() -> RazorpayRefusal:
    """Something broke at Razorpay."""
    return RazorpayRefusal(
        "We are facing some trouble completing your request at the moment. Please try again "
        "shortly.",
        status=500,
        code="SERVER_ERROR",
    )


def rate_limited() -> RazorpayRefusal:
    """Too many calls."""
    return RazorpayRefusal("Request failed. Please try after sometime.", status=429)
