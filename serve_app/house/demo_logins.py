"""Logins to try a demo house with: one of each role, with passwords that are made up here.

They are accounts like all others. Their passwords are different in every house and are kept in
``<data_dir>/demo.logins``, one ``address password`` a line, which only the house's user can read.
"""

from __future__ import annotations

import secrets
import time
from pathlib import Path
from typing import NamedTuple

from persistence.accounts import Accounts
from reservation.access import HOUSE_TENANT, TENANT_ROLES, Role
from serve_app.access.password_hasher import PasswordHasher
from serve_app.house.data_directory import write_private

FILE = "demo.logins"

_PASSWORD_BYTES = 15
_LOGINS = {
    "customer@housefull.example": Role.CUSTOMER,
    "organiser@housefull.example": Role.ORGANISER,
    "gate@housefull.example": Role.GATE,
    "box-office@housefull.example": Role.BOX_OFFICE,
    "admin@housefull.example": Role.ADMIN,
}

BOX_OFFICE = "box-office@housefull.example"
CUSTOMER = "customer@housefull.example"
assert _LOGINS.keys() >= {BOX_OFFICE, CUSTOMER}


class DemoLogin(NamedTuple):
    """Who can log in, and how."""

    email: str
    password: str


async def make_demo_logins(accounts: Accounts, directory: Path) -> list[DemoLogin]:
    """Make the accounts and remember their passwords; from then on only these work."""
    # Whoever starts a house waits for these, and nobody buys yet.
    hasher = PasswordHasher(gives_way=False)
    try:
        logins = [await _make(accounts, hasher, email, role) for email, role in _LOGINS.items()]
    finally:
        hasher.close()
    lines = [f"{login.email} {login.password}\n" for login in logins]
    write_private(directory / FILE, "".join(lines))
    return logins


def read_demo_logins(directory: Path) -> list[DemoLogin]:
    """The logins of this house; none if it has no demo logins."""
    try:
        lines = (directory / FILE).read_text().splitlines()
    except FileNotFoundError:
        return []
    return [DemoLogin(*line.split(" ", 1)) for line in lines]


async def _make(accounts: Accounts, hasher: PasswordHasher, email: str, role: Role) -> DemoLogin:
    # Letters and digits, so that it can stand in JSON and in a shell as it is.
    password = secrets.token_urlsafe(_PASSWORD_BYTES)
    password_hash = await hasher.hash(password)
    tenant_id = HOUSE_TENANT if role in TENANT_ROLES else None
    name = email.partition("@")[0].replace("-", " ").capitalize()
    made = await accounts.sign_up(
        email,
        password_hash,
        f"Demo {name.lower()}",
        time.time_ns() // 1_000_000,
        role=role,
        tenant_id=tenant_id,
        is_verified=True,
    )
    if made is None:
        # An earlier start was interrupted before it could write the passwords down.
        account = await accounts.find_by_email(email)
        assert account is not None, f"{email} is taken and is not there"
        await accounts.set_role(account.account_id, role, tenant_id)
        await accounts.set_password(account.account_id, password_hash)
    return DemoLogin(email, password)
