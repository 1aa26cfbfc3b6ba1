"""Demo logins: real accounts, whose passwords are in one file that only the house can read."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from reservation.access import Role
from serve_app.house.demo_logins import FILE, make_demo_logins, read_demo_logins
from tests.support.account_house import (
    ACCOUNT,
    AccountHouse,
    bearer,
    log_in,
    open_account_house,
)
from tests.support.http_house import open_client


@pytest.fixture
async def house(application_dsn: str, tmp_path: Path) -> AsyncIterator[AccountHouse]:
    async with open_account_house(application_dsn, tmp_path / "mail") as house:
        yield house


async def test_there_is_one_login_of_each_role_and_it_works(
    house: AccountHouse, tmp_path: Path
) -> None:
    assert read_demo_logins(tmp_path) == []
    made = await make_demo_logins(house.accounts, tmp_path)
    assert read_demo_logins(tmp_path) == made
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600
    assert len({login.password for login in made}) == len(made)
    roles = []
    async with open_client(house.app(), ACCOUNT) as client:
        for login in made:
            session = await log_in(client, login.email, login.password)
            me = (await client.get("/me", headers=bearer(session))).json()
            assert me["email_verified"] is True
            roles.append(me["role"])
    assert sorted(roles) == sorted(Role)


async def test_a_start_that_was_interrupted_is_begun_again(
    house: AccountHouse, tmp_path: Path
) -> None:
    await make_demo_logins(house.accounts, tmp_path)
    (tmp_path / FILE).unlink()
    made = await make_demo_logins(house.accounts, tmp_path)
    async with open_client(house.app(), ACCOUNT) as client:
        for login in made:
            await log_in(client, login.email, login.password)
