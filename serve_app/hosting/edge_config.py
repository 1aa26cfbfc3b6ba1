"""What the HTTP applications need to know about the house. Picklable; no environment."""

from __future__ import annotations

from dataclasses import dataclass, field

from actors.config import ActorsConfig
from serve_app.api.limits import UNLIMITED, LimitRates
from serve_app.logs import LogFormat, LogLevel


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeConfig:
    """Handed by the composition root to every replica of every application.

    Shapes:
        redis_url: None means that there is no Redis; everything must work without it.
        replicas: processes of each of the two applications that everybody uses, browse and
            booking. They ask Ray for no CPU: several replicas, actors and Ray itself share few
            cores, and Ray's bookkeeping would refuse to start them.
        gateway_secret: whoever shows it is the gateway; None believes nobody.
        cors_origins: pages of these origins may read answers in a browser.
        smtp_url: None means that letters are written into ``mail_directory``.
        public_url: where customers find a page for the codes in letters; None is nowhere.
    """

    actors: ActorsConfig
    catalogue_dsn: str = field(repr=False)
    redis_url: str | None = field(repr=False)
    replicas: int = 2
    body_bytes_max: int = 65_536
    limits: LimitRates = UNLIMITED
    gateway_secret: str | None = field(default=None, repr=False)
    cors_origins: tuple[str, ...] = ()
    smtp_url: str | None = field(default=None, repr=False)
    mail_from: str = "Housefull <tickets@housefull.example>"
    mail_directory: str = ""
    public_url: str | None = None
    log_level: LogLevel = "info"
    log_format: LogFormat = "text"

    def __post_init__(self) -> None:
        if self.replicas < 1:
            raise ValueError("replicas: below 1")
        if self.body_bytes_max < 1_024:
            raise ValueError("body_bytes_max: below 1024")

    @property
    def side_replicas(self) -> int:
        """Processes of each of the other applications, which are asked far less."""
        return max(1, self.replicas // 2)
