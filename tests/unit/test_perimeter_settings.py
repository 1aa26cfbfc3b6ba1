"""Limits of requests and origins of pages, from the environment to the applications."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from persistence.shards import ShardMap
from serve_app.api.limits import UNLIMITED, LimitRates, Rule
from serve_app.house.app import compose_edge
from serve_app.settings import Settings, SettingsError, load_settings, variable_of

SHARDS = ShardMap.even(("postgresql:///house",))


@pytest.fixture(autouse=True)
def only_what_the_test_sets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for field in Settings.model_fields:
        monkeypatch.delenv(variable_of(field), raising=False)
    monkeypatch.chdir(tmp_path)


def test_without_any_setting_the_limits_are_on() -> None:
    assert load_settings().limit_rates == LimitRates()
    assert load_settings().cors_origins == ()


@pytest.mark.parametrize("rate", [rate.name for rate in fields(LimitRates)])
def test_every_rate_can_be_set_and_turned_off(rate: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for value in (0, 7):
        monkeypatch.setenv(f"HOUSEFULL_LIMIT_{rate.upper()}", str(value))
        rates = load_settings().limit_rates
        assert getattr(rates, rate) == value
        assert sum(getattr(rates, other.name) != other.default for other in fields(rates)) == 1


@pytest.mark.parametrize("value", ["-1", "many", "1.5", "1000001"])
def test_a_rate_that_is_none_is_refused(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOUSEFULL_LIMIT_HOLDS", value)
    with pytest.raises(SettingsError, match=r"^HOUSEFULL_LIMIT_HOLDS: "):
        load_settings()


def test_one_switch_turns_all_limits_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOUSEFULL_LIMITS", "OFF")
    monkeypatch.setenv("HOUSEFULL_LIMIT_HOLDS", "1")
    assert load_settings().limit_rates == UNLIMITED


def test_the_defaults_leave_somebody_alone_who_buys_by_hand() -> None:
    rates = LimitRates()
    assert rates.holds >= 30, "one every two seconds, for as long as he likes"
    assert rates.commands >= rates.holds
    assert rates.address >= 20 * rates.holds, "a school or an office is one address"
    assert set(Rule), "every rule is in the table"


@pytest.mark.parametrize(
    ("text", "origins"),
    [
        ("https://tickets.example", ("https://tickets.example",)),
        (
            " https://a.example , http://localhost:5173 ",
            ("https://a.example", "http://localhost:5173"),
        ),
        ("https://xn--bcher-kva.example:8443", ("https://xn--bcher-kva.example:8443",)),
    ],
)
def test_origins_are_taken_as_they_are(
    text: str, origins: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOUSEFULL_CORS_ORIGINS", text)
    assert load_settings().cors_origins == origins


@pytest.mark.parametrize(
    "text",
    [
        "*",
        "null",
        "tickets.example",
        "https://tickets.example/",
        "https://tickets.example/shop",
        "https://Tickets.example",
        "https://*.example",
        "https://tickets.example:443",
        "http://tickets.example:80",
        "https://user@tickets.example",
        "https://good.example,*",
    ],
)
def test_what_no_browser_would_send_is_no_origin(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOUSEFULL_CORS_ORIGINS", text)
    with pytest.raises(SettingsError, match=r"^HOUSEFULL_CORS_ORIGINS: "):
        load_settings()


def test_applications_are_given_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOUSEFULL_LIMIT_HOLDS", "9")
    monkeypatch.setenv("HOUSEFULL_CORS_ORIGINS", "https://tickets.example")
    edge = compose_edge(load_settings(), SHARDS, None, "/beats", gateway_secret="s" * 32)
    assert edge.limits == LimitRates(holds=9)
    assert edge.cors_origins == ("https://tickets.example",)
    assert edge.gateway_secret == "s" * 32
    assert "s" * 32 not in repr(edge)
