"""Logging in, staying in, and logging out.

A login computes one password hash, whether or not there is such an account, and says the same when
it fails. It is throttled before that hash: by the address that was typed, so that nobody tries many
passwords for one account, and by the client's address, so that nobody tries one for many.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from fastapi import Request
from starlette.responses import Response

from integrations.mail.mailbox import is_address
from persistence.account_registry import AccountRow, AccountState
from persistence.login_sessions import RefreshRefused
from reservation.ids import SessionId
from serve_app.access.password_hasher import TooManyPasswords
from serve_app.api.account.desk import AccountDesk
from serve_app.api.account.letter_box import LetterBox
from serve_app.api.account.schemas import LOGIN, PASSWORD, REFRESH
from serve_app.api.account.tokens import (
    CHALLENGE,
    admitted,
    client_of,
    device_of,
    find_own,
    session_response,
)
from serve_app.api.edge import idempotency_key_of, json_response
from serve_app.api.instants import write_instant
from serve_app.api.limits import RequestLimits, Rule
from serve_app.api.problems import Problem, problem_of_fault
from serve_app.api.strict_json import read_json, read_nothing, validated

log = logging.getLogger(__name__)

_CURRENT = "current"


class SessionRoutes:
    """The handlers; see the module's docstring."""

    def __init__(self, desk: Callable[[], AccountDesk], limits: RequestLimits) -> None:
        self._desk = desk
        self._limits = limits

    async def log_in(self, request: Request) -> Response:
        body = validated(LOGIN, read_json(request.scope))
        await self._limits.admit(request.scope, Rule.LOGIN, body.email)
        desk = self._desk()
        try:
            # In this order, so that those who wait hold no connection to the database.
            async with desk.hasher.turn() as turn:
                account = await _find(desk, body.email)
                stored = None if account is None else account.password_hash
                verdict = await turn.verify(stored, body.password)
        except TooManyPasswords as refused:
            # Said by the hasher, now and then, for all of them.
            raise problem_of_fault(refused) from None
        if account is None or stored is None or not verdict.is_right:
            raise _login_failed()
        if account.state is not AccountState.ACTIVE:
            raise Problem("account_disabled", "This account has been disabled.")
        if verdict.rehash is not None and await desk.accounts.renew_password_hash(
            account.account_id, stored, verdict.rehash
        ):
            stored = verdict.rehash
        opened = await desk.accounts.open_session(
            account.account_id, device_of(request), desk.now_ms(), password_hash=stored
        )
        if opened is None:
            # Disabled, or given another password, since we looked.
            raise _login_failed()
        return session_response(desk, opened, 201)

    async def refresh(self, request: Request) -> Response:
        key = idempotency_key_of(request.scope)
        body = validated(REFRESH, read_json(request.scope))
        await self._limits.admit(request.scope, Rule.REFRESH, body.refresh_token)
        desk = self._desk()
        rotation = await desk.accounts.rotate_refresh(
            body.refresh_token, desk.now_ms(), client=client_of(request, key)
        )
        if isinstance(rotation, RefreshRefused):
            if rotation is RefreshRefused.REUSED:
                log.warning("a refresh token was used twice: its session is ended")
            raise Problem(
                "refresh_token_invalid",
                "The refresh token is not valid now: log in again.",
                headers=CHALLENGE,
            )
        return session_response(desk, rotation)

    async def list_sessions(self, request: Request) -> Response:
        principal = await admitted(self._limits, request, Rule.READ)
        desk = self._desk()
        rows = await desk.accounts.list_sessions(principal.account_id, desk.now_ms())
        return json_response(
            {
                "sessions": [
                    {
                        "session_id": row.session_id,
                        "is_current": row.session_id == principal.session_id,
                        "device": row.label,
                        "opened_at": write_instant(row.opened_at_ms),
                        "refreshed_at": write_instant(row.refreshed_at_ms),
                        "expires_at": write_instant(row.expires_at_ms),
                    }
                    for row in rows
                ]
            }
        )

    async def log_out(self, request: Request) -> Response:
        principal = await admitted(self._limits, request, Rule.COMMAND)
        read_nothing(request.scope)
        named = request.path_params["session_id"]
        session_id = principal.session_id if named == _CURRENT else SessionId(named)
        ended = await self._desk().accounts.revoke_session(
            session_id, account_id=principal.account_id
        )
        # Leaving a session that has ended already is what was wanted.
        if not ended and session_id != principal.session_id:
            raise Problem("session_not_found", "You have no live session with this id.")
        return Response(status_code=204)

    async def log_out_everywhere(self, request: Request) -> Response:
        principal = await admitted(self._limits, request, Rule.COMMAND)
        read_nothing(request.scope)
        await self._desk().accounts.revoke_all(principal.account_id)
        return Response(status_code=204)

    async def change_password(self, request: Request) -> Response:
        await admitted(self._limits, request, Rule.COMMAND)
        body = validated(PASSWORD, read_json(request.scope))
        desk = self._desk()
        account = await find_own(desk, request)
        # Whoever has a token must not try passwords faster than whoever has none.
        await self._limits.admit(request.scope, Rule.LOGIN, account.email)
        verdict = await desk.hasher.verify(account.password_hash, body.password)
        if not verdict.is_right:
            raise Problem("password_wrong", "This is not the account's password.")
        password_hash = await desk.hasher.hash(body.new_password)
        await desk.accounts.set_password(account.account_id, password_hash)
        LetterBox(desk).post_password_changed(account.email)
        opened = await desk.accounts.open_session(
            account.account_id, device_of(request), desk.now_ms(), password_hash=password_hash
        )
        if opened is None:
            raise _login_failed()
        return session_response(desk, opened)


async def _find(desk: AccountDesk, email: str) -> AccountRow | None:
    # What is no address names nobody; there is no use in telling the two apart.
    return await desk.accounts.find_by_email(email) if is_address(email) else None


def _login_failed() -> Problem:
    return Problem(
        "login_failed", "E-mail address and password do not belong together.", headers=CHALLENGE
    )
