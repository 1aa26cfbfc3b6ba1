"""What OpenAPI says about the account application, and under which address each route is."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from reservation.access import Role
from serve_app.api.account import schemas
from serve_app.api.api_document import Operation, body, header, path, problems
from serve_app.api.principals import PUBLIC, SIGNED_IN

DESCRIPTION = """\
Accounts, sessions, API keys, and the keys by which access tokens can be checked.

Logging in opens a session: an access token that works for ten minutes, and a refresh token that
works once and brings the next pair. Both are in the body of the answer and never in cookies, so
no request carries them unless a client put them there. A refresh token that is shown a second time
is taken for stolen and ends the session. Only a client that asks again within ten seconds, with
the same `Idempotency-Key` or from the same program, is taken for one whose answer got lost.

Nothing tells whether an e-mail address has an account: sign-ups, logins and asking for a new
password are answered alike, after the same work. The rest is in a letter to that address.

An account may log in before its e-mail address is confirmed; `email_verified` says which. Until
then it cannot have API keys.
"""

_ACCOUNT = path("account_id", "acc_7k2m9p4qx0c1b5dn3fg8")
_API_KEY = path("api_key_id", "key_7k2m9p4qx0c1b5dn3fg8")
_SESSION = path("session_id", "current")
_CLIENT_KEY = header(
    "Idempotency-Key",
    "A new one for each refresh, and the same one when it is repeated: then a repetition within "
    "ten seconds is answered like the first time.",
    {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
    required=False,
)

_BODY = ("malformed_json", "invalid_request", "unsupported_media_type")
_STORING = ("not_done", "outcome_unknown")
_ADMINS = frozenset({Role.ADMIN})
_STAFF_OFFICE = frozenset({Role.ADMIN, Role.ORGANISER})


def _found(description: str, model: type[BaseModel], **headers: Any) -> dict[str, Any]:
    response: dict[str, Any] = {"description": description, "model": model}
    if headers:
        response["headers"] = headers
    return response


def _extra(*parameters: Any, request_body: Any = None) -> dict[str, Any]:
    extra: dict[str, Any] = {}
    if parameters:
        extra["parameters"] = list(parameters)
    if request_body is not None:
        extra["requestBody"] = request_body
    return extra


_NOTHING = body(schemas.NothingBody, required=False)

# -- accounts ---------------------------------------------------------------------------

SIGN_UP = Operation(
    "POST",
    "/accounts",
    status=202,
    tag="accounts",
    roles=PUBLIC,
    summary="Open an account",
    description=(
        "The answer is the same whether or not the address has an account already. A letter tells "
        "its owner which, and has the code that confirms the address."
    ),
    responses={
        202: _found("A letter is on its way.", schemas.LetterSent),
        **problems(*_BODY, *_STORING),
    },
    extra=_extra(request_body=body(schemas.SignUpBody)),
)

ASK_FOR_VERIFICATION = Operation(
    "POST",
    "/email-verifications",
    status=202,
    tag="accounts",
    roles=PUBLIC,
    summary="Ask for another letter that confirms an address",
    responses={
        202: _found("A letter is on its way, if one is needed.", schemas.LetterSent),
        **problems(*_BODY, "not_done"),
    },
    extra=_extra(request_body=body(schemas.EmailBody)),
)

VERIFY_EMAIL = Operation(
    "POST",
    "/email-verifications/confirm",
    status=204,
    tag="accounts",
    roles=PUBLIC,
    summary="Confirm an e-mail address",
    responses={
        204: {"description": "The address is confirmed."},
        **problems(*_BODY, "code_not_valid", *_STORING),
    },
    extra=_extra(request_body=body(schemas.CodeBody)),
)

ASK_FOR_RESET = Operation(
    "POST",
    "/password-resets",
    status=202,
    tag="accounts",
    roles=PUBLIC,
    summary="Ask for a letter with which a new password can be chosen",
    responses={
        202: _found("A letter is on its way, if there is an account.", schemas.LetterSent),
        **problems(*_BODY, "not_done"),
    },
    extra=_extra(request_body=body(schemas.EmailBody)),
)

RESET_PASSWORD = Operation(
    "POST",
    "/password-resets/confirm",
    status=204,
    tag="accounts",
    roles=PUBLIC,
    summary="Choose a new password",
    description=(
        "Ends every session of the account. Whoever can read the letter owns the address, so the "
        "address is confirmed, too."
    ),
    responses={
        204: {"description": "The new password works, and nothing else does."},
        **problems(*_BODY, "code_not_valid", *_STORING),
    },
    extra=_extra(request_body=body(schemas.ResetBody)),
)

# -- sessions ---------------------------------------------------------------------------

LOG_IN = Operation(
    "POST",
    "/sessions",
    status=201,
    tag="sessions",
    roles=PUBLIC,
    summary="Log in",
    responses={
        201: _found("A new session.", schemas.SessionView),
        **problems(*_BODY, "login_failed", "account_disabled", *_STORING),
    },
    extra=_extra(request_body=body(schemas.LoginBody)),
    comes_in_crowds=True,
)

REFRESH = Operation(
    "POST",
    "/sessions/refresh",
    tag="sessions",
    roles=PUBLIC,
    summary="Exchange the refresh token for the next pair of tokens",
    responses={
        200: _found("The next pair.", schemas.SessionView),
        **problems(*_BODY, "invalid_header", "refresh_token_invalid", *_STORING),
    },
    extra=_extra(_CLIENT_KEY, request_body=body(schemas.RefreshBody)),
)

LIST_SESSIONS = Operation(
    "GET",
    "/sessions",
    tag="sessions",
    roles=SIGNED_IN,
    summary="Where the account is logged in",
    responses={
        200: _found("All sessions that are alive, the last used first.", schemas.SessionList),
        **problems("not_done"),
    },
    extra=_extra(),
)

LOG_OUT = Operation(
    "DELETE",
    "/sessions/{session_id}",
    status=204,
    tag="sessions",
    roles=SIGNED_IN,
    summary="Log out",
    description=(
        "`current` is the session of the access token that is sent. The session's tokens are "
        "refused everywhere within two seconds."
    ),
    responses={
        204: {"description": "The session is over."},
        **problems(*_BODY, "session_not_found", *_STORING),
    },
    extra=_extra(_SESSION),
)

LOG_OUT_EVERYWHERE = Operation(
    "DELETE",
    "/sessions",
    status=204,
    tag="sessions",
    roles=SIGNED_IN,
    summary="Log out everywhere",
    description="API keys stay, and machines have to exchange theirs again.",
    responses={204: {"description": "Every session is over."}, **problems(*_BODY, *_STORING)},
    extra=_extra(),
)

# -- me ---------------------------------------------------------------------------------

FIND_ME = Operation(
    "GET",
    "/me",
    tag="me",
    roles=SIGNED_IN,
    summary="The account that asks",
    responses={
        200: _found("The account as it is now.", schemas.MeView),
        **problems("account_not_found", "not_done"),
    },
    extra=_extra(),
)

CHANGE_ME = Operation(
    "PATCH",
    "/me",
    tag="me",
    roles=SIGNED_IN,
    summary="Change one's name",
    responses={
        200: _found("The account as it is now.", schemas.MeView),
        **problems(*_BODY, "account_not_found", *_STORING),
    },
    extra=_extra(request_body=body(schemas.MeBody)),
)

CHANGE_PASSWORD = Operation(
    "PUT",
    "/me/password",
    tag="me",
    roles=SIGNED_IN,
    summary="Change one's password",
    description="Ends every session of the account; the answer is a new one.",
    responses={
        200: _found("A new session.", schemas.SessionView),
        **problems(*_BODY, "login_failed", "password_wrong", "account_not_found", *_STORING),
    },
    extra=_extra(request_body=body(schemas.PasswordBody)),
)

# -- API keys ---------------------------------------------------------------------------

LIST_API_KEYS = Operation(
    "GET",
    "/api-keys",
    tag="api keys",
    roles=SIGNED_IN,
    has_query=True,
    summary="The account's API keys",
    description="Those that were deleted or are over are listed for some weeks.",
    responses={
        200: _found("One page.", schemas.ApiKeyList),
        **problems("invalid_request", "not_done"),
    },
    extra=_extra(),
)

CREATE_API_KEY = Operation(
    "POST",
    "/api-keys",
    status=201,
    tag="api keys",
    roles=SIGNED_IN,
    summary="Make an API key for a machine",
    description=(
        "The key is shown in this answer only. If the answer gets lost, delete the key that the "
        "list shows and make another."
    ),
    responses={
        201: _found("The key.", schemas.NewApiKey),
        **problems(
            *_BODY,
            "email_not_verified",
            "role_not_allowed",
            "account_not_found",
            "too_many_api_keys",
            *_STORING,
        ),
    },
    extra=_extra(request_body=body(schemas.NewApiKeyBody)),
)

DELETE_API_KEY = Operation(
    "DELETE",
    "/api-keys/{api_key_id}",
    status=204,
    tag="api keys",
    roles=SIGNED_IN,
    summary="Delete an API key",
    description="Its access tokens are refused everywhere within two seconds.",
    responses={
        204: {"description": "The key works no more."},
        **problems(*_BODY, "api_key_not_found", *_STORING),
    },
    extra=_extra(_API_KEY),
)

EXCHANGE_API_KEY = Operation(
    "POST",
    "/token",
    tag="api keys",
    roles=PUBLIC,
    summary="Exchange an API key for an access token",
    responses={
        200: _found("An access token.", schemas.AccessToken),
        **problems(*_BODY, "api_key_invalid", *_STORING),
    },
    extra=_extra(request_body=body(schemas.ApiKeyBody)),
)

# -- the keys of tokens -----------------------------------------------------------------

PUBLISH_KEYS = Operation(
    "GET",
    "/jwks.json",
    tag="keys",
    roles=PUBLIC,
    summary="The keys by which access tokens can be checked",
    description=(
        "RFC 7517. A new key is published a minute before it signs, and an old one until its last "
        "token is over; whoever caches this as long as the answer says never misses one."
    ),
    responses={
        200: _found(
            "All keys that are alive.",
            schemas.JwksView,
            **{"Cache-Control": {"schema": {"type": "string"}}},
        ),
        **problems("not_done"),
    },
    extra=_extra(),
)

# -- administration ---------------------------------------------------------------------

LIST_ACCOUNTS = Operation(
    "GET",
    "/accounts",
    tag="administration",
    roles=_STAFF_OFFICE,
    has_query=True,
    summary="Accounts: all of them for an admin, the own staff for an organiser",
    responses={
        200: _found("One page.", schemas.AccountList),
        **problems("invalid_request", "not_done"),
    },
    extra=_extra(),
)

SET_ROLE = Operation(
    "PUT",
    "/accounts/{account_id}/role",
    tag="administration",
    roles=_STAFF_OFFICE,
    summary="Give an account a role",
    description=(
        "An admin may give any role. An organiser may make an account gate or box-office staff of "
        "his own tenant, and a customer again. He needs its id: whoever tells it to him agrees. "
        "A change ends every session of the account and deletes its API keys."
    ),
    responses={
        200: _found("The account as it is now.", schemas.AccountView),
        **problems(*_BODY, "account_not_found", "tenant_not_found", "own_account", *_STORING),
    },
    extra=_extra(_ACCOUNT, request_body=body(schemas.RoleBody)),
)

DISABLE = Operation(
    "POST",
    "/accounts/{account_id}/disable",
    tag="administration",
    roles=_ADMINS,
    summary="Lock an account out",
    responses={
        200: _found("The account as it is now.", schemas.AccountView),
        **problems(*_BODY, "account_not_found", "own_account", *_STORING),
    },
    extra=_extra(_ACCOUNT, request_body=_NOTHING),
)

ENABLE = Operation(
    "POST",
    "/accounts/{account_id}/enable",
    tag="administration",
    roles=_ADMINS,
    summary="Let an account in again",
    responses={
        200: _found("The account as it is now.", schemas.AccountView),
        **problems(*_BODY, "account_not_found", "own_account", *_STORING),
    },
    extra=_extra(_ACCOUNT, request_body=_NOTHING),
)

LIST_TENANTS = Operation(
    "GET",
    "/tenants",
    tag="administration",
    roles=_ADMINS,
    has_query=True,
    summary="All tenants",
    responses={
        200: _found("One page.", schemas.TenantList),
        **problems("invalid_request", "not_done"),
    },
    extra=_extra(),
)

CREATE_TENANT = Operation(
    "POST",
    "/tenants",
    status=201,
    tag="administration",
    roles=_ADMINS,
    summary="Make a tenant",
    description="A repetition makes another one: after a lost answer, look at the list first.",
    responses={
        201: _found("The tenant.", schemas.TenantView),
        **problems(*_BODY, *_STORING),
    },
    extra=_extra(request_body=body(schemas.NewTenantBody)),
)

MODELS: tuple[type[BaseModel], ...] = (
    schemas.SignUpBody,
    schemas.EmailBody,
    schemas.CodeBody,
    schemas.ResetBody,
    schemas.LoginBody,
    schemas.RefreshBody,
    schemas.MeBody,
    schemas.PasswordBody,
    schemas.NewApiKeyBody,
    schemas.ApiKeyBody,
    schemas.RoleBody,
    schemas.NewTenantBody,
    schemas.NothingBody,
    schemas.LetterSent,
    schemas.AccessToken,
    schemas.SessionView,
    schemas.SessionList,
    schemas.MeView,
    schemas.ApiKeyView,
    schemas.ApiKeyList,
    schemas.NewApiKey,
    schemas.AccountView,
    schemas.AccountList,
    schemas.TenantView,
    schemas.TenantList,
    schemas.JwkView,
    schemas.JwksView,
)
