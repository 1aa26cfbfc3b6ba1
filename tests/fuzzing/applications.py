"""Every application of a house, with what requests may name in it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import NamedTuple

from fastapi import FastAPI

from persistence.migrate import APPLICATION_GROUP, ORGANISER_GROUP
from persistence.sessions import open_pool
from reservation.access import HOUSE_TENANT, Principal, Role
from reservation.ids import SessionId
from tests.support.access import principal_named, tokens_of_tests
from tests.support.account_house import ACCOUNT, open_account_house
from tests.support.http_house import BOOKING, BROWSE, PAYMENTS, House
from tests.support.organiser_house import ORGANISER, OrganiserHouse


class Fuzzed(NamedTuple):
    """One application.

    Shapes:
        bearer: makes a value of ``Authorization``, valid for some minutes.
        parameters: of paths, so that requests name something that is there.
    """

    prefix: str
    app: FastAPI
    bearer: Callable[[], str]
    parameters: Mapping[str, str]


Build = Callable[[House, AsyncExitStack, Path], Awaitable[Fuzzed]]


async def booking(house: House, opened: AsyncExitStack, directory: Path) -> Fuzzed:
    """The booking application, as somebody at the box office, who may do everything in it."""
    show_id = await house.add_run("Fuzzed")
    seller = principal_named("fuzzing", Role.BOX_OFFICE)
    return Fuzzed(
        BOOKING,
        house.booking_app(),
        lambda: tokens_of_tests().bearer(seller),
        {"show_id": show_id},
    )


async def payments(house: House, opened: AsyncExitStack, directory: Path) -> Fuzzed:
    """The payments application, as a customer; nobody's webhooks are signed."""
    return Fuzzed(
        PAYMENTS,
        house.payments_app(),
        lambda: tokens_of_tests().bearer(principal_named("fuzzing")),
        {"payment_id": "pay_" + "0" * 32},
    )


async def browse(house: House, opened: AsyncExitStack, directory: Path) -> Fuzzed:
    """The browse application, which looks at no tokens."""
    show_id = await house.add_run("Fuzzed")
    return Fuzzed(
        BROWSE,
        house.browse_app(),
        lambda: tokens_of_tests().bearer(principal_named("fuzzing")),
        {"show_id": show_id},
    )


async def account(house: House, opened: AsyncExitStack, directory: Path) -> Fuzzed:
    """The account application, as an administrator, who may do everything in it."""
    accounts = await opened.enter_async_context(open_account_house(house.dsn, directory / "mail"))
    admin_id, _ = await accounts.make_account(Role.ADMIN)
    other_id, _ = await accounts.make_account()
    admin = Principal(admin_id, Role.ADMIN, None, SessionId("ses_" + "0" * 20))

    def bearer() -> str:
        return f"Bearer {accounts.issuer.issue(admin, int(time.time()))}"

    parameters = {"account_id": other_id, "tenant_id": HOUSE_TENANT}
    return Fuzzed(ACCOUNT, accounts.app(), bearer, parameters)


async def organiser(house: House, opened: AsyncExitStack, directory: Path) -> Fuzzed:
    """The organiser application, as an organiser of the tenant that has the shows."""
    pools = []
    for role in (ORGANISER_GROUP, APPLICATION_GROUP, None):
        pool = await open_pool(house.dsn, "tests", size_max=4, role=role)
        opened.push_async_callback(pool.close)
        pools.append(pool)
    organisers = OrganiserHouse(house, *pools)
    show_id = await house.add_run("Fuzzed")
    return Fuzzed(
        ORGANISER,
        organisers.app(),
        lambda: tokens_of_tests().bearer(principal_named("fuzzing", Role.ORGANISER)),
        {"show_id": show_id},
    )


APPLICATIONS: Mapping[str, Build] = {
    "booking": booking,
    "payments": payments,
    "browse": browse,
    "account": account,
    "organiser": organiser,
}
