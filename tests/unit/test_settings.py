"""Settings: defaults that work, errors that name the variable, secrets that stay secret."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from serve_app.logs import masked
from serve_app.settings import (
    Settings,
    SettingsError,
    describe,
    haproxy_is_installed,
    load_settings,
    put_into_environment,
    variable_of,
)

ONE = "postgresql://house:s3cret@db-1/seats"
TWO = "postgresql://house:s3cret@db-2/seats"


@pytest.fixture(autouse=True)
def only_what_the_test_sets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for field in Settings.model_fields:
        monkeypatch.delenv(variable_of(field), raising=False)
    monkeypatch.chdir(tmp_path)


def problems() -> list[str]:
    with pytest.raises(SettingsError) as raised:
        load_settings()
    return raised.value.problems


def test_without_any_setting_the_house_is_complete_and_on_loopback(tmp_path: Path) -> None:
    settings = load_settings()
    assert settings.is_embedded_postgres
    assert settings.is_embedded_redis
    assert (settings.http_host, settings.http_port) == ("127.0.0.1", 8000)
    assert settings.data_dir == tmp_path / ".housefull"
    assert settings.ingress == ("haproxy" if haproxy_is_installed() else "proxy")


@pytest.mark.parametrize(
    ("processors", "slots"), [(1, 1), (2, 1), (7, 1), (8, 2), (31, 7), (256, 8)]
)
def test_a_house_that_is_not_told_has_a_pooled_actor_for_every_four_processors(
    processors: int, slots: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: processors)
    assert load_settings().pool_slots == slots


def test_settings_cannot_be_changed_afterwards() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_settings().http_port = 1  # type: ignore[misc]  # Just this is refused.


def test_the_environment_wins_over_the_file_and_the_file_over_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path(".env").write_text("HOUSEFULL_HTTP_PORT=8001\nHOUSEFULL_POOL_SLOTS=4\nOTHER_PROGRAM=1\n")
    monkeypatch.setenv("HOUSEFULL_HTTP_PORT", "8002")
    settings = load_settings()
    assert (settings.http_port, settings.pool_slots, settings.http_replicas) == (8002, 4, 2)


def test_an_empty_value_means_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOUSEFULL_REDIS_URL", "")
    assert load_settings().redis_url is None


@pytest.mark.parametrize("place", ["environment", "file"])
def test_an_unknown_name_is_an_error_that_suggests_the_nearest(
    monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    if place == "environment":
        monkeypatch.setenv("HOUSEFULL_HTTP_PROT", "1")
    else:
        Path(".env").write_text("HOUSEFULL_HTTP_PROT=1\n")
    origin = "the environment" if place == "environment" else ".env"
    assert problems() == [
        f"HOUSEFULL_HTTP_PROT: no setting has this name (in {origin}); "
        "did you mean HOUSEFULL_HTTP_PORT?"
    ]


def test_a_name_like_no_other_gets_no_suggestion(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOUSEFULL_XYZZY", "1")
    assert problems() == ["HOUSEFULL_XYZZY: no setting has this name (in the environment)"]


@pytest.mark.parametrize(
    ("variable", "value", "line"),
    [
        ("HTTP_PORT", "99999", "must be less than or equal to 65535, not '99999'"),
        ("HTTP_PORT", "http", "must be a whole number, not 'http'"),
        ("POOL_SLOTS", "0", "must be greater than or equal to 1, not '0'"),
        ("DEMO", "yes", "must be 'auto' or 'off', not 'yes'"),
        ("HTTP_HOST", "example.org", "must be an IP address of this machine, or localhost"),
        ("DATABASE_URLS", "mysql://u:s3cret@h/d", "URL 1 must start with postgresql://"),
        ("DATABASE_URLS", f"{ONE},{ONE}", "must not name one database twice"),
        ("REDIS_URL", "http://u:s3cret@h", "must start with redis://, rediss:// or unix://"),
        ("SMTP_URL", "http://u:s3cret@h", "must start with smtps://, smtp:// or smtp+plain://"),
        ("SMTP_URL", "smtp+plain://u:s3cret@mail.example", "smtp+plain:// goes to this machine"),
        ("SMTP_URL", "smtp://u:s3cret@mail.example", "needs HOUSEFULL_MAIL_FROM"),
        ("MAIL_FROM", "the theatre", "must be an e-mail address, or Name <address>"),
        ("PUBLIC_URL", "tickets.example", "must be like https://tickets.example"),
        ("PUBLIC_URL", "https://tickets.example/?a=b", "must be like https://tickets.example"),
        ("SHARD_FIRSTS", "0,512", "needs HOUSEFULL_DATABASE_URLS"),
        ("RAY_ADDRESS", "10.0.0.1:6379", "needs HOUSEFULL_DATABASE_URLS and HOUSEFULL_REDIS_URL"),
        ("RAY_OBJECT_STORE_BYTES", "1", "must be greater than or equal to 78643200, not '1'"),
    ],
)
def test_a_bad_value_is_one_line_with_the_variable_and_the_rule(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, line: str
) -> None:
    monkeypatch.setenv(f"HOUSEFULL_{variable}", value)
    (problem,) = problems()
    assert problem.startswith(f"HOUSEFULL_{variable}: {line}")
    assert "\n" not in problem
    assert "s3cret" not in problem


def test_all_problems_are_reported_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOUSEFULL_POOL_SLOT", "1")
    monkeypatch.setenv("HOUSEFULL_HTTP_PORT", "x")
    monkeypatch.setenv("HOUSEFULL_NUM_CPUS", "0")
    assert [problem.partition(":")[0] for problem in problems()] == [
        "HOUSEFULL_POOL_SLOT",
        "HOUSEFULL_HTTP_PORT",
        "HOUSEFULL_NUM_CPUS",
    ]


@pytest.mark.parametrize("firsts", ["0", "0,512,700", "1,512", "0,0", "0,1024"])
def test_shard_ranges_that_do_not_fit_the_databases_are_refused(
    monkeypatch: pytest.MonkeyPatch, firsts: str
) -> None:
    monkeypatch.setenv("HOUSEFULL_DATABASE_URLS", f"{ONE},{TWO}")
    monkeypatch.setenv("HOUSEFULL_SHARD_FIRSTS", firsts)
    (problem,) = problems()
    assert problem.startswith("HOUSEFULL_SHARD_FIRSTS: ")


def test_shard_ranges_become_a_shard_map(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOUSEFULL_DATABASE_URLS", f"{ONE}, {TWO}")
    monkeypatch.setenv("HOUSEFULL_SHARD_FIRSTS", "0, 700")
    assert load_settings().shard_map().first_shards == (0, 700)
    monkeypatch.delenv("HOUSEFULL_SHARD_FIRSTS")
    assert load_settings().shard_map().first_shards == (0, 512)


def test_a_url_with_several_hosts_stays_one_url(monkeypatch: pytest.MonkeyPatch) -> None:
    several = "postgresql://house@db-1,db-2/seats"
    monkeypatch.setenv("HOUSEFULL_DATABASE_URLS", f"{several},{TWO}")
    assert load_settings().database_urls == (several, TWO)


def test_as_many_admin_urls_as_databases_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOUSEFULL_DATABASE_URLS", f"{ONE},{TWO}")
    monkeypatch.setenv("HOUSEFULL_ADMIN_DATABASE_URLS", ONE)
    (problem,) = problems()
    assert problem.startswith("HOUSEFULL_ADMIN_DATABASE_URLS: must name as many databases")


def test_a_file_that_is_no_text_is_an_error_that_names_it() -> None:
    Path(".env").write_bytes(b"HOUSEFULL_DEMO=\xff\xfe\n")
    (problem,) = problems()
    assert problem.startswith(".env: cannot be read")


def test_printed_settings_hide_every_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOUSEFULL_DATABASE_URLS", f"{ONE},postgresql://h/d?password=s3cret&x=1")
    monkeypatch.setenv("HOUSEFULL_ADMIN_DATABASE_URLS", "postgres://a:s3cret@h/d,postgresql:///e")
    monkeypatch.setenv("HOUSEFULL_REDIS_URL", "redis://:s3cret@cache:6379/0")
    lines = {line.variable: line for line in describe(load_settings())}
    assert "s3cret" not in str(lines)
    assert lines["HOUSEFULL_DATABASE_URLS"].value == (
        "postgresql://house:***@db-1/seats,postgresql://h/d?password=***&x=1"
    )
    assert lines["HOUSEFULL_REDIS_URL"].value == "redis://:***@cache:6379/0"
    assert not lines["HOUSEFULL_REDIS_URL"].is_default
    assert lines["HOUSEFULL_HTTP_PORT"].is_default


def test_a_mail_server_is_set_with_whom_letters_are_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOUSEFULL_SMTP_URL", "smtps://u:s3cret@mail.example")
    monkeypatch.setenv("HOUSEFULL_MAIL_FROM", "Grand Theatre <tickets@theatre.example>")
    monkeypatch.setenv("HOUSEFULL_PUBLIC_URL", "https://tickets.example/seats/")
    settings = load_settings()
    assert settings.public_url == "https://tickets.example/seats"
    lines = {line.variable: line.value for line in describe(settings)}
    assert lines["HOUSEFULL_SMTP_URL"] == "smtps://u:***@mail.example"
    assert lines["HOUSEFULL_MAIL_FROM"] == "Grand Theatre <tickets@theatre.example>"


@pytest.mark.parametrize(
    "secret", ["plain", "with@at", "with/slash", "with:colon", "%40encoded", "q?uestion"]
)
def test_a_password_is_masked_whatever_it_is_made_of(secret: str) -> None:
    text = masked(f"cannot connect to postgresql://house:{secret}@db/seats: refused")
    assert text == "cannot connect to postgresql://house:***@db/seats: refused"


def test_a_change_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOUSEFULL_HTTP_PORT", "8001")
    monkeypatch.setenv("HOUSEFULL_POOL_SLOTS", "4")
    settings = load_settings(http_port=8002)
    assert (settings.http_port, settings.pool_slots) == (8002, 4)


def test_a_change_is_checked_like_a_variable() -> None:
    with pytest.raises(SettingsError, match=r"^HOUSEFULL_HTTP_PORT: must be less than"):
        load_settings(http_port=99999)


def test_variables_of_other_programs_are_set_and_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "old")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    put_into_environment({"RAY_AUTH_TOKEN": None, "RAY_AUTH_MODE": "token"})
    assert "RAY_AUTH_TOKEN" not in os.environ
    assert os.environ["RAY_AUTH_MODE"] == "token"
