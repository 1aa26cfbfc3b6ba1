"""Composition: from settings and addresses to what actors and HTTP applications are given."""

from __future__ import annotations

from actors.config import ActorsConfig
from integrations.payments.provider_config import PaymentProvidersConfig
from persistence.shards import ShardMap
from serve_app.hosting.edge_config import EdgeConfig
from serve_app.house.ray_runtime import NAMESPACE, HostedApplication
from serve_app.settings import Settings

_NO_PROVIDERS = PaymentProvidersConfig()


def compose_edge(
    settings: Settings,
    shards: ShardMap,
    redis_url: str | None,
    heartbeat_dir: str,
    *,
    gateway_secret: str | None = None,
    providers: PaymentProvidersConfig = _NO_PROVIDERS,
) -> EdgeConfig:
    """What every replica is given; its ``actors`` is what every actor is given."""
    actors = ActorsConfig(
        shards=shards,
        heartbeat_dir=heartbeat_dir,
        redis_url=redis_url,
        namespace=NAMESPACE,
        pool_slots=settings.pool_slots,
        passivate_after_ms=settings.passivate_after_ms,
        mailbox_commands_max=settings.mailbox_commands_max,
        ask_deadline_ms=settings.ask_deadline_ms,
        payments=providers,
    )
    return EdgeConfig(
        actors=actors,
        catalogue_dsn=shards.catalogue_dsn,
        redis_url=redis_url,
        replicas=settings.http_replicas,
        body_bytes_max=settings.body_bytes_max,
        limits=settings.limit_rates,
        gateway_secret=gateway_secret,
        cors_origins=settings.cors_origins,
        smtp_url=settings.smtp_url,
        mail_from=settings.mail_from,
        mail_directory=str(settings.data_dir / "mail"),
        public_url=settings.public_url,
        log_level=settings.log_level,
        log_format=settings.log_format,
    )


def compose_applications(edge: EdgeConfig) -> list[HostedApplication]:
    """The HTTP applications of a house, deployed together."""
    # Here, because Ray reads its environment when it is imported.
    from serve_app.hosting.applications import (
        account_application,
        booking_application,
        browse_application,
        organiser_application,
        payments_application,
    )

    applications = {
        "browse": browse_application,
        "booking": booking_application,
        "payments": payments_application,
        "account": account_application,
        "organiser": organiser_application,
    }
    return [
        HostedApplication(name, f"/api/{name}", make(edge, f"/api/{name}"))
        for name, make in applications.items()
    ]
