"""Accounts: who there is and what they may do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

import asyncpg

from persistence.account_fields import (
    EMAIL_LENGTH_MAX,
    PAGE_LENGTH_MAX,
    checked_email,
    checked_limit,
    checked_name,
    checked_password_hash,
    email_key_of,
)
from persistence.audit_log import AuditEntry, write_entry
from persistence.catalogue_text import checked_text
from persistence.login_sessions import EndReason, end_all_access, holding_account
from persistence.new_ids import new_id
from persistence.queries import load_queries
from persistence.sessions import Pool, PooledConnection, reading, writing
from reservation.access import Role, fits_tenant
from reservation.ids import AccountId, TenantId, is_account_id, is_tenant_id

CONTACTS_PER_CALL_MAX = 1_000

_QUERIES = load_queries("accounts.sql")


class AccountState(StrEnum):
    """Whether an account may enter."""

    ACTIVE = "active"
    DISABLED = "disabled"


@dataclass(frozen=True, slots=True)
class AccountRow:
    """One account.

    Shapes:
        email: as it was typed.
        tenant_id: None unless the role belongs to a tenant.
        password_hash: not shown when the row is printed.
    """

    account_id: AccountId
    email: str
    email_verified_at_ms: int | None
    name: str
    role: Role
    tenant_id: TenantId | None
    password_hash: str = field(repr=False)
    state: AccountState
    created_at_ms: int


class AccountPage(NamedTuple):
    """Some accounts; ``next`` is where to go on, None on the last page."""

    accounts: list[AccountRow]
    next: str | None


class Contact(NamedTuple):
    """Who somebody is and how to write to them."""

    name: str
    email: str


class AccountRegistry:
    """Makes, finds and changes accounts.

    What is promised:
        Two accounts never have the same e-mail address, whatever its case and composition.
        What an account was not allowed any more ends at once: who loses a role, a password or
        the account also loses every session. See ``LoginSessions``.

    Raises:
        ShowUnavailable: from every method, when the database cannot be reached; nothing changed.
        OutcomeUnknown: from the writing methods, when it went away in the middle.

    Args:
        pool: stays the caller's, with the rights of ``housefull_accounts``; ``find_contacts``
            works with those of ``housefull_organiser`` too.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def sign_up(
        self,
        email: str,
        password_hash: str,
        name: str,
        now_ms: int,
        *,
        role: Role = Role.CUSTOMER,
        tenant_id: TenantId | None = None,
        is_verified: bool = False,
    ) -> AccountId | None:
        """A new account.

        Returns:
            None when the e-mail address is another account's.

        Raises:
            ValueError: a field cannot be stored, the role does not fit the tenant, or there is
                no such tenant; the message begins with the name of the field.
        """
        checked_email(email)
        _check_tenant(role, tenant_id)
        account_id = AccountId(new_id("acc_"))
        try:
            async with writing(self._pool) as connection:
                status = await connection.execute(
                    _QUERIES["sign_up"],
                    account_id,
                    email,
                    email_key_of(email),
                    now_ms if is_verified else None,
                    checked_name(name),
                    role,
                    tenant_id,
                    checked_password_hash(password_hash),
                    now_ms,
                )
        except asyncpg.ForeignKeyViolationError as error:
            raise _no_such_tenant(tenant_id) from error
        return account_id if status == "INSERT 0 1" else None

    async def find(self, account_id: AccountId) -> AccountRow | None:
        """The account; None when there is none with this id."""
        if not is_account_id(account_id):
            return None
        return await self._find("find_account", account_id)

    async def find_by_email(self, email: str) -> AccountRow | None:
        """The account with this e-mail address, whatever its case; None when there is none.

        Raises:
            ValueError: no account can have this address; the message begins with ``email``.
        """
        return await self._find("find_account_by_email", email_key_of(checked_email(email)))

    async def list_staff(
        self,
        tenant_id: TenantId,
        after: AccountId | None = None,
        limit: int = PAGE_LENGTH_MAX,
    ) -> AccountPage:
        """A page of the accounts of a tenant, in the order of their ids; ``next`` is an id.

        Raises:
            ValueError: ``limit`` is not in 1..100, or ``after`` is no account's id.
        """
        checked_limit(limit)
        if after is not None and not is_account_id(after):
            raise ValueError("after: not the id of an account")
        if not is_tenant_id(tenant_id):
            return AccountPage([], None)
        async with reading(self._pool) as connection:
            rows = await connection.fetch(_QUERIES["list_staff"], tenant_id, after or "", limit + 1)
        accounts = [_account_of(row) for row in rows[:limit]]
        return AccountPage(accounts, accounts[-1].account_id if len(rows) > limit else None)

    async def search_accounts(
        self, email_prefix: str = "", after: str | None = None, limit: int = PAGE_LENGTH_MAX
    ) -> AccountPage:
        """A page of the accounts whose e-mail address begins like this, in the order of these.

        Args:
            email_prefix: compared like whole addresses; empty for all accounts.
            after: the ``next`` of the page before, which is an e-mail address.

        Raises:
            ValueError: a field is out of its bounds or cannot be text in Postgres; the message
                begins with the name of the field.
        """
        checked_limit(limit)
        checked_text("email_prefix", email_prefix, EMAIL_LENGTH_MAX)
        checked_text("after", after or "", EMAIL_LENGTH_MAX)
        prefix = email_key_of(email_prefix)
        async with reading(self._pool) as connection:
            rows = await connection.fetch(
                _QUERIES["search_accounts"], prefix, email_key_of(after or ""), limit + 1
            )
        accounts = [_account_of(row) for row in rows[:limit]]
        return AccountPage(accounts, accounts[-1].email if len(rows) > limit else None)

    async def find_contacts(self, account_ids: Sequence[str]) -> dict[AccountId, Contact]:
        """Name and address of every one of these accounts that there is.

        Raises:
            ValueError: there are more than ``CONTACTS_PER_CALL_MAX``.
        """
        if len(account_ids) > CONTACTS_PER_CALL_MAX:
            raise ValueError(f"account_ids: more than {CONTACTS_PER_CALL_MAX}")
        known = [account_id for account_id in account_ids if is_account_id(account_id)]
        if not known:
            return {}
        async with reading(self._pool) as connection:
            rows = await connection.fetch(_QUERIES["find_contacts"], known)
        return {AccountId(row["account_id"]): Contact(row["name"], row["email"]) for row in rows}

    async def set_name(self, account_id: AccountId, name: str) -> bool:
        """Call an account by another name.

        Returns:
            False when there is no such account.

        Raises:
            ValueError: the name cannot be stored; the message begins with ``name``.
        """
        checked_name(name)
        if not is_account_id(account_id):
            return False
        async with writing(self._pool) as connection:
            status = await connection.execute(_QUERIES["set_name"], account_id, name)
        return status == "UPDATE 1"

    async def set_password(self, account_id: AccountId, password_hash: str) -> bool:
        """Give an account another password, and end all its sessions.

        Its API keys stay: they are listed and revoked by themselves.

        Returns:
            False when there is no such account.

        Raises:
            ValueError: the hash cannot be stored; the message does not show it.
        """
        checked_password_hash(password_hash)
        async with holding_account(self._pool, account_id) as (connection, account):
            if account is None:
                return False
            await change_password(connection, account_id, password_hash)
        return True

    async def renew_password_hash(
        self, account_id: AccountId, old_hash: str, new_hash: str
    ) -> bool:
        """Store the same password with other costs. Its sessions stay.

        Returns:
            False when the password is another one by now, or there is no such account.

        Raises:
            ValueError: the new hash cannot be stored; the message does not show it.
        """
        checked_password_hash(new_hash)
        async with holding_account(self._pool, account_id) as (connection, account):
            if account is None or account["password_hash"] != old_hash:
                return False
            await connection.execute(_QUERIES["set_password_hash"], account_id, new_hash)
        return True

    async def set_role(
        self,
        account_id: AccountId,
        role: Role,
        tenant_id: TenantId | None,
        *,
        only_from: tuple[Role, TenantId | None] | None = None,
        audit: AuditEntry | None = None,
    ) -> bool:
        """Give an account another role, or the same one at another tenant.

        Its sessions end and its API keys are revoked, because they say what it was. Nothing
        happens to an account that is it already.

        Args:
            only_from: what the account must be now, role and tenant; None for anything.
            audit: written in the same transaction, if something changed.

        Returns:
            False when there is no such account, or it is not ``only_from``.

        Raises:
            ValueError: the role does not fit the tenant, or there is no such tenant; the message
                begins with ``tenant_id``.
        """
        _check_tenant(role, tenant_id)
        try:
            async with holding_account(self._pool, account_id) as (connection, account):
                if account is None:
                    return False
                now = (account["role"], account["tenant_id"])
                if only_from is not None and now != only_from:
                    return False
                if now == (role, tenant_id):
                    return True
                await connection.execute(_QUERIES["set_role"], account_id, role, tenant_id)
                await end_all_access(connection, account_id, EndReason.ROLE)
                await connection.execute(_QUERIES["revoke_all_keys"], account_id)
                if audit is not None:
                    await write_entry(connection, audit)
        except asyncpg.ForeignKeyViolationError as error:
            raise _no_such_tenant(tenant_id) from error
        return True

    async def disable(self, account_id: AccountId, *, audit: AuditEntry | None = None) -> bool:
        """Let an account do nothing any more, at once. Its API keys rest.

        Args:
            audit: written in the same transaction, if something changed.

        Returns:
            False when there is no such account.
        """
        return await self._set_state(account_id, AccountState.DISABLED, audit)

    async def enable(self, account_id: AccountId, *, audit: AuditEntry | None = None) -> bool:
        """Let a disabled account in again; see ``disable``. Its sessions stay ended."""
        return await self._set_state(account_id, AccountState.ACTIVE, audit)

    async def _set_state(
        self, account_id: AccountId, state: AccountState, audit: AuditEntry | None
    ) -> bool:
        async with holding_account(self._pool, account_id) as (connection, account):
            if account is None:
                return False
            if account["state"] == state:
                return True
            await connection.execute(_QUERIES["set_state"], account_id, state)
            if state is AccountState.DISABLED:
                await end_all_access(connection, account_id, EndReason.DISABLED)
                await connection.execute(_QUERIES["forget_tokens"], account_id, None)
            if audit is not None:
                await write_entry(connection, audit)
        return True

    async def _find(self, query: str, key: str) -> AccountRow | None:
        async with reading(self._pool) as connection:
            row = await connection.fetchrow(_QUERIES[query], key)
        return None if row is None else _account_of(row)


