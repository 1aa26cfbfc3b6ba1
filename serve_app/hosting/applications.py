"""The applications of a house, ready to be deployed on Ray Serve."""

from __future__ import annotations

from typing import Any

from serve_app.access.access_tokens import TokenVerifier
from serve_app.api.account.application import build_account_api
from serve_app.api.booking import build_booking_api
from serve_app.api.browse import build_browse_api
from serve_app.api.organiser.application import build_organiser_api
from serve_app.api.payments.application import build_payments_api
from serve_app.api.principals import Gate
from serve_app.api.short_way import Api
from serve_app.hosting.account_desk import open_account_desk
from serve_app.hosting.desks import (
    open_booking_desk,
    open_browse_desk,
    open_limits,
    open_payments_desk,
)
from serve_app.hosting.edge_config import EdgeConfig
from serve_app.hosting.organiser_desk import open_organiser_desk
from serve_app.hosting.replicas import host


def booking_application(edge: EdgeConfig, prefix: str) -> Any:
    """The booking application, to be run under ``prefix``."""

    def build() -> Api:
        verifier = TokenVerifier()
        return build_booking_api(
            lambda: open_booking_desk(edge, verifier),
            gate=Gate(verifier),
            body_bytes_max=edge.body_bytes_max,
            limits=open_limits(edge),
            cors_origins=edge.cors_origins,
        )

    return host("booking", prefix, edge, build, replicas=edge.replicas)


def payments_application(edge: EdgeConfig, prefix: str) -> Any:
    """The payments application, to be run under ``prefix``."""

    def build() -> Api:
        verifier = TokenVerifier()
        return build_payments_api(
            lambda: open_payments_desk(edge, verifier),
            gate=Gate(verifier),
            body_bytes_max=edge.body_bytes_max,
            limits=open_limits(edge),
            cors_origins=edge.cors_origins,
        )

    return host("payments", prefix, edge, build, replicas=edge.side_replicas)


def browse_application(edge: EdgeConfig, prefix: str) -> Any:
    """The browse application, to be run under ``prefix``."""

    def build() -> Api:
        return build_browse_api(
            lambda: open_browse_desk(edge),
            body_bytes_max=edge.body_bytes_max,
            limits=open_limits(edge),
            cors_origins=edge.cors_origins,
        )

    return host("browse", prefix, edge, build, replicas=edge.replicas)


def account_application(edge: EdgeConfig, prefix: str) -> Any:
    """The account application, to be run under ``prefix``."""

    def build() -> Api:
        verifier = TokenVerifier()
        return build_account_api(
            lambda: open_account_desk(edge, verifier),
            gate=Gate(verifier),
            body_bytes_max=edge.body_bytes_max,
            limits=open_limits(edge),
            cors_origins=edge.cors_origins,
        )

    # Whoever logs in can wait for a moment; those who buy must not wait for all who log in.
    return host("account", prefix, edge, build, replicas=edge.side_replicas, gives_way=True)


def organiser_application(edge: EdgeConfig, prefix: str) -> Any:
    """The organiser application, to be run under ``prefix``."""

    def build() -> Api:
        verifier = TokenVerifier()
        return build_organiser_api(
            lambda: open_organiser_desk(edge, verifier),
            gate=Gate(verifier),
            body_bytes_max=edge.body_bytes_max,
            limits=open_limits(edge),
            cors_origins=edge.cors_origins,
        )

    return host("organiser", prefix, edge, build, replicas=edge.side_replicas)
