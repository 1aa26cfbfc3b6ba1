"""``housefull accounts`` and ``housefull keys`` on a real database."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import asyncpg
import pytest

from persistence.accounts import Accounts
from persistence.sessions import open_pool
from reservation.access import HOUSE_TENANT, Role
from serve_app.access.password_hasher import PasswordHasher

REPOSITORY = Path(__file__).resolve().parents[2]
EMAIL = "ada@theatre.example"

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def housefull(fresh_database: str, tmp_path: Path) -> Command:
    """Runs a command against the database of the test."""

    def run(*arguments: str, said: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "serve_app", *arguments],
            cwd=tmp_path,
            env={
                "PATH": "/usr/bin:/bin",
                "PYTHONPATH": str(REPOSITORY),
                "HOUSEFULL_DATABASE_URLS": fresh_database,
            },
            input=said,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


async def audit_of(dsn: str) -> list[tuple[str, str | None]]:
    connection = await asyncpg.connect(dsn)
    try:
        rows = await connection.fetch(
            "SELECT action, account_id FROM audit_entry ORDER BY entry_id"
        )
    finally:
        await connection.close()
    return [(row["action"], row["account_id"]) for row in rows]


async def test_the_first_admin_is_made_here_and_can_log_in(
    housefull: Command, fresh_database: str
) -> None:
    made = housefull("accounts", "create-admin", EMAIL, "--generate")
    assert made.returncode == 0, made.stderr
    password = made.stdout.partition("password: ")[2].strip()
    pool = await open_pool(fresh_database, "tests", size_max=1)
    account = await Accounts(pool).find_by_email(EMAIL)
    await pool.close()
    assert account is not None
    assert (account.role, account.tenant_id) == (Role.ADMIN, None)
    assert account.email_verified_at_ms is not None
    hasher = PasswordHasher(gives_way=False)
    assert (await hasher.verify(account.password_hash, password)).is_right
    hasher.close()
    assert await audit_of(fresh_database) == [("account_created", None)]

    again = housefull("accounts", "create-admin", EMAIL, said="correct horse battery\n")
    assert again.returncode == 2
    assert again.stderr == (
        f"housefull: {EMAIL} has an account already: housefull accounts set-role {EMAIL} admin\n"
    )


async def test_roles_are_given_and_accounts_are_listed(
    housefull: Command, fresh_database: str
) -> None:
    made = housefull("accounts", "create-admin", EMAIL, said="correct horse battery\n")
    assert made.returncode == 0, made.stderr
    assert "password" not in made.stdout
    given = housefull("accounts", "set-role", EMAIL, "organiser")
    assert given.returncode == 0, given.stderr
    listed = housefull("accounts", "list", "--email", "ADA").stdout
    assert re.fullmatch(rf"acc_\w{{20}} {EMAIL} organiser {HOUSE_TENANT} active\n", listed)
    assert housefull("accounts", "list", "--email", "bob").stdout == ""
    actions = [action for action, _ in await audit_of(fresh_database)]
    assert actions == ["account_created", "role_set"]

    for arguments, complaint in (
        (("nobody@theatre.example", "admin"), "'nobody@theatre.example' has no account"),
        ((EMAIL, "gate", "--tenant", "tnt_" + "9" * 20), "--tenant: there is no tenant"),
        ((EMAIL, "admin", "--tenant", HOUSE_TENANT), "--tenant: an account with the role admin"),
    ):
        ended = housefull("accounts", "set-role", *arguments)
        assert (ended.returncode, ended.stderr.count("\n")) == (2, 1), ended.stderr
        assert complaint in ended.stderr


@pytest.mark.parametrize(
    ("email", "password", "complaint"),
    [
        ("ada", "correct horse battery", "email: must be an e-mail address"),
        (EMAIL, "short", "password: "),
        (EMAIL, "", "password: "),
        (EMAIL, "aaaaaaaaaaaaaaaa", "password: must have at least 5 different"),
    ],
)
def test_what_the_application_would_refuse_is_refused_here(
    housefull: Command, email: str, password: str, complaint: str
) -> None:
    ended = housefull("accounts", "create-admin", email, said=f"{password}\n")
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"housefull: {complaint}")
    assert password not in ended.stderr or not password


async def test_keys_are_rotated_and_listed(housefull: Command, fresh_database: str) -> None:
    assert housefull("keys", "list").stdout == ""
    first = housefull("keys", "rotate")
    assert first.returncode == 0, first.stderr
    second = housefull("keys", "rotate")
    kids = [ended.stdout.split()[0] for ended in (first, second)]
    assert f"{kids[0]} verifies until " in second.stdout
    listed = [line.split() for line in housefull("keys", "list").stdout.splitlines()]
    assert {line[0] for line in listed} == set(kids)
    assert [line[2] == "-" for line in listed].count(True) == 1
    # Somebody has stolen them all.
    third = housefull("keys", "rotate", "--at-once")
    listed = [line.split() for line in housefull("keys", "list").stdout.splitlines()]
    assert [line[0] for line in listed] == [third.stdout.split()[0]]
    actions = [action for action, _ in await audit_of(fresh_database)]
    assert actions == ["signing_key_rotated"] * 3
