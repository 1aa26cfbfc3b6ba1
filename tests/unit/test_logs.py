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


TOKEN = "eyJhbGciOiJFZERTQSIsInR5cCI6ImF0K2p3dCJ9.eyJzdWIiOiJhY2NfMSJ9.c2lnbmF0dXJl-c2ln_0"


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        (f"Authorization: Bearer {TOKEN}", TOKEN[10:]),
        (f"[(b'authorization', b'Bearer {TOKEN}')]", TOKEN[10:]),
        ("authorization=bearer   opaque-0123456789", "opaque"),
        ("Authorization: Basic aG91c2U6czNjcmV0", "aG91c2U6czNjcmV0"),
        (f"token {TOKEN!r} is over", TOKEN[10:]),
        (f"eyJ at the end {TOKEN[:30]}", TOKEN[10:25]),
        ("stripe sk_live_51Habcdefgh said no", "51Habcdefgh"),
        ("stripe sk_test_51Habcdefgh said no", "51Habcdefgh"),
        ("webhook whsec_abcdefghijkl", "abcdefghijkl"),
        ("key hfk_0123456789abcdefghi-_x", "0123456789"),
        ('{"email": "a@b.cz", "password": "correct horse"}', "horse"),
        ("{'email': 'a@b.cz', 'password': 'correct horse'}", "horse"),
        ("""{'password': "o'clock horse"}""", "horse"),
        ('{"new_password":"correct horse"}', "horse"),
        ('{"refresh_token": "correct horse"}', "horse"),
        (json.dumps('{"password": "correct horse"}'), "horse"),
        (json.dumps({"password": 'correct "horse'}), "horse"),
        ("X-Housefull-Gateway: 0123secret", "0123secret"),
        ("[(b'x-housefull-gateway', b'0123secret')]", "0123secret"),
        (URL, "s3cret"),
        ("unix://:s3cret@/run/valkey.sock?db=0", "s3cret"),
        ("smtp://house:s3cret@mail.example:587", "s3cret"),
        (
            "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIE\n-----END PRIVATE KEY-----",
            "MC4CAQAwBQ",
        ),
        ("-----BEGIN EC PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIE and cut off", "MC4CAQAwBQ"),
    ],
)
@pytest.mark.parametrize("log_format", ["text", "json"])
def test_what_looks_like_a_secret_is_not_logged(
    text: str, secret: str, log_format: LogFormat
) -> None:
    assert secret in text
    stream = io.StringIO()
    configure_logging("info", log_format, stream=stream)
    logging.getLogger("house").warning("%s", text, extra={"about": [text]})
    assert secret not in stream.getvalue()
    assert "***" in stream.getvalue()
    if log_format == "json":
        assert json.loads(stream.getvalue())["level"] == "warning"


def test_a_member_with_a_telling_name_is_not_logged_whatever_it_holds() -> None:
    told = {"email": "a@b.cz", "new_password": "correct horse", "keys": ({"api_key": "horse"},)}
    record = json.loads(logged("json", told=told))
    assert record["told"]["new_password"] == "***"
    assert "horse" not in json.dumps(record)
    assert "a@b.cz" in json.dumps(record)


@pytest.mark.parametrize(
    "text",
    [
        "the password is wrong",
        "password: must have 12 characters",
        "bearer of bad news",
        "hold hld_0123456789abcdefghij of acc_0123456789abcdefghij",
        "https://tickets.example/reset?from=mail",
        "task_0123456789 risk_0123456789",
    ],
)
def test_ordinary_text_is_logged_as_it_is(text: str) -> None:
    stream = io.StringIO()
    configure_logging("info", "text", stream=stream)
    logging.getLogger("house").warning("%s", text)
    assert stream.getvalue().endswith(f"{text}\n")
