"""Secrets are in files that their owner reads, and neither in arguments nor in what is printed."""

from __future__ import annotations

import logging
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner

from persistence.embedded_postgres import EmbeddedPostgres
from persistence.embedded_valkey import EmbeddedValkey
from serve_app.cli import app
from serve_app.house.app import compose_edge
from serve_app.house.data_directory import DataDirectory
from serve_app.house.databases import prepare_embedded
from serve_app.logs import JsonFormatter, log_file_handler
from serve_app.settings import Settings, SettingsError, describe, load_settings
from tests.support.gateway_house import SECRET, gateway_house, tiny_house
from tests.support.secrets_found import in_arguments, in_files, password_of

PASSWORD = "s3cret-of-a-test"


def test_nobody_who_lists_processes_learns_a_secret(tmp_path: Path) -> None:
    data = DataDirectory(tmp_path / "data")
    data.create()
    settings = Settings(data_dir=data.path)
    log = log_file_handler(data.logs / "house.log", "json")
    logging.getLogger().addHandler(log)
    try:
        with (
            EmbeddedPostgres(data.postgres) as postgres,
            EmbeddedValkey(data.valkey) as valkey,
            tiny_house() as house,
            gateway_house(house),
        ):
            databases = prepare_embedded(settings, data, postgres)
            secrets = {
                "the owner's password": password_of(databases.catalogue_admin_url),
                "the house's password": password_of(databases.shards.catalogue_dsn),
                "Valkey's password": password_of(valkey.url),
                "the gateway's secret": SECRET,
                "the secret in the data directory": data.gateway_secret(),
            }
            started = psutil.Process().children(recursive=True)
            lines = " ".join(" ".join(process.cmdline()) for process in started)
            for program in ("postgres", "valkey", "haproxy"):
                assert program in lines, f"{program} does not run, so nothing is shown"
            assert in_arguments(secrets, started) == []
            edge = compose_edge(
                settings, databases.shards, valkey.url, "/", gateway_secret=data.gateway_secret()
            )
            told = [repr(edge), repr(edge.actors), repr(databases.shards), str(edge)]
            logging.getLogger("house").warning("%s %s %s %s", *told)
            logging.getLogger("house").warning("connecting to %s", valkey.url)
            logging.getLogger("house").warning("connecting", extra={"dsns": databases.admin_urls})
    finally:
        logging.getLogger().removeHandler(log)
        log.close()
    assert "connecting" in (data.logs / "house.log").read_text()
    assert in_files(secrets, data.logs) == []


def test_secrets_are_kept_where_only_their_owner_reads_them(tmp_path: Path) -> None:
    data = DataDirectory(tmp_path / "data")
    data.create()
    secret = data.gateway_secret()
    assert secret == data.gateway_secret()
    assert len(secret) >= 32
    data.application_password()
    data.renew_ray_token()
    for name in ("gateway.secret", "application.password", "ray.token"):
        assert (data.path / name).stat().st_mode & 0o077 == 0, name
    assert data.path.stat().st_mode & 0o077 == 0


@pytest.fixture
def with_secrets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every setting that may hold a secret holds one."""
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "DATABASE_URLS": f"postgresql://house:{PASSWORD}@db/a?sslpassword={PASSWORD}",
        "ADMIN_DATABASE_URLS": f"postgresql://owner:{PASSWORD}@db/a",
        "REDIS_URL": f"rediss://:{PASSWORD}@cache:6379/0",
        "SMTP_URL": f"smtps://house:{PASSWORD}@mail.example:465",
        "MAIL_FROM": "tickets@house.example",
        "GATEWAY_SECRET": f"{PASSWORD}-{PASSWORD}-{PASSWORD}",
        "STRIPE_SECRET_KEY": f"sk_live_{PASSWORD}",
        "STRIPE_PUBLISHABLE_KEY": "pk_live_x",
        "STRIPE_WEBHOOK_SECRETS": f"whsec_{PASSWORD},{PASSWORD}",
        "RAZORPAY_KEY_ID": "rzp_live_x",
        "RAZORPAY_KEY_SECRET": f"{PASSWORD}-of-a-key",
        "RAZORPAY_WEBHOOK_SECRETS": f"{PASSWORD}-of-webhooks",
    }.items():
        monkeypatch.setenv(f"HOUSEFULL_{name}", value)


@pytest.mark.usefixtures("with_secrets")
def test_printed_settings_hide_every_secret() -> None:
    printed = CliRunner().invoke(app, ["settings"])
    assert printed.exit_code == 0, printed.output
    assert "HOUSEFULL_REDIS_URL" in printed.output
    assert "***" in printed.output
    assert PASSWORD not in printed.output
    settings = load_settings()
    assert PASSWORD not in "".join(str(line) for line in describe(settings))
    record = logging.makeLogRecord({"msg": "%s %r", "args": (str(settings), settings)})
    assert PASSWORD not in JsonFormatter().format(record)


@pytest.mark.usefixtures("with_secrets")
@pytest.mark.parametrize(
    "name", ["DATABASE_URLS", "REDIS_URL", "SMTP_URL", "GATEWAY_SECRET", "STRIPE_SECRET_KEY"]
)
def test_a_setting_that_cannot_be_followed_is_not_repeated_if_it_may_be_secret(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"HOUSEFULL_{name}", f"{PASSWORD} ")
    with pytest.raises(SettingsError) as refused:
        load_settings()
    assert f"HOUSEFULL_{name}" in str(refused.value)
    assert PASSWORD not in str(refused.value)
