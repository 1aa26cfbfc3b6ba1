"""From settings to what actors and applications are given."""

from __future__ import annotations

import pickle

from actors.activation import open_publisher
from actors.config import ActorsConfig
from integrations.mail.directory_mailbox import DirectoryMailbox
from integrations.mail.smtp_mailbox import SmtpMailbox
from integrations.payments.provider_config import (
    PaymentProvidersConfig,
    RazorpayConfig,
    StripeConfig,
)
from persistence.shards import ShardMap
from serve_app.hosting.account_desk import open_mailbox
from serve_app.house.app import compose_edge
from serve_app.settings import Settings

SHARDS = ShardMap.even(("postgresql:///house",))
URL = "unix://:secret@/run/valkey.sock?db=0"


def test_owners_publish_where_readers_look() -> None:
    edge = compose_edge(Settings(), SHARDS, URL, "/run/beats")
    assert edge.redis_url == edge.actors.redis_url == URL
    assert pickle.loads(pickle.dumps(edge)) == edge


def test_the_password_of_the_cache_is_not_printed() -> None:
    edge = compose_edge(Settings(), SHARDS, URL, "/run/beats")
    assert "secret" not in repr(edge)
    assert "secret" not in repr(edge.actors)


def test_letters_go_where_the_settings_say_and_no_password_is_printed() -> None:
    settings = Settings(
        smtp_url="smtps://house:secret@mail.housefull.example",
        mail_from="tickets@housefull.example",
    )
    edge = compose_edge(settings, SHARDS, None, "/run/beats")
    assert isinstance(open_mailbox(edge), SmtpMailbox)
    assert "secret" not in repr(edge)
    assert isinstance(
        open_mailbox(compose_edge(Settings(), SHARDS, None, "/run/beats")), DirectoryMailbox
    )


def test_money_is_taken_by_the_actors_and_the_applications_with_the_same_accounts() -> None:
    providers = PaymentProvidersConfig(
        StripeConfig("sk_test_s3cret", "pk_test_x", ("whsec_s3cret",)),
        RazorpayConfig("rzp_test_x", "s3cret", ("other-s3cret",)),
    )
    edge = compose_edge(Settings(), SHARDS, URL, "/run/beats", providers=providers)
    assert edge.actors.payments == providers
    assert pickle.loads(pickle.dumps(edge)).actors.payments == providers
    assert "s3cret" not in repr(edge) + repr(edge.actors)
    assert compose_edge(Settings(), SHARDS, URL, "/").actors.payments == PaymentProvidersConfig()


async def test_an_address_that_is_none_keeps_nobody_from_selling() -> None:
    for url in (None, "redis://host:no-port/0", "redis://[::1/0"):
        assert open_publisher(ActorsConfig(SHARDS, "/run/beats", redis_url=url)) is None
    publisher = open_publisher(ActorsConfig(SHARDS, "/run/beats", redis_url=URL))
    assert publisher is not None
    await publisher.close()
