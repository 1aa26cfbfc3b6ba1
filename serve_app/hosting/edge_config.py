"""What the HTTP applications need to know about the house. Picklable; no environment."""

from __future__ import annotations

from dataclasses import dataclass, field

from actors.config import ActorsConfig
from serve_app.logs import LogFormat, LogLevel


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeConfig:
    """Handed by the composition root to every replica of every application.

    Shapes:
        redis_url: None means that there is no Redis; everything must work without it.
        is_house_local: the house takes connections on a loopback address only.
        replicas: processes of each application. They ask Ray for no CPU: several replicas,
            actors and Ray itself share few cores, and Ray's bookkeeping would refuse to start
            them.
    """

    actors: ActorsConfig
    catalogue_dsn: str = field(repr=False)
    redis_url: str | None = field(repr=False)
    is_house_local: bool
    replicas: int = 2
    body_bytes_max: int = 65_536
    log_level: LogLevel = "info"
    log_format: LogFormat = "text"

    def __post_init__(self) -> None:
        if self.replicas < 1:
            raise ValueError("replicas: below 1")
        if self.body_bytes_max < 1_024:
            raise ValueError("body_bytes_max: below 1024")
