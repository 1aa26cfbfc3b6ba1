"""The account application: routes and handlers put together.

Two routes are public and cost a password hash, several lead to letters; all of them are throttled
before that (``limits``). Everything else is for whoever shows an access token.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager

from fastapi import Request
from starlette.responses import Response

from serve_app.access.key_ring import jwks
from serve_app.api.account import document
from serve_app.api.account.administration import AdministrationRoutes
from serve_app.api.account.desk import AccountDesk
from serve_app.api.account.joining import JoiningRoutes
from serve_app.api.account.me import MeRoutes
from serve_app.api.account.sessions import SessionRoutes
from serve_app.api.api_document import describe
from serve_app.api.edge import Opened, json_response, make_api
from serve_app.api.limits import RequestLimits
from serve_app.api.principals import Gate
from serve_app.api.problems import Problem
from serve_app.api.short_way import Api

KEYS_KEPT_S = 30
"""How long others may keep the keys: half of the time between publishing one and signing."""

_KEPT = {"Cache-Control": f"public, max-age={KEYS_KEPT_S}"}


def build_account_api(
    open_desk: Callable[[], AbstractAsyncContextManager[AccountDesk]],
    *,
    gate: Gate,
    body_bytes_max: int,
    limits: RequestLimits | None = None,
    cors_origins: Sequence[str] = (),
) -> Api:
    """The account application as plain ASGI, without Ray.

    See ``edge.make_api`` for ``open_desk``, ``limits`` and ``cors_origins``.
    """
    opened = Opened()
    app = make_api(
        opened,
        open_desk,
        title="Housefull accounts",
        summary="Sign up, log in, make API keys, look after accounts.",
        description=document.DESCRIPTION,
        body_bytes_max=body_bytes_max,
        limits=limits,
        cors_origins=cors_origins,
    )
    _add_routes(app, opened, gate, limits or RequestLimits.off())
    describe(app, document.MODELS)
    return app


def _add_routes(app: Api, opened: Opened, gate: Gate, limits: RequestLimits) -> None:
    def desk_of() -> AccountDesk:
        desk: AccountDesk | None = opened.desk
        if desk is None:
            raise Problem("not_done", "The application is starting or stopping.")
        return desk

    async def publish_keys(request: Request) -> Response:
        keys = desk_of().public_keys()
        if not keys:
            raise Problem("not_done", "The keys are not known yet.")
        return json_response(jwks(keys), headers=_KEPT)

    joining = JoiningRoutes(desk_of, limits)
    sessions = SessionRoutes(desk_of, limits)
    me = MeRoutes(desk_of, limits)
    administration = AdministrationRoutes(desk_of, limits)
    for operation, handler in (
        (document.SIGN_UP, joining.sign_up),
        (document.ASK_FOR_VERIFICATION, joining.ask_for_verification),
        (document.VERIFY_EMAIL, joining.verify_email),
        (document.ASK_FOR_RESET, joining.ask_for_reset),
        (document.RESET_PASSWORD, joining.reset_password),
        (document.LOG_IN, sessions.log_in),
        (document.REFRESH, sessions.refresh),
        (document.LIST_SESSIONS, sessions.list_sessions),
        (document.LOG_OUT, sessions.log_out),
        (document.LOG_OUT_EVERYWHERE, sessions.log_out_everywhere),
        (document.FIND_ME, me.find_me),
        (document.CHANGE_ME, me.change_me),
        (document.CHANGE_PASSWORD, sessions.change_password),
        (document.LIST_API_KEYS, me.list_api_keys),
        (document.CREATE_API_KEY, me.create_api_key),
        (document.DELETE_API_KEY, me.delete_api_key),
        (document.EXCHANGE_API_KEY, me.exchange_api_key),
        (document.PUBLISH_KEYS, publish_keys),
        (document.LIST_ACCOUNTS, administration.list_accounts),
        (document.SET_ROLE, administration.set_role),
        (document.DISABLE, administration.disable),
        (document.ENABLE, administration.enable),
        (document.LIST_TENANTS, administration.list_tenants),
        (document.CREATE_TENANT, administration.create_tenant),
    ):
        operation.add_to(app, handler, gate)
