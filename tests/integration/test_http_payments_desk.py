"""What the applications that take money turn to, as a replica opens it: rights, and the provider.

The provider is the sandbox that a house brings along, started as a house starts it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import psutil
import pytest

from actors.config import ActorsConfig
from integrations.payments.payment_gateway import NoticeRefused
from persistence.provisioning import prepare_database
from persistence.shards import ShardMap
from reservation.access import HOUSE_TENANT
from reservation.ids import CustomerId, derive_hold_id, derive_payment_id, derive_show_id
from serve_app.access.access_tokens import TokenVerifier
from serve_app.hosting.desks import open_booking_desk, open_payments_desk
from serve_app.hosting.edge_config import EdgeConfig
from serve_app.house.data_directory import DataDirectory
from serve_app.house.payment_sandbox import PaymentSandbox
from serve_app.house.ports import PortReservation
from tests.support.paying import signed_by_stripe, stripe_notice
from tests.support.quick_postgres import quick_postgres
from tests.support.secrets_found import in_arguments

_PASSWORD = "of-the-house"
_HOUSE = "http://127.0.0.1:1"


@pytest.fixture
def data(tmp_path: Path) -> DataDirectory:
    data = DataDirectory(tmp_path / "data")
    data.create()
    return data


def sandbox_of(data: DataDirectory) -> PaymentSandbox:
    with PortReservation() as ports:
        choice = ports.choose("payment sandbox")
        ports.hand_over(choice)
        return PaymentSandbox(data, choice.port)


async def test_replicas_take_money_with_no_rights_but_those_of_the_house(
    tmp_path: Path, data: DataDirectory
) -> None:
    providers = sandbox_of(data).providers
    assert providers.stripe is not None
    with quick_postgres() as server:
        await prepare_database(server.dsn(), role="housefull", password=_PASSWORD)
        dsn = server.dsn(user="housefull", password=_PASSWORD)
        actors = ActorsConfig(ShardMap.even((dsn,)), str(tmp_path), payments=providers)
        edge = EdgeConfig(actors=actors, catalogue_dsn=dsn, redis_url=None)
        show_id = derive_show_id("of this test")
        customer_id = CustomerId("acc_" + "a" * 20)
        payment_id = derive_payment_id(derive_hold_id(show_id, customer_id, "1"), "1")
        async with open_booking_desk(edge, TokenVerifier()) as booking:
            counter = booking.checkouts
            assert counter.checkouts.providers == ("stripe", "razorpay")
            assert await counter.promo_codes.find_by_code(HOUSE_TENANT, "SUMMER-26") is None
            assert (await counter.terms.find(show_id)).version == 0
            assert await counter.payments.find_all([payment_id, "counter", "free"]) == {}
        async with open_payments_desk(edge, TokenVerifier()) as desk:
            await desk.payments.probe()
            page = await desk.payments.page(customer_id, limit=5, after=None)
            assert (page.items, page.next) == ((), None)
            assert await desk.checkouts.give_up(payment_id, customer_id) is None
            shown = {
                "payment_id": payment_id,
                "amount_minor": 1,
                "client": {"client_secret": "pi_1_secret_2"},
            }
            body = stripe_notice(shown, "evt_1")
            (secret,) = providers.stripe.webhook_secrets
            await desk.checkouts.take_notice("stripe", body, signed_by_stripe(body, secret))
            with pytest.raises(NoticeRefused):
                await desk.checkouts.take_notice("stripe", body, signed_by_stripe(body))
            with pytest.raises(NoticeRefused):
                await desk.checkouts.take_notice("paypal", body, {})


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what a process was given")
def test_a_house_s_sandbox_has_no_secret_in_its_arguments_and_goes_on_where_it_was(
    data: DataDirectory,
) -> None:
    sandbox = sandbox_of(data)
    sandbox.start()
    try:
        sandbox.send_webhooks_to(_HOUSE)
        keys = json.loads(data.sandbox_keys.read_text())
        secrets = {name: value for name, value in keys.items() if "secret" in name}
        started = psutil.Process().children(recursive=True)
        lines = [" ".join(process.cmdline()) for process in started]
        assert any("integrations.sandbox" in line for line in lines)
        assert in_arguments(secrets, started) == []
    finally:
        sandbox.stop()
    assert not sandbox.is_running
    # The next run of the house has another port, and takes the webhooks along.
    again = sandbox_of(data)
    again.start()
    try:
        again.send_webhooks_to("http://127.0.0.1:2")
        known = [hook["url"] for hook in again._control("GET", "webhooks")]
        assert sorted(known) == [
            "http://127.0.0.1:2/api/payments/webhooks/razorpay",
            "http://127.0.0.1:2/api/payments/webhooks/stripe",
        ]
    finally:
        again.stop()
    assert again.providers.stripe is not None
    assert again.providers.stripe.secret_key == keys["secret_key"]
