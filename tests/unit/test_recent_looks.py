"""How often a payment is looked at at its provider, however often its customer asks."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from actors.checkouts import OpenedCheckout
from persistence.payment_rows import StoredPayment
from reservation.checkout import Checkout
from serve_app.api.payments import recent_looks
from serve_app.api.payments.recent_looks import RecentLooks
from tests.support.stored_payments import PRICE, new_payment

SECRET = {"client_secret": "of the customer"}


class CountedLooks:
    """Answers from memory, and counts."""

    def __init__(self) -> None:
        self.count = 0
        self.stored = StoredPayment(Checkout(new_payment(1), ()), PRICE, None, None, None)

    async def look(self, payment_id: str) -> OpenedCheckout | None:
        self.count += 1
        await asyncio.sleep(0)
        return OpenedCheckout(self.stored, SECRET)


def looks_of(checkouts: Any) -> RecentLooks:
    return RecentLooks(checkouts)


async def test_who_asks_again_at_once_is_told_without_asking_the_provider() -> None:
    checkouts = CountedLooks()
    looks = looks_of(checkouts)
    told = [await looks.look(checkouts.stored) for _ in range(3)]
    assert [one.client_data for one in told] == [SECRET] * 3
    assert checkouts.count == 1


async def test_many_at_once_share_two_looks() -> None:
    checkouts = CountedLooks()
    looks = looks_of(checkouts)
    await asyncio.gather(*(looks.look(checkouts.stored) for _ in range(9)))
    # One that began when the first of them asked, and one after all had.
    assert checkouts.count == 2


async def test_what_the_house_has_learned_since_is_looked_at_anew() -> None:
    checkouts = CountedLooks()
    looks = looks_of(checkouts)
    await looks.look(checkouts.stored)
    newer = replace(checkouts.stored.payment, version=checkouts.stored.payment.version + 1)
    checkouts.stored = replace(checkouts.stored, checkout=Checkout(newer, ()))
    await looks.look(checkouts.stored)
    assert checkouts.count == 2


async def test_a_look_is_not_good_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recent_looks, "FRESH_S", 0.0)
    checkouts = CountedLooks()
    looks = looks_of(checkouts)
    await looks.look(checkouts.stored)
    await looks.look(checkouts.stored)
    assert checkouts.count == 2
