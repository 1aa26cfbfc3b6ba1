"""``housefull accounts`` and ``housefull keys``: who may enter, and what tokens are signed with.

What is changed here is written to the audit log as done by nobody's account.
"""

from __future__ import annotations

import asyncio
import secrets
import sys
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from reservation.access import HOUSE_TENANT, TENANT_ROLES, Role
from serve_app.api.instants import write_instant
from serve_app.house_error import BadInput

if TYPE_CHECKING:
    from persistence.account_registry import AccountRow
    from persistence.accounts import Accounts
    from reservation.ids import TenantId

_Result = TypeVar("_Result")

_GENERATED_BYTES = 18
_PAGE = 100

account_commands = typer.Typer(
    help="Look after accounts.", no_args_is_help=True, add_completion=False
)
key_commands = typer.Typer(
    help="Look after the keys that sign access tokens.", no_args_is_help=True, add_completion=False
)

_Email = Annotated[str, typer.Argument(metavar="EMAIL")]


@account_commands.command("create-admin")
def create_admin(
    email: _Email,
    name: Annotated[str, typer.Option(help="What the account calls itself.")] = "Admin",
    generate: Annotated[
        bool, typer.Option("--generate", help="Make a password up and print it.")
    ] = False,
) -> None:
    """Open an account that may do everything.

    The password is asked for, or read from the first line of standard input.
    """
    password = secrets.token_urlsafe(_GENERATED_BYTES) if generate else _asked_password()
    _check(email, password, name)
    account = _with_accounts(
        "housefull accounts create-admin",
        lambda accounts: _create_admin(accounts, email, password, name),
    )
    typer.echo(f"{account.account_id} {account.email} is an admin")
    if generate:
        typer.echo(f"password: {password}")


@account_commands.command("list")
def list_accounts(
    email: Annotated[str, typer.Option(help="How their e-mail addresses begin.")] = "",
) -> None:
    """Print accounts: id, e-mail address, role, tenant, state."""
    for account in _with_accounts(
        "housefull accounts list", lambda accounts: _list_accounts(accounts, email)
    ):
        tenant = account.tenant_id or "-"
        typer.echo(f"{account.account_id} {account.email} {account.role} {tenant} {account.state}")


@account_commands.command("set-role")
def set_role(
    email: _Email,
    role: Annotated[Role, typer.Argument()],
    tenant: Annotated[
        str | None, typer.Option(help="Whose staff; the house's own if not given.")
    ] = None,
) -> None:
    """Give an account another role. Its sessions and API keys end."""
    from reservation.ids import TenantId

    tenant_id = TenantId(tenant) if tenant is not None else None
    if tenant_id is None and role in TENANT_ROLES:
        tenant_id = HOUSE_TENANT
    account = _with_accounts(
        "housefull accounts set-role",
        lambda accounts: _set_role(accounts, email, role, tenant_id),
    )
    typer.echo(f"{account.account_id} {account.email} is {account.role} now")


@key_commands.command("list")
def list_keys() -> None:
    """Print the keys that are alive: name, since when it signs, until when it verifies."""

    async def read(accounts: Accounts) -> list[str]:
        lines = []
        for key in await accounts.list_public_keys():
            until = "-"
            if key.verifies_until_at_ms is not None:
                until = write_instant(key.verifies_until_at_ms)
            lines.append(f"{key.kid} {write_instant(key.signs_from_at_ms)} {until}")
        return lines

    for line in _with_accounts("housefull keys list", read):
        typer.echo(line)


