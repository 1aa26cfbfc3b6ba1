"""Logs: one line per record, for people or collectors, without passwords."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from serve_app.logs import LogFormat, configure_logging

URL = "postgresql://house:s3cret@db/seats"


@pytest.fixture(autouse=True)
def keep_the_root_logger() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


def logged(log_format: LogFormat, *, level: int = logging.WARNING, **extra: object) -> str:
    stream = io.StringIO()
    configure_logging("info", log_format, stream=stream)
    logging.getLogger("house").log(level, "lost %s", URL, extra=extra)
    return stream.getvalue()


def test_text_is_one_line_with_time_level_and_place() -> None:
    line = logged("text")
    assert line.endswith(" WARNING house: lost postgresql://house:***@db/seats\n")
    assert line.count("\n") == 1


def test_json_is_one_object_with_what_was_passed_as_extra() -> None:
    record = json.loads(logged("json", show_id="shw_1", seats=[1, 2]))
    assert record.pop("at").endswith("+00:00")
    assert record == {
        "level": "warning",
        "logger": "house",
        "event": "lost postgresql://house:***@db/seats",
        "show_id": "shw_1",
        "seats": [1, 2],
    }


def test_what_a_library_adds_to_every_record_is_left_out() -> None:
    assert "_library_ns" not in json.loads(logged("json", _library_ns=1))


def test_an_extra_cannot_pretend_to_be_the_level() -> None:
    assert json.loads(logged("json", level_=1, event="forged"))["event"].startswith("lost")


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_traceback_is_logged_without_the_secrets_in_it(log_format: LogFormat) -> None:
    stream = io.StringIO()
    configure_logging("info", log_format, stream=stream)
    try:
        raise OSError(f"cannot connect to {URL}")
    except OSError:
        logging.getLogger("house").exception("failed")
    text = stream.getvalue()
    assert "Traceback" in text
    assert "***@db/seats" in text
    assert "s3cret" not in text
    if log_format == "json":
        assert json.loads(text)["event"] == "failed"


def test_what_is_below_the_level_is_not_logged() -> None:
    assert logged("text", level=logging.DEBUG) == ""
