"""The settings of who may ask the house what, and how often; part of ``serve_app.settings``."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field
from pydantic_settings import NoDecode

from serve_app.api.limits import UNLIMITED, LimitRates

_ORIGIN = re.compile(r"(?:https(?!.*:443$)|http(?!.*:80$))://[a-z0-9.-]+(?::[1-9]\d{0,4})?")
_RATES = LimitRates()


def _split_commas(value: object) -> object:
    if not isinstance(value, str):
        return value
    return tuple(part.strip() for part in value.split(",") if part.strip())


def _check_origins(origins: tuple[str, ...]) -> tuple[str, ...]:
    for origin in origins:
        if not _ORIGIN.fullmatch(origin):
            raise ValueError(
                f"{origin!r} is no origin as browsers write it: a scheme and a host in lower case, "
                "a port if it is not the scheme's own, and nothing else, like "
                "https://tickets.example"
            )
    return origins


_Origins = Annotated[
    tuple[str, ...], NoDecode, BeforeValidator(_split_commas), AfterValidator(_check_origins)
]
_Rate = Annotated[int, Field(ge=0, le=1_000_000)]
_Switch = Annotated[
    Literal["on", "off"],
    BeforeValidator(lambda value: value.lower() if isinstance(value, str) else value),
]


class PerimeterSettings(BaseModel):
    """Limits of requests, and origins of pages."""

    limits: _Switch = Field(default="on", description="off turns all limits of requests off.")
    limit_holds: _Rate = Field(
        default=_RATES.holds, description="A minute: holds of one account; 0 is no limit."
    )
    limit_commands: _Rate = Field(
        default=_RATES.commands,
        description="A minute: changes of holds and bookings of one account; 0 is no limit.",
    )
    limit_reads: _Rate = Field(
        default=_RATES.reads,
        description="A minute: lists and details of one account; 0 is no limit.",
    )
    limit_logins: _Rate = Field(
        default=_RATES.logins,
        description="A minute: logins with one e-mail address; 0 is no limit.",
    )
    limit_logins_of_address: _Rate = Field(
        default=_RATES.logins_of_address,
        description="A minute: logins from one client address; 0 is no limit.",
    )
    limit_mails: _Rate = Field(
        default=_RATES.mails,
        description="An hour: sign-ups with and mails to one e-mail address; 0 is no limit.",
    )
    limit_account_requests_of_address: _Rate = Field(
        default=_RATES.account_requests_of_address,
        description="A minute: sign-ups, mails and links from one client address; 0 is no limit.",
    )
    limit_refreshes: _Rate = Field(
        default=_RATES.refreshes,
        description="A minute: new access tokens of one session or API key; 0 is no limit.",
    )
    limit_organiser: _Rate = Field(
        default=_RATES.organiser,
        description="A minute: administrative requests of one account; 0 is no limit.",
    )
    limit_device: _Rate = Field(
        default=_RATES.device, description="A minute: requests with one X-Device-Id; 0 is no limit."
    )
    limit_address: _Rate = Field(
        default=_RATES.address,
        description="A minute: requests from one client address; 0 is no limit.",
    )
    cors_origins: _Origins = Field(
        default=(),
        description="Origins whose pages may use the house in a browser, separated by commas.",
    )

    @property
    def limit_rates(self) -> LimitRates:
        """The limits of requests in force."""
        if self.limits == "off":
            return UNLIMITED
        return LimitRates(
            **{rate.name: getattr(self, f"limit_{rate.name}") for rate in fields(LimitRates)}
        )
