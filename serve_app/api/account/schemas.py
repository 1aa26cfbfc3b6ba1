"""The bodies of the account application: what it takes (checked) and what it gives (described).

Requests are validated strictly and a member that is not known is refused. So nobody gives himself
a role, an id or a state by naming it.
"""

from __future__ import annotations

import unicodedata
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter
from pydantic_core import PydanticCustomError

from integrations.mail.mailbox import ADDRESS_LENGTH_MAX, is_address
from reservation.access import Role
from reservation.ids import is_account_id, is_tenant_id
from serve_app.access.password_hasher import PASSWORD_LENGTH_MAX
from serve_app.api.instants import Instant
from serve_app.api.query_fields import CursorText, InstantMs, Limit

PASSWORD_LENGTH_MIN = 10
"""Characters. What makes a password strong is its length; nothing else is asked for."""

PASSWORD_LETTERS_MIN = 5
NAME_LENGTH_MAX = 100
CODE_LENGTH_MAX = 100

_EXAMPLE_ACCOUNT = "acc_7k2m9p4qx0c1b5dn3fg8"
_EXAMPLE_TENANT = "tnt_7k2m9p4qx0c1b5dn3fg8"
_EXAMPLE_KEY = "key_7k2m9p4qx0c1b5dn3fg8"
_EXAMPLE_EMAIL = "ada@customer.example"

# Control characters, what changes the direction of writing, and halves of characters.
_NOT_TEXT = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def _check_address(text: str) -> str:
    if not is_address(text):
        raise PydanticCustomError("address", "must be an e-mail address (ASCII)")
    return text


def _check_name(text: str) -> str:
    if not text.strip():
        raise PydanticCustomError("name", "must not be empty")
    # Joiners belong to the spelling of names in several scripts, and to emoji.
    if any(
        unicodedata.category(letter) in _NOT_TEXT for letter in text if letter not in "\u200c\u200d"
    ):
        raise PydanticCustomError("name", "must be text on one line")
    return text.strip()


def _check_password(text: str) -> str:
    if len(set(text)) < PASSWORD_LETTERS_MIN:
        raise PydanticCustomError(
            "password", f"must have at least {PASSWORD_LETTERS_MIN} different characters"
        )
    return text


def _check_account_id(text: str) -> str:
    if not is_account_id(text):
        raise PydanticCustomError("account_id", "must be the id of an account")
    return text


def _check_tenant_id(text: str) -> str:
    if not is_tenant_id(text):
        raise PydanticCustomError("tenant_id", "must be the id of a tenant")
    return text


Email = Annotated[
    str,
    Field(max_length=ADDRESS_LENGTH_MAX, examples=[_EXAMPLE_EMAIL]),
    AfterValidator(_check_address),
]
NewPassword = Annotated[
    str,
    Field(min_length=PASSWORD_LENGTH_MIN, max_length=PASSWORD_LENGTH_MAX),
    AfterValidator(_check_password),
]
GivenPassword = Annotated[str, Field(max_length=PASSWORD_LENGTH_MAX)]
Name = Annotated[
    str,
    Field(min_length=1, max_length=NAME_LENGTH_MAX, examples=["Ada"]),
    AfterValidator(_check_name),
]
Code = Annotated[
    str, Field(min_length=1, max_length=CODE_LENGTH_MAX, description="From the letter.")
]
RoleName = Literal["customer", "organiser", "gate", "box_office", "admin"]
TenantIdText = Annotated[
    str,
    Field(max_length=50, examples=[_EXAMPLE_TENANT]),
    AfterValidator(_check_tenant_id),
]
AccountIdView = Annotated[str, Field(pattern="^acc_", examples=[_EXAMPLE_ACCOUNT])]
TenantIdView = Annotated[str, Field(pattern="^tnt_", examples=[_EXAMPLE_TENANT])]
ApiKeyIdView = Annotated[str, Field(pattern="^key_", examples=[_EXAMPLE_KEY])]

assert {role.value for role in Role} == set(RoleName.__args__)  # type: ignore[attr-defined]


