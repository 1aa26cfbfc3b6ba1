"""The applications of a house, ready to be deployed on Ray Serve."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from serve_app.api.booking import build_booking_api
from serve_app.api.browse import build_browse_api
from serve_app.api.customer import CustomerGate
from serve_app.hosting.desks import open_booking_desk, open_browse_desk
from serve_app.hosting.edge_config import EdgeConfig
from serve_app.hosting.replicas import host


def booking_application(edge: EdgeConfig) -> Any:
    """The booking application, to be run under ``/api/booking``."""

    def build() -> FastAPI:
        return build_booking_api(
            lambda: open_booking_desk(edge),
            gate=CustomerGate(is_house_local=edge.is_house_local),
            body_bytes_max=edge.body_bytes_max,
            echoes_request_id=False,
        )

    return host("booking", edge, build)


def browse_application(edge: EdgeConfig) -> Any:
    """The browse application, to be run under ``/api/browse``."""

    def build() -> FastAPI:
        return build_browse_api(
            lambda: open_browse_desk(edge),
            body_bytes_max=edge.body_bytes_max,
            echoes_request_id=False,
        )

    return host("browse", edge, build)
