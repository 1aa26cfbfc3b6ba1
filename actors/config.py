"""What the actors need to know about the house they run in. Picklable; no environment."""

from __future__ import annotations

from dataclasses import dataclass, field

from integrations.payments.provider_config import PaymentProvidersConfig
from persistence.shards import ShardMap


@dataclass(frozen=True, slots=True)
class ActorsConfig:
    """Handed by the composition root to every actor and every ref.

    Units:
        passivate_after_ms: a dedicated show without live holds and commands leaves memory
            after this long; so does an idle show of a pool.
        mailbox_commands_max: commands waiting for the journal in one actor; claims are
            refused above it, settling commands above twice of it.
        ask_deadline_ms: how long a caller waits for an answer.
        heartbeat_dir: a folder on every node where actors leave signs of life for the
            node's watchdog.
        redis_url: where owners publish seat maps for readers; None for nowhere.
        payments: with whom money is taken.
    """

    shards: ShardMap
    heartbeat_dir: str
    namespace: str = "housefull"
    pool_slots: int = 2
    passivate_after_ms: int = 5 * 60_000
    mailbox_commands_max: int = 4_096
    ask_deadline_ms: int = 5_000
    redis_url: str | None = field(default=None, repr=False)
    payments: PaymentProvidersConfig = field(default_factory=PaymentProvidersConfig)

    def __post_init__(self) -> None:
        if not 1 <= self.pool_slots <= 64:
            raise ValueError("pool_slots: not in 1..64")
        if self.passivate_after_ms < 1_000:
            raise ValueError("passivate_after_ms: below 1000")
        if self.mailbox_commands_max < 1:
            raise ValueError("mailbox_commands_max: below 1")
        if self.ask_deadline_ms < 100:
            raise ValueError("ask_deadline_ms: below 100")