class _RequestBody(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class _View(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class SignUpBody(_RequestBody):
    """Who wants an account."""

    email: Email
    password: NewPassword
    name: Name


class EmailBody(_RequestBody):
    """Whom to write to."""

    email: Email


class CodeBody(_RequestBody):
    """A code from a letter."""

    code: Code


class ResetBody(_RequestBody):
    """A code from a letter, and what the password is from now on."""

    code: Code
    password: NewPassword


class LoginBody(_RequestBody):
    """Who wants to come in."""

    email: Annotated[str, Field(max_length=ADDRESS_LENGTH_MAX, examples=[_EXAMPLE_EMAIL])]
    password: GivenPassword


class RefreshBody(_RequestBody):
    """The refresh token that came last."""

    refresh_token: Annotated[str, Field(min_length=1, max_length=500)]


class PasswordBody(_RequestBody):
    """The password as it is, and as it shall be."""

    password: GivenPassword
    new_password: NewPassword


class MeBody(_RequestBody):
    """What to change about oneself."""

    name: Name


class NewApiKeyBody(_RequestBody):
    """What a key is for."""

    name: Name
    role: Annotated[
        RoleName | None, Field(description="Not above one's own; one's own if absent.")
    ] = None
    expires_at: Annotated[
        InstantMs | None, Field(description="Absent: it works until it is deleted.")
    ] = None


class ApiKeyBody(_RequestBody):
    """A key, to be exchanged for an access token."""

    api_key: Annotated[str, Field(min_length=1, max_length=200, examples=["hfk_..."])]


class RoleBody(_RequestBody):
    """What an account may do from now on."""

    role: RoleName
    tenant_id: Annotated[
        TenantIdText | None,
        Field(description="For organiser, gate and box_office. An organiser's is his own."),
    ] = None


class NewTenantBody(_RequestBody):
    """A new organiser's house."""

    name: Name


class NothingBody(_RequestBody):
    """No body is needed; an empty object is accepted."""


SIGN_UP: TypeAdapter[SignUpBody] = TypeAdapter(SignUpBody)
EMAIL: TypeAdapter[EmailBody] = TypeAdapter(EmailBody)
CODE: TypeAdapter[CodeBody] = TypeAdapter(CodeBody)
RESET: TypeAdapter[ResetBody] = TypeAdapter(ResetBody)
LOGIN: TypeAdapter[LoginBody] = TypeAdapter(LoginBody)
REFRESH: TypeAdapter[RefreshBody] = TypeAdapter(RefreshBody)
PASSWORD: TypeAdapter[PasswordBody] = TypeAdapter(PasswordBody)
ME: TypeAdapter[MeBody] = TypeAdapter(MeBody)
NEW_API_KEY: TypeAdapter[NewApiKeyBody] = TypeAdapter(NewApiKeyBody)
API_KEY: TypeAdapter[ApiKeyBody] = TypeAdapter(ApiKeyBody)
ROLE: TypeAdapter[RoleBody] = TypeAdapter(RoleBody)
NEW_TENANT: TypeAdapter[NewTenantBody] = TypeAdapter(NewTenantBody)


class LetterSent(_View):
    """A letter is on its way, if there is anybody to write to. Nothing else is said."""

    status: Literal["letter_sent"]


class AccessToken(_View):
    """An access token, to be sent as `Authorization: Bearer ...`."""

    access_token: str
    token_type: Literal["Bearer"]
    expires_in: Annotated[int, Field(ge=1, description="Seconds.")]


class SessionView(AccessToken):
    """A session, as logging in and refreshing answer it.

    The refresh token works once: the answer to its use has the next one.
    """

    model_config = ConfigDict(title="Session")

    refresh_token: str
    refresh_expires_at: Instant


class LiveSession(_View):
    """Somewhere where the account is logged in."""

    session_id: Annotated[str, Field(pattern="^ses_", examples=["ses_7k2m9p4qx0c1b5dn3fg8"])]
    is_current: Annotated[bool, Field(description="The one that asks.")]
    device: Annotated[str, Field(description="As the program named itself when it logged in.")]
    opened_at: Instant
    refreshed_at: Instant
    expires_at: Instant


class SessionList(_View):
    """The account's sessions; there are never more than one page."""

    sessions: list[LiveSession]


class MeView(_View):
    """The account that asks, with the role that its access token has."""

    model_config = ConfigDict(title="Me")

    account_id: AccountIdView
    email: str
    email_verified: bool
    name: str
    role: RoleName
    tenant_id: TenantIdView | None = None
    created_at: Instant


class ApiKeyView(_View):
    """An API key, without the key itself."""

    model_config = ConfigDict(title="ApiKey")

    api_key_id: ApiKeyIdView
    name: str
    role: RoleName
    created_at: Instant
    expires_at: Instant | None = None
    last_used_at: Instant | None = None
    deleted_at: Instant | None = None


class ApiKeyList(_View):
    """One page of the keys of the account that asks."""

    api_keys: list[ApiKeyView]
    next: Annotated[
        str | None, Field(description="`cursor` of the next page; absent on the last one.")
    ] = None


class NewApiKey(ApiKeyView):
    """A key that was just made. It is shown this once and never again."""

    model_config = ConfigDict(title="NewApiKey")

    api_key: Annotated[str, Field(pattern="^hfk_")]


class AccountView(_View):
    """An account, as those who look after accounts see it."""

    model_config = ConfigDict(title="Account")

    account_id: AccountIdView
    email: str
    email_verified: bool
    name: str
    role: RoleName
    tenant_id: TenantIdView | None = None
    state: Literal["active", "disabled"]
    created_at: Instant


class AccountList(_View):
    """One page of accounts."""

    accounts: list[AccountView]
    next: Annotated[
        str | None, Field(description="`cursor` of the next page; absent on the last one.")
    ] = None


class TenantView(_View):
    """An organiser's house."""

    model_config = ConfigDict(title="Tenant")

    tenant_id: TenantIdView
    name: str
    created_at: Instant


class TenantList(_View):
    """One page of tenants."""

    tenants: list[TenantView]
    next: Annotated[
        str | None, Field(description="`cursor` of the next page; absent on the last one.")
    ] = None


class JwkView(_View):
    """One key by which access tokens can be checked."""

    model_config = ConfigDict(title="Jwk")

    kty: Literal["OKP"]
    crv: Literal["Ed25519"]
    x: str
    kid: str
    use: Literal["sig"]
    alg: Literal["EdDSA"]


class JwksView(_View):
    """Keys by which access tokens can be checked: those that sign now, will, or did."""

    model_config = ConfigDict(title="Jwks")

    keys: list[JwkView]


class AccountsQuery(BaseModel):
    """Which accounts."""

    model_config = ConfigDict(extra="forbid")

    email: Annotated[
        str | None,
        Field(
            max_length=ADDRESS_LENGTH_MAX,
            description="How the e-mail address begins. For admins only.",
        ),
    ] = None
    limit: Limit = 20
    cursor: CursorText | None = None


class PageQuery(BaseModel):
    """Which page of a list."""

    model_config = ConfigDict(extra="forbid")

    limit: Limit = 20
    cursor: CursorText | None = None