@key_commands.command()
def rotate(
    at_once: Annotated[
        bool,
        typer.Option(
            "--at-once", help="Refuse what the old keys have signed: somebody else has them."
        ),
    ] = False,
) -> None:
    """Let a new key sign access tokens from now on."""
    from persistence.audit_log import AuditEntry
    from serve_app.house.signing_keys import RotatedKeys, rotate_signing_key

    async def change(accounts: Accounts) -> RotatedKeys:
        rotated = await rotate_signing_key(accounts, at_once=at_once)
        await accounts.append_audit(
            AuditEntry(
                at_ms=_now_ms(),
                account_id=None,
                tenant_id=None,
                action="signing_key_rotated",
                object_id=rotated.kid,
                after={"retired": list(rotated.retired), "at_once": at_once},
            )
        )
        return rotated

    rotated = _with_accounts("housefull keys rotate", change)
    typer.echo(f"{rotated.kid} signs from {write_instant(rotated.signs_from_at_ms)}")
    for kid in rotated.retired:
        typer.echo(f"{kid} verifies until {write_instant(rotated.retired_until_at_ms)}")


async def _create_admin(accounts: Accounts, email: str, password: str, name: str) -> AccountRow:
    from persistence.audit_log import AuditEntry
    from serve_app.access.password_hasher import PasswordHasher

    # One hash, which somebody waits for at a prompt: beside a busy house it would take minutes.
    hasher = PasswordHasher(gives_way=False)
    try:
        password_hash = await hasher.hash(password)
    finally:
        hasher.close()
    account_id = await accounts.sign_up(
        email, password_hash, name, _now_ms(), role=Role.ADMIN, is_verified=True
    )
    if account_id is None:
        raise BadInput(f"{email} has an account already: housefull accounts set-role {email} admin")
    await accounts.append_audit(
        AuditEntry(
            at_ms=_now_ms(),
            account_id=None,
            tenant_id=None,
            action="account_created",
            object_id=account_id,
            after={"role": Role.ADMIN.value},
        )
    )
    return await _found(accounts, email)


async def _list_accounts(accounts: Accounts, email: str) -> list[AccountRow]:
    found: list[AccountRow] = []
    after: str | None = None
    while True:
        page = await accounts.search_accounts(email, after, _PAGE)
        found += page.accounts
        after = page.next
        if after is None:
            return found


async def _set_role(
    accounts: Accounts, email: str, role: Role, tenant_id: TenantId | None
) -> AccountRow:
    from persistence.audit_log import AuditEntry

    account = await _found(accounts, email)
    entry = AuditEntry(
        at_ms=_now_ms(),
        account_id=None,
        tenant_id=tenant_id or account.tenant_id,
        action="role_set",
        object_id=account.account_id,
        before={"role": account.role.value, "tenant_id": account.tenant_id},
        after={"role": role.value, "tenant_id": tenant_id},
    )
    try:
        await accounts.set_role(account.account_id, role, tenant_id, audit=entry)
    except ValueError as error:
        raise BadInput(f"--tenant: {str(error).removeprefix('tenant_id: ')}") from None
    return await _found(accounts, email)


async def _found(accounts: Accounts, email: str) -> AccountRow:
    account = await accounts.find_by_email(email)
    if account is None:
        raise BadInput(f"{email!r} has no account")
    return account


def _with_accounts(what: str, work: Callable[[Accounts], Awaitable[_Result]]) -> _Result:
    from serve_app.house.databases import open_databases
    from serve_app.settings import load_settings

    async def run(url: str) -> _Result:
        from persistence.accounts import Accounts
        from persistence.provisioning import connected_pool

        async with connected_pool(url) as pool:
            return await work(Accounts(pool))

    with open_databases(load_settings(), what) as databases:
        return asyncio.run(run(databases.catalogue_admin_url))


def _asked_password() -> str:
    if sys.stdin.isatty():
        password: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
        return password
    return sys.stdin.readline().rstrip("\n")


def _check(email: str, password: str, name: str) -> None:
    """What the account application would accept, and nothing else."""
    from pydantic import ValidationError

    from serve_app.api.account.schemas import SIGN_UP
    from serve_app.api.strict_json import field_errors

    try:
        SIGN_UP.validate_python({"email": email, "password": password, "name": name})
    except ValidationError as error:
        lines = [f"{found.field}: {found.reason}" for found in field_errors(error)]
        raise BadInput("\n".join(lines)) from None


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
