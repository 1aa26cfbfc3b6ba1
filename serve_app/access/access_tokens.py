"""Access tokens: made by the account application, checked by everybody without asking anybody.

An access token is a JWT (RFC 9068) signed with Ed25519. It says who is asking and lives for ten
minutes. The rules of RFC 8725 are kept by accepting one form and nothing else:

* The header has exactly ``alg`` ``typ`` ``kid``. ``alg`` is EdDSA and is never followed; ``kid``
  is looked up in a dictionary. Whatever else a header may carry (``jku`` ``x5u`` ``jwk`` ``crit``)
  is refused because it is there.
* Every claim has one type, no number is a string or a fraction, and no claim is missing.
* Each part is written in the one way that base 64 has for it, so a token has one spelling.

A signature costs more to check than a hold costs to decide. So tokens that were found good are
kept by their bytes, as many as fit, and only what changes is looked at again: whether the token
is over, and whether its session was revoked.

Why a token is refused is for the log and for tests. Clients are told one thing only.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import re
import secrets
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, NamedTuple

import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from jwt import PyJWS

from reservation.access import Principal, Role, fits_tenant
from reservation.faults import NotDone
from reservation.ids import (
    AccountId,
    SessionId,
    TenantId,
    is_account_id,
    is_session_id,
    is_tenant_id,
)
from serve_app.access.key_ring import (
    ALGORITHM,
    PublicKey,
    SigningKey,
    private_key_of,
    public_key_of,
)

ISSUER = "housefull"
AUDIENCE = "housefull-api"
TYPE = "at+jwt"

LIFETIME_S = 600
"""Of a token. Also how long a revoked session must be remembered, so no token may live longer."""

LEEWAY_S = 60
"""For clocks that disagree about when a token began. About its end nobody is generous."""

TOKEN_BYTES_MAX = 4_096
TOKENS_KEPT_MAX = 10_000
"""About 10 MB in each replica. Whoever has more customers than that asking within ten minutes
checks some signatures again."""

_REVOCATION_REMEMBERED_S = LIFETIME_S + LEEWAY_S
_SIGNATURE_LETTERS = 86  # 64 bytes.
_FORM = re.compile(rb"([\w-]+)\.([\w-]+)\.([\w-]{%d})" % _SIGNATURE_LETTERS)
_HEADER_MEMBERS = frozenset({"alg", "typ", "kid"})
_ROLES = {role.value: role for role in Role}
_SIGNATURES = PyJWS(algorithms=[ALGORITHM])
_ALGORITHM = _SIGNATURES.get_algorithm_by_name(ALGORITHM)


class NoSigningKey(NotDone):
    """There is no key yet that may sign."""


class KeysUnknown(NotDone):
    """This process has not yet learned by which keys tokens are checked."""


class Refusal(StrEnum):
    """Why a token is not accepted."""

    MALFORMED = "malformed"
    HEADER = "header"
    UNKNOWN_KEY = "unknown_key"
    SIGNATURE = "signature"
    CLAIMS = "claims"
    NOT_YET = "not_yet"
    OVER = "over"
    REVOKED = "revoked"


class TokenRefused(Exception):
    """A token is not accepted. ``reason`` is for the log, and for nobody outside."""

    def __init__(self, reason: Refusal) -> None:
        super().__init__(reason.value)
        self.reason = reason


class TokenIssuer:
    """Makes access tokens. Only the account application has what it takes."""

    def __init__(self, keys: Iterable[SigningKey] = ()) -> None:
        self._keys: list[tuple[SigningKey, Ed25519PrivateKey]] = []
        self.replace(keys)

    def replace(self, keys: Iterable[SigningKey]) -> None:
        """Sign with these keys from now on: the newest of those whose time has come.

        Raises:
            ValueError: a key cannot be used; the ones before stay.
        """
        pairs = [(key, private_key_of(key)) for key in keys]
        self._keys = sorted(pairs, key=lambda pair: pair[0].signs_from_s, reverse=True)

    def issue(self, principal: Principal, now_s: int) -> str:
        """A token that says for ten minutes who this is.

        Raises:
            NoSigningKey: there is none whose time has come.
        """
        for key, private in self._keys:
            if key.signs_from_s <= now_s:
                return _sign(_claims_of(principal, now_s), key.kid, private)
        raise NoSigningKey("no key may sign access tokens yet")


def _claims_of(principal: Principal, now_s: int) -> dict[str, object]:
    claims: dict[str, object] = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": principal.account_id,
        "iat": now_s,
        "nbf": now_s,
        "exp": now_s + LIFETIME_S,
        "jti": secrets.token_urlsafe(12),
        "sid": principal.session_id,
        "role": principal.role.value,
    }
    if principal.tenant_id is not None:
        claims["tenant"] = principal.tenant_id
    return claims


def _sign(claims: dict[str, object], kid: str, private: Ed25519PrivateKey) -> str:
    payload = orjson.dumps(claims)
    return _SIGNATURES.encode(payload, private, ALGORITHM, {"typ": TYPE, "kid": kid})


class _Kept(NamedTuple):
    principal: Principal
    expires_at_s: int


class TokenVerifier:
    """Says whom a token speaks for. Knows keys and revocations only as far as it was told.

    Belongs to one event loop. It is told by ``access_watch.AccessWatch``.
    """

    def __init__(self, *, tokens_kept_max: int = TOKENS_KEPT_MAX) -> None:
        assert tokens_kept_max > 0
        self._tokens_kept_max = tokens_kept_max
        self._keys: dict[str, tuple[PublicKey, Ed25519PublicKey]] = {}
        self._kept: OrderedDict[bytes, _Kept] = OrderedDict()
        self._revoked: OrderedDict[SessionId, float] = OrderedDict()
        self._is_informed = False
        # Set for whoever reads keys; nothing here waits for it.
        self.met_unknown_key = asyncio.Event()

    # -- what it is told ----------------------------------------------------------------

    def use_keys(self, keys: Iterable[PublicKey]) -> None:
        """Accept the signatures of these keys, and of no others.

        Raises:
            ValueError: a key cannot be used; the ones before stay.
        """
        ready = {key.kid: (key, public_key_of(key)) for key in keys}
        if any(ready.get(kid, (None,))[0] != key for kid, (key, _) in self._keys.items()):
            # A key was taken away, and some of the tokens kept here are its own. It is rare.
            self._kept.clear()
        self._keys = ready

    def revoke(self, sessions: Iterable[SessionId], now_s: float) -> None:
        """Refuse the tokens of these sessions. To be called once, also with none, at the start."""
        revoked = self._revoked
        for session_id in sessions:
            revoked[session_id] = now_s
            revoked.move_to_end(session_id)
        # A token that was issued before this is over by now, whatever becomes of its session.
        while revoked and next(iter(revoked.values())) < now_s - _REVOCATION_REMEMBERED_S:
            revoked.popitem(last=False)
        self._is_informed = True

    def check_informed(self) -> None:
        """Check that tokens can be told from each other by now.

        Raises:
            KeysUnknown: keys or revocations were never learned.
        """
        if not self._keys or not self._is_informed:
            raise KeysUnknown("the keys of access tokens are not known yet")

    # -- what it is asked ---------------------------------------------------------------

    def verify(self, token: bytes, now_s: float) -> Principal:
        """Whom this token speaks for.

        Raises:
            TokenRefused: nobody.
            KeysUnknown: keys or revocations were never learned.
        """
        kept = self._kept.get(token)
        if kept is None:
            return self._verify_anew(token, now_s)
        if kept.expires_at_s <= now_s or kept.principal.session_id in self._revoked:
            del self._kept[token]
            over = kept.expires_at_s <= now_s
            raise TokenRefused(Refusal.OVER if over else Refusal.REVOKED)
        self._kept.move_to_end(token)
        return kept.principal

    def _verify_anew(self, token: bytes, now_s: float) -> Principal:
        self.check_informed()
        form = _FORM.fullmatch(token) if len(token) <= TOKEN_BYTES_MAX else None
        if form is None:
            raise TokenRefused(Refusal.MALFORMED)
        header, payload, signature = [_octets(part) for part in form.groups()]
        key = self._key_of(_members(header, Refusal.HEADER))
        # What the library would take apart once more has been taken apart here, more strictly.
        if not _ALGORITHM.verify(token[: -_SIGNATURE_LETTERS - 1], key, signature):
            raise TokenRefused(Refusal.SIGNATURE)
        kept = _kept_of(_members(payload, Refusal.CLAIMS), now_s)
        if kept.principal.session_id in self._revoked:
            raise TokenRefused(Refusal.REVOKED)
        self._kept[token] = kept
        if len(self._kept) > self._tokens_kept_max:
            self._kept.popitem(last=False)
        return kept.principal

    def _key_of(self, header: dict[str, Any]) -> Ed25519PublicKey:
        kid = header.get("kid")
        if header.keys() != _HEADER_MEMBERS or not isinstance(kid, str):
            raise TokenRefused(Refusal.HEADER)
        if header["alg"] != ALGORITHM or header["typ"] != TYPE:
            raise TokenRefused(Refusal.HEADER)
        found = self._keys.get(kid)
        if found is None:
            self.met_unknown_key.set()
            raise TokenRefused(Refusal.UNKNOWN_KEY)
        return found[1]


def _octets(part: bytes) -> bytes:
    """What a part of a token says, if it is written in the only way that there is."""
    try:
        octets = base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4))
    except binascii.Error:
        raise TokenRefused(Refusal.MALFORMED) from None
    # The last letter has bits that count for nothing; a second spelling would pass with them.
    if base64.urlsafe_b64encode(octets).rstrip(b"=") != part:
        raise TokenRefused(Refusal.MALFORMED)
    return octets


def _members(octets: bytes, refusal: Refusal) -> dict[str, Any]:
    try:
        members = json.loads(octets, object_pairs_hook=_once_each, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise TokenRefused(refusal) from None
    if not isinstance(members, dict):
        raise TokenRefused(refusal)
    return members


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name appears twice")
    return members


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is no number")


def _kept_of(claims: Mapping[str, Any], now_s: float) -> _Kept:
    """What the claims of a token say that was signed by us, if they say it now."""
    if claims.get("iss") != ISSUER or claims.get("aud") != AUDIENCE:
        raise TokenRefused(Refusal.CLAIMS)
    issued_at_s, begins_at_s, expires_at_s = [
        _instant_of(claims.get(name)) for name in ("iat", "nbf", "exp")
    ]
    if not 0 < expires_at_s - issued_at_s <= LIFETIME_S:
        raise TokenRefused(Refusal.CLAIMS)
    principal = _principal_of(claims)
    if max(issued_at_s, begins_at_s) > now_s + LEEWAY_S:
        raise TokenRefused(Refusal.NOT_YET)
    if expires_at_s <= now_s:
        raise TokenRefused(Refusal.OVER)
    return _Kept(principal, expires_at_s)


def _instant_of(claim: object) -> int:
    # True is a number to Python, and 1e300 a valid one to JSON.
    if type(claim) is not int:
        raise TokenRefused(Refusal.CLAIMS)
    return claim


def _principal_of(claims: Mapping[str, Any]) -> Principal:
    account_id, session_id, name = claims.get("sub"), claims.get("sid"), claims.get("jti")
    role, tenant_id = claims.get("role"), claims.get("tenant")
    if not (
        isinstance(account_id, str)
        and is_account_id(account_id)
        and isinstance(session_id, str)
        and is_session_id(session_id)
        and isinstance(name, str)
        and name
        and isinstance(role, str)
        and role in _ROLES
    ):
        raise TokenRefused(Refusal.CLAIMS)
    tenant: TenantId | None = None
    if "tenant" in claims:
        if not isinstance(tenant_id, str) or not is_tenant_id(tenant_id):
            raise TokenRefused(Refusal.CLAIMS)
        tenant = TenantId(tenant_id)
    if not fits_tenant(_ROLES[role], tenant):
        raise TokenRefused(Refusal.CLAIMS)
    return Principal(AccountId(account_id), _ROLES[role], tenant, SessionId(session_id))