async def change_password(
    connection: PooledConnection, account_id: AccountId, password_hash: str
) -> None:
    """Set the password of an account whose row the caller's transaction holds.

    Its sessions end, and what was mailed to set another password is worth nothing any more.
    """
    await connection.execute(_QUERIES["set_password_hash"], account_id, password_hash)
    await end_all_access(connection, account_id, EndReason.PASSWORD)
    await connection.execute(_QUERIES["forget_tokens"], account_id, "reset_password")


def _check_tenant(role: Role, tenant_id: TenantId | None) -> None:
    if tenant_id is not None and not is_tenant_id(tenant_id):
        raise _no_such_tenant(tenant_id)
    if not fits_tenant(role, tenant_id):
        belongs = "to no tenant" if tenant_id is not None else "to a tenant"
        raise ValueError(f"tenant_id: an account with the role {role} belongs {belongs}")


def _no_such_tenant(tenant_id: TenantId | None) -> ValueError:
    return ValueError(f"tenant_id: there is no tenant {tenant_id!r}")


def _account_of(row: asyncpg.Record) -> AccountRow:
    tenant_id = row["tenant_id"]
    return AccountRow(
        account_id=AccountId(row["account_id"]),
        email=row["email"],
        email_verified_at_ms=row["email_verified_at_ms"],
        name=row["name"],
        role=Role(row["role"]),
        tenant_id=None if tenant_id is None else TenantId(tenant_id),
        password_hash=row["password_hash"],
        state=AccountState(row["state"]),
        created_at_ms=row["created_at_ms"],
    )
