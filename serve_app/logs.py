"""How the house's processes log: one line per record, for people or for collectors, no secrets.

The standard library's logging with two formatters; every process of the house that has a say in
it calls ``configure_logging`` once.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from typing import TYPE_CHECKING, Literal, TextIO

if TYPE_CHECKING:
    from pathlib import Path

LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["text", "json"]

LOG_FILE_BYTES_MAX = 10 * 1024 * 1024
LOG_FILES_KEPT = 3

_SECRET_NAMES = r"\w*(?:password|passwd|secret|(?:refresh|access)_token|(?:access|api|private)_key)"
_SECRET_NAME = re.compile(_SECRET_NAMES, re.IGNORECASE)
_SECRETS = (
    # Either place where a URL may carry a password: before the host, or as a parameter. The first
    # is greedy, so that an @ or a slash that somebody forgot to encode does not end the secret
    # early. Repetitions are bounded, because clients can have what they send logged.
    (re.compile(r"(://[^/@\s:]{0,256}:)\S{0,512}@"), r"\1***@"),
    (re.compile(r"([?&\s](?:\w*password|sslkey)=)[^&\s,]*", re.IGNORECASE), r"\1***"),
    # Members of JSON, and of dictionaries as Python prints them; quotes may be escaped.
    (
        re.compile(
            rf"""((?<!\\)\\{{0,8}}["']{_SECRET_NAMES}\\{{0,8}}["']\s*:\s*b?(\\{{0,8}}["']))(?:(?!\2)(?:\\.|.))*""",
            re.IGNORECASE,
        ),
        r"\1***",
    ),
    # Headers, as text and as the pairs of bytes that an application sees.
    (
        re.compile(
            r"""(\b(?:x-housefull-gateway|cookie)\\{0,8}["']?\s*[:=,]\s*b?\\{0,8}["']?)[^\s"'\\]+""",
            re.IGNORECASE,
        ),
        r"\1***",
    ),
    (re.compile(r"\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE), r"\1 ***"),
    # Secrets that can be told by how they begin: tokens, keys of the house and of Stripe.
    (re.compile(r"\beyJ[A-Za-z0-9_-]{6,}(?:\.[A-Za-z0-9_-]*)*"), "eyJ***"),
    (re.compile(r"\b(sk_|rk_|whsec_|hfk_)[A-Za-z0-9_-]{6,}"), r"\1***"),
    (
        # Not beyond a quote: what is JSON must still be JSON afterwards.
        re.compile(r"""(-----BEGIN [A-Z ]*PRIVATE KEY-----)[^"']*?(-----END|(?=["'])|\Z)"""),
        r"\1***\2",
    ),
)
_STANDARD_ATTRIBUTES = frozenset(
    vars(logging.LogRecord("", 0, "", 0, "", None, None)) | {"message": "", "asctime": ""}
)


def masked(text: str) -> str:
    """``text`` with ``***`` in place of what looks like a secret.

    These are the passwords of URLs, members and parameters with telling names, tokens, and keys.
    It is the last line: what logs a secret knowingly is wrong even so.

    Example:
        >>> masked("postgresql://house:s3cret@db/seats?sslpassword=x")
        'postgresql://house:***@db/seats?sslpassword=***'
    """
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text


def _masked_within(value: object) -> object:
    """``value`` with secrets masked in all text that it contains, before any of it is quoted."""
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, Mapping):
        return {
            str(name): "***" if _SECRET_NAME.fullmatch(str(name)) else _masked_within(item)
            for name, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_masked_within(item) for item in value]
    return value


class TextFormatter(logging.Formatter):
    """``12:30:01.250 WARNING house.stack: what happened``, and a traceback if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """One record."""
        moment = datetime.fromtimestamp(record.created).isoformat("T", "milliseconds")
        lines = [f"{moment[11:]} {record.levelname} {record.name}: {record.getMessage()}"]
        if record.exc_info:
            lines.append(self.formatException(record.exc_info))
        return masked("\n".join(lines))


class JsonFormatter(logging.Formatter):
    """One JSON object per record; what was passed as ``extra`` is among its members."""

    def format(self, record: logging.LogRecord) -> str:
        """One record."""
        content: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat("T", "milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        for name, value in vars(record).items():
            # Libraries (Ray is one) add their own to every record, with an underscore.
            if name not in _STANDARD_ATTRIBUTES and not name.startswith("_"):
                content.setdefault(name, value)
        if record.exc_info:
            content["traceback"] = self.formatException(record.exc_info)
        return json.dumps(
            _masked_within(content), default=lambda value: masked(str(value)), ensure_ascii=False
        )


def formatter_of(log_format: LogFormat) -> logging.Formatter:
    """The formatter of a format."""
    return JsonFormatter() if log_format == "json" else TextFormatter()


def configure_logging(
    log_level: LogLevel, log_format: LogFormat, *, stream: TextIO | None = None
) -> None:
    """Log to a stream, standard error without one; replaces what was configured before."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter_of(log_format))
    logging.basicConfig(level=log_level.upper(), handlers=[handler], force=True)


def log_file_handler(path: Path, log_format: LogFormat) -> logging.Handler:
    """A handler for a file that is replaced when it is full; the latest few are kept."""
    handler = RotatingFileHandler(
        path,
        maxBytes=LOG_FILE_BYTES_MAX,
        backupCount=LOG_FILES_KEPT,
        encoding="utf-8",
        errors="backslashreplace",
    )
    handler.setFormatter(formatter_of(log_format))
    return handler
