"""Opening an account, confirming its e-mail address, and getting back in without a password.

None of these routes tells whether an address has an account. Signing up does the same work for a
known address and an unknown one: a hash, and one attempt to store it. For the others, whoever
asks is answered before anybody looks.
"""

from __future__ import annotations

from collections.abc import Callable

from fastapi import Request
from starlette.responses import Response

from serve_app.api.account.codes import digest_of
from serve_app.api.account.desk import AccountDesk
from serve_app.api.account.letter_box import LetterBox
from serve_app.api.account.schemas import CODE, EMAIL, RESET, SIGN_UP
from serve_app.api.edge import json_response
from serve_app.api.limits import RequestLimits, Rule
from serve_app.api.problems import Problem, bad_field
from serve_app.api.strict_json import read_json, validated


class JoiningRoutes:
    """The handlers; see the module's docstring."""

    def __init__(self, desk: Callable[[], AccountDesk], limits: RequestLimits) -> None:
        self._desk = desk
        self._limits = limits

    async def sign_up(self, request: Request) -> Response:
        body = validated(SIGN_UP, read_json(request.scope))
        if body.password.casefold() == body.email.casefold():
            raise bad_field("password", "must not be the e-mail address")
        await self._limits.admit(request.scope, Rule.SIGN_UP, body.email)
        desk = self._desk()
        password_hash = await desk.hasher.hash(body.password)
        account_id = await desk.accounts.sign_up(
            body.email, password_hash, body.name, desk.now_ms()
        )
        LetterBox(desk).post_after_sign_up(body.email, is_new=account_id is not None)
        return _letter_sent()

    async def ask_for_verification(self, request: Request) -> Response:
        body = validated(EMAIL, read_json(request.scope))
        await self._limits.admit(request.scope, Rule.MAIL, body.email)
        LetterBox(self._desk()).post_verification(body.email)
        return _letter_sent()

    async def verify_email(self, request: Request) -> Response:
        body = validated(CODE, read_json(request.scope))
        await self._limits.admit(request.scope, Rule.TOKEN_USE, body.code)
        desk = self._desk()
        if await desk.accounts.confirm_email(digest_of(body.code), desk.now_ms()) is None:
            raise _code_not_valid()
        return Response(status_code=204)

    async def ask_for_reset(self, request: Request) -> Response:
        body = validated(EMAIL, read_json(request.scope))
        await self._limits.admit(request.scope, Rule.MAIL, body.email)
        LetterBox(self._desk()).post_reset(body.email)
        return _letter_sent()

    async def reset_password(self, request: Request) -> Response:
        body = validated(RESET, read_json(request.scope))
        await self._limits.admit(request.scope, Rule.TOKEN_USE, body.code)
        desk = self._desk()
        # Before the code is used: a full line of hashes must not cost anybody his code.
        password_hash = await desk.hasher.hash(body.password)
        account_id = await desk.accounts.reset_password(
            digest_of(body.code), password_hash, desk.now_ms()
        )
        if account_id is None:
            raise _code_not_valid()
        account = await desk.accounts.find(account_id)
        if account is not None:
            LetterBox(desk).post_password_changed(account.email)
        return Response(status_code=204)


def _letter_sent() -> Response:
    return json_response({"status": "letter_sent"}, 202)


def _code_not_valid() -> Problem:
    return Problem("code_not_valid", "The code is over, was used, or is none: ask for another.")
