"""An HTTP application as Ray Serve runs it: how many processes, and when they count as ill.

Ray Serve builds the application in each replica, on the replica's own event loop, and runs its
lifespan there. Requests come to the replica directly from HAProxy, or through Serve's own proxy.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from ray import serve

from actors.process import calm_collector, give_way
from serve_app.api.serve_headers import host_here
from serve_app.api.short_way import Api
from serve_app.hosting.edge_config import EdgeConfig
from serve_app.logs import configure_logging

ONGOING_REQUESTS_MAX = 1_000
"""Per replica. A hold waits for its batch, so hundreds are under way when it is busy."""

QUEUED_REQUESTS_MAX = 1_000
"""Beyond this Serve itself answers 503, in plain text."""

HEALTH_PERIOD_S = 5
HEALTH_TIMEOUT_S = 15
STOP_TIMEOUT_S = 10
"""For requests under way; an actor answers or gives up within its own deadline before that."""

GIVING_WAY = 10
"""A priority: about a tenth of the time of what does not give way, when both want it. No lower:
fresh tokens for those who buy come from there too."""


def host(
    name: str,
    prefix: str,
    edge: EdgeConfig,
    build: Callable[[], Api],
    *,
    replicas: int,
    gives_way: bool = False,
) -> Any:
    """A Serve application, to be run under ``prefix``, whose replicas run what ``build`` makes.

    Args:
        replicas: how many processes.
        gives_way: the other applications and the owners of shows come first.
    """

    def build_in_replica() -> Api:
        # The process's own: Serve puts a stream in its place that makes each line a record of the
        # lowest level, and then throws it away.
        configure_logging(edge.log_level, edge.log_format, stream=sys.__stderr__)
        calm_collector()
        if gives_way:
            give_way(GIVING_WAY)
        app = build()
        host_here(app, prefix)
        return app

    deployment: Any = serve.deployment(
        serve.ingress(build_in_replica)(),
        name=name,
        num_replicas=replicas,
        max_ongoing_requests=ONGOING_REQUESTS_MAX,
        max_queued_requests=QUEUED_REQUESTS_MAX,
        ray_actor_options={"num_cpus": 0},
        # Serve makes a log record of every request; below this level it does not begin to.
        logging_config={"log_level": "WARNING", "enable_access_log": False},
        health_check_period_s=HEALTH_PERIOD_S,
        health_check_timeout_s=HEALTH_TIMEOUT_S,
        graceful_shutdown_wait_loop_s=0.5,
        graceful_shutdown_timeout_s=STOP_TIMEOUT_S,
    )
    return deployment.bind()
