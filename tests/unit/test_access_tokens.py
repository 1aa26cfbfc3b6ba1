"""Forged, spoilt and outdated access tokens: each is refused, and all are answered alike."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from starlette.types import Scope

from reservation.access import HOUSE_TENANT, Principal, Role
from reservation.ids import SessionId
from serve_app.access.access_tokens import (
    LEEWAY_S,
    LIFETIME_S,
    TOKEN_BYTES_MAX,
    KeysUnknown,
    NoSigningKey,
    Refusal,
    TokenIssuer,
    TokenRefused,
    TokenVerifier,
)
from serve_app.access.key_ring import (
    PublicKey,
    SigningKey,
    base64url,
    jwks,
    kid_of,
    new_signing_key,
    private_key_of,
    public_key_of,
)
from serve_app.api.principals import SIGNED_IN, Gate
from serve_app.api.problems import Problem
from tests.support.access import principal_named

NOW_S = 1_790_000_000
KEY = new_signing_key()
ANN = principal_named("ann", Role.BOX_OFFICE)
HEADER = {"alg": "EdDSA", "typ": "at+jwt", "kid": KEY.kid}

Change = Callable[[dict[str, Any]], None]


def verifier_of(*keys: SigningKey, tokens_kept_max: int = 100) -> TokenVerifier:
    verifier = TokenVerifier(tokens_kept_max=tokens_kept_max)
    verifier.use_keys([key.public for key in keys])
    verifier.revoke([], NOW_S)
    return verifier


def claims(**changes: Any) -> dict[str, Any]:
    """Claims that are good; a change to None takes one away."""
    good = {
        "iss": "housefull",
        "aud": "housefull-api",
        "sub": ANN.account_id,
        "iat": NOW_S,
        "nbf": NOW_S,
        "exp": NOW_S + LIFETIME_S,
        "jti": "a-name-of-its-own",
        "sid": ANN.session_id,
        "role": "box_office",
        "tenant": HOUSE_TENANT,
    }
    return {name: value for name, value in (good | changes).items() if value is not None}


def part(value: object) -> str:
    return base64url(value if isinstance(value, bytes) else json.dumps(value).encode())


def signed(header: object, payload: object, key: SigningKey = KEY) -> str:
    """A token with a true signature over whatever this is."""
    told = f"{part(header)}.{part(payload)}"
    return f"{told}.{base64url(private_key_of(key).sign(told.encode()))}"


def hmac_with_public_key(secret: bytes, header: dict[str, Any] | None = None) -> str:
    told = f"{part(header or HEADER | {'alg': 'HS256'})}.{part(claims())}"
    return f"{told}.{base64url(hmac.new(secret, told.encode(), hashlib.sha256).digest())}"


def es256(signature: bytes | None = None) -> str:
    told = f"{part(HEADER | {'alg': 'ES256'})}.{part(claims())}"
    if signature is None:
        signature = ec.generate_private_key(ec.SECP256R1()).sign(
            told.encode(), ec.ECDSA(_sha256())
        )[:64]
    return f"{told}.{base64url(signature)}"


def _sha256() -> Any:
    from cryptography.hazmat.primitives.hashes import SHA256

    return SHA256()


GOOD = signed(HEADER, claims())
_TOLD, _, _SIGNATURE = GOOD.rpartition(".")
_STRANGER = new_signing_key()
_NO_NAMES: list[Any] = [[KEY.kid], None, 0, {}]
_PUBLIC_PEM = public_key_of(KEY.public).public_bytes(
    Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
)


def other_spelling(token: str) -> str:
    """The same octets of the signature, written with other idle bits at their end."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    last = letters.index(token[-1])
    return token[:-1] + letters[last ^ 1]


def edited(name: str, value: object) -> str:
    """The signature of a good token under other claims."""
    return f"{part(HEADER)}.{part(claims(**{name: value}))}.{_SIGNATURE}"


FORGED: dict[str, tuple[str | bytes, Refusal]] = {
    "alg none": (f"{part(HEADER | {'alg': 'none'})}.{part(claims())}.", Refusal.MALFORMED),
    **{
        f"alg {alg!r} with a signature": (signed(HEADER | {"alg": alg}, claims()), Refusal.HEADER)
        for alg in ("none", "None", "nOnE", "", "eddsa", "Ed25519", "HS256", "ES256", ["EdDSA"])
    },
    "alg missing": (signed({"typ": "at+jwt", "kid": KEY.kid}, claims()), Refusal.HEADER),
    "HS256 keyed with the public bytes": (hmac_with_public_key(KEY.public_raw), Refusal.MALFORMED),
    "HS256 keyed with the public PEM": (hmac_with_public_key(_PUBLIC_PEM), Refusal.MALFORMED),
    "HMAC under the name of EdDSA": (
        hmac_with_public_key(KEY.public_raw, HEADER),
        Refusal.MALFORMED,
    ),
    "ES256 of somebody": (es256(), Refusal.HEADER),
    "ES256 with r = s = 0": (es256(bytes(64)), Refusal.HEADER),
    "no signature": (f"{_TOLD}.", Refusal.MALFORMED),
    "two parts": (_TOLD, Refusal.MALFORMED),
    "four parts": (f"{GOOD}.{_SIGNATURE}", Refusal.MALFORMED),
    "a signature cut short": (GOOD[:-4], Refusal.MALFORMED),
    "a signature of zeros": (f"{_TOLD}.{base64url(bytes(64))}", Refusal.SIGNATURE),
    "somebody else's signature": (signed(HEADER, claims(), _STRANGER), Refusal.SIGNATURE),
    "a signature over another token": (edited("jti", "x"), Refusal.SIGNATURE),
    "an edited role": (edited("role", "admin"), Refusal.SIGNATURE),
    "an edited account": (edited("sub", principal_named("bob").account_id), Refusal.SIGNATURE),
    "an edited end": (edited("exp", NOW_S + 10**6), Refusal.SIGNATURE),
    "another typ": (signed(HEADER | {"typ": "JWT"}, claims()), Refusal.HEADER),
    "no typ": (signed({"alg": "EdDSA", "kid": KEY.kid}, claims()), Refusal.HEADER),
    "no kid": (signed({"alg": "EdDSA", "typ": "at+jwt"}, claims()), Refusal.HEADER),
    **{
        f"kid: {what}": (signed(HEADER | {"kid": kid}, claims()), Refusal.UNKNOWN_KEY)
        for what, kid in (
            ("a path", "../../../dev/null"),
            ("SQL", "' OR kid IS NOT NULL --"),
            ("an address", "https://evil.example/jwks.json"),
            ("empty", ""),
            ("a stranger's", _STRANGER.kid),
        )
    },
    **{
        f"kid: {type(kid).__name__}": (signed(HEADER | {"kid": kid}, claims()), Refusal.HEADER)
        for kid in _NO_NAMES
    },
    "a key that it brings along": (
        signed(
            HEADER | {"kid": _STRANGER.kid, "jwk": jwks([_STRANGER.public])["keys"][0]},
            claims(),
            _STRANGER,
        ),
        Refusal.HEADER,
    ),
    "an address of keys": (
        signed(HEADER | {"jku": "https://evil.example/jwks.json"}, claims()),
        Refusal.HEADER,
    ),
    "an address of a certificate": (
        signed(HEADER | {"x5u": "https://evil.example/x"}, claims()),
        Refusal.HEADER,
    ),
    "crit": (signed(HEADER | {"crit": ["exp"], "exp": 1}, claims()), Refusal.HEADER),
    "b64": (signed(HEADER | {"b64": False, "crit": ["b64"]}, claims()), Refusal.HEADER),
    "a header with a repeated name": (
        signed(b'{"alg":"none",' + json.dumps(HEADER).encode()[1:], claims()),
        Refusal.HEADER,
    ),
    "a header that is a list": (signed([HEADER], claims()), Refusal.HEADER),
    "a header that is no JSON": (signed(b"alg=EdDSA", claims()), Refusal.HEADER),
    "a nested token": (
        signed(HEADER | {"cty": "JWT"}, GOOD.encode()),
        Refusal.HEADER,
    ),
    "a token as claims": (signed(HEADER, GOOD.encode()), Refusal.CLAIMS),
    "claims with a repeated name": (
        signed(HEADER, b'{"role":"admin",' + json.dumps(claims()).encode()[1:]),
        Refusal.CLAIMS,
    ),
    "claims in brackets without end": (signed(HEADER, b"[" * 2_000), Refusal.CLAIMS),
    "another audience": (signed(HEADER, claims(aud="other-api")), Refusal.CLAIMS),
    "two audiences": (signed(HEADER, claims(aud=["housefull-api", "x"])), Refusal.CLAIMS),
    "another issuer": (signed(HEADER, claims(iss="housefull-staging")), Refusal.CLAIMS),
    **{
        f"no {name}": (signed(HEADER, claims(**{name: None})), Refusal.CLAIMS)
        for name in ("iss", "aud", "sub", "iat", "nbf", "exp", "jti", "sid", "role", "tenant")
    },
    **{
        f"exp {value!r}": (signed(HEADER, claims(exp=value)), Refusal.CLAIMS)
        for value in (str(NOW_S + 60), NOW_S + 60.0, 1e300, True, [NOW_S + 60], -1)
    },
    "exp Infinity": (
        signed(HEADER, json.dumps(claims(exp=float("inf"))).encode()),
        Refusal.CLAIMS,
    ),
    "nbf true": (signed(HEADER, claims(nbf=True)), Refusal.CLAIMS),
    "iat as a string": (signed(HEADER, claims(iat=str(NOW_S))), Refusal.CLAIMS),
    "a life of a day": (signed(HEADER, claims(exp=NOW_S + 86_400)), Refusal.CLAIMS),
    "over": (
        signed(HEADER, claims(iat=NOW_S - LIFETIME_S, nbf=NOW_S - LIFETIME_S, exp=NOW_S)),
        Refusal.OVER,
    ),
    "not begun": (signed(HEADER, claims(nbf=NOW_S + LEEWAY_S + 1)), Refusal.NOT_YET),
    "issued tomorrow": (
        signed(HEADER, claims(iat=NOW_S + 86_400, exp=NOW_S + 86_500)),
        Refusal.NOT_YET,
    ),
    **{
        f"{name} {value!r}": (signed(HEADER, claims(**{name: value})), Refusal.CLAIMS)
        for name, value in (
            ("sub", "ann"),
            ("sub", "acc_"),
            ("sub", [ANN.account_id]),
            ("sid", "ses_1"),
            ("jti", ""),
            ("role", "root"),
            ("role", ["admin"]),
            ("tenant", "tnt_x"),
        )
    },
    "a customer with a tenant": (signed(HEADER, claims(role="customer")), Refusal.CLAIMS),
    "an admin with a tenant": (signed(HEADER, claims(role="admin")), Refusal.CLAIMS),
    "a refresh token": (base64url(bytes(range(32))), Refusal.MALFORMED),
    "nothing": ("", Refusal.MALFORMED),
    "a space": (GOOD + " ", Refusal.MALFORMED),
    "a line end": (GOOD + "\n", Refusal.MALFORMED),
    "padding": (GOOD + "==", Refusal.MALFORMED),
    "the other alphabet": (GOOD.replace("-", "+").replace("_", "/") + "+", Refusal.MALFORMED),
    "another spelling of the signature": (other_spelling(GOOD), Refusal.MALFORMED),
    "letters that only look alike": (GOOD.replace("e", "е").encode(), Refusal.MALFORMED),
    "letters in full width": (GOOD.replace("A", "Ａ").encode(), Refusal.MALFORMED),
    "more than four kilobytes": (signed(HEADER, claims(jti="x" * 4_096)), Refusal.MALFORMED),
    "a megabyte": (b"A" * 2**20, Refusal.MALFORMED),
}


def test_a_token_that_is_good_says_who_is_asking() -> None:
    assert len(FORGED) > 90
    assert verifier_of(KEY).verify(GOOD.encode(), NOW_S) == ANN


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_token_is_refused_for_its_own_reason_and_leaves_nothing_behind(name: str) -> None:
    token, reason = FORGED[name]
    octets = token if isinstance(token, bytes) else token.encode()
    verifier = verifier_of(KEY)
    for _ in range(2):
        with pytest.raises(TokenRefused) as refused:
            verifier.verify(octets, NOW_S)
        assert refused.value.reason is reason
    assert verifier.verify(GOOD.encode(), NOW_S) == ANN


def scope_with(*values: bytes) -> Scope:
    return {"type": "http", "headers": [(b"authorization", value) for value in values]}


def answer_to(gate: Gate, scope: Scope) -> Problem:
    with pytest.raises(Problem) as refused:
        gate.admit(scope, SIGNED_IN)
    return refused.value


def test_every_forged_token_is_answered_with_the_same_bytes() -> None:
    gate = Gate(verifier_of(KEY), now_s=lambda: NOW_S)
    good = b"Bearer " + GOOD.encode()
    scopes = [
        scope_with(b"Bearer " + (token if isinstance(token, bytes) else token.encode()))
        for token, _ in FORGED.values()
    ]
    scopes += [
        scope_with(good, good),
        scope_with(good, b"Bearer x"),
        scope_with(b"Basic YW5uOnNlY3JldA=="),
        scope_with(b""),
        scope_with(b"Bearer"),
        scope_with(b"bearer\t" + GOOD.encode()),
        scope_with(b"Bearer  " + GOOD.encode()),
        scope_with(GOOD.encode()),
    ]
    answers = [answer_to(gate, scope) for scope in scopes]
    assert {(answer.status, answer.body()) for answer in answers} == {(401, answers[0].body())}
    assert {answer.headers["WWW-Authenticate"] for answer in answers} == {"Bearer"}
    assert answers[0].code == "token_invalid"


def test_a_token_anywhere_but_in_its_header_is_none() -> None:
    gate = Gate(verifier_of(KEY), now_s=lambda: NOW_S)
    scope = {
        "type": "http",
        "query_string": f"access_token={GOOD}&token={GOOD}".encode(),
        "headers": [
            (b"cookie", f"access_token={GOOD}".encode()),
            (b"x-authorization", f"Bearer {GOOD}".encode()),
            (b"proxy-authorization", f"Bearer {GOOD}".encode()),
        ],
    }
    answer = answer_to(gate, scope)
    assert (answer.status, answer.code) == (401, "token_missing")


def test_the_scheme_is_written_as_anybody_likes() -> None:
    gate = Gate(verifier_of(KEY), now_s=lambda: NOW_S)
    for scheme in (b"Bearer ", b"bearer ", b"BEARER "):
        gate.admit(scope_with(scheme + GOOD.encode()), SIGNED_IN)


def test_what_the_issuer_makes_is_what_the_verifier_and_others_read() -> None:
    principals = [
        principal_named("customer"),
        principal_named("admin", Role.ADMIN),
        *(principal_named(role, role) for role in (Role.ORGANISER, Role.GATE, Role.BOX_OFFICE)),
    ]
    issuer, verifier = TokenIssuer([KEY]), verifier_of(KEY)
    (published,) = jwks([KEY.public])["keys"]
    for principal in principals:
        token = issuer.issue(principal, NOW_S)
        assert len(token) < TOKEN_BYTES_MAX / 4
        assert verifier.verify(token.encode(), NOW_S) == principal
        theirs = jwt.decode(
            token,
            jwt.PyJWK(published),
            algorithms=["EdDSA"],
            audience="housefull-api",
            issuer="housefull",
            options={"verify_exp": False, "verify_nbf": False, "verify_iat": False},
        )
        assert theirs["sub"] == principal.account_id
        assert theirs["exp"] - theirs["iat"] == 600
    assert jwt.get_unverified_header(token) == HEADER
    assert len({issuer.issue(principals[0], NOW_S) for _ in range(3)}) == 3


def test_two_keys_are_alive_while_one_follows_the_other() -> None:
    old = new_signing_key()
    new = new_signing_key(signs_from_s=NOW_S + 60)
    issuer, verifier = TokenIssuer([old, new]), verifier_of(old, new)
    before = issuer.issue(ANN, NOW_S + 59).encode()
    after = issuer.issue(ANN, NOW_S + 60).encode()
    assert [jwt.get_unverified_header(token)["kid"] for token in (before, after)] == [
        old.kid,
        new.kid,
    ]
    for token in (before, after):
        assert verifier.verify(token, NOW_S + 100) == ANN
    # The old key is taken away, and with it what was found good by it.
    verifier.use_keys([new.public])
    with pytest.raises(TokenRefused) as refused:
        verifier.verify(before, NOW_S + 100)
    assert refused.value.reason is Refusal.UNKNOWN_KEY
    assert verifier.met_unknown_key.is_set()
    assert verifier.verify(after, NOW_S + 100) == ANN


def test_a_key_that_is_published_before_it_signs_is_known_in_time() -> None:
    late = TokenIssuer([new_signing_key(signs_from_s=NOW_S + 1)])
    with pytest.raises(NoSigningKey):
        late.issue(ANN, NOW_S)
    with pytest.raises(NoSigningKey):
        TokenIssuer().issue(ANN, NOW_S)


def test_a_token_that_is_kept_does_not_outlive_its_end() -> None:
    verifier = verifier_of(KEY)
    for seconds in (0, 1, LIFETIME_S - 1):
        assert verifier.verify(GOOD.encode(), NOW_S + seconds) == ANN
    for seconds in (LIFETIME_S, LIFETIME_S + LEEWAY_S):
        with pytest.raises(TokenRefused) as refused:
            verifier.verify(GOOD.encode(), NOW_S + seconds)
        assert refused.value.reason is Refusal.OVER


def test_a_token_that_is_kept_does_not_outlive_its_session() -> None:
    verifier = verifier_of(KEY)
    other = TokenIssuer([KEY]).issue(principal_named("bob"), NOW_S).encode()
    kept, fresh = GOOD.encode(), signed(HEADER, claims(jti="another")).encode()
    assert verifier.verify(kept, NOW_S) == ANN
    verifier.revoke([ANN.session_id], NOW_S)
    for token in (kept, fresh, kept):
        with pytest.raises(TokenRefused) as refused:
            verifier.verify(token, NOW_S)
        assert refused.value.reason is Refusal.REVOKED
    assert verifier.verify(other, NOW_S).account_id == principal_named("bob").account_id


def test_a_revoked_session_is_remembered_until_the_last_of_its_tokens_is_over() -> None:
    verifier = verifier_of(KEY)
    verifier.revoke([ANN.session_id], NOW_S)
    # Somebody's clock was ahead by what is forgiven.
    last = signed(
        HEADER, claims(iat=NOW_S + LEEWAY_S, nbf=NOW_S, exp=NOW_S + LEEWAY_S + LIFETIME_S)
    )
    for seconds in (0, LIFETIME_S, LIFETIME_S + LEEWAY_S - 1):
        verifier.revoke([], NOW_S + seconds)
        with pytest.raises(TokenRefused):
            verifier.verify(last.encode(), NOW_S + seconds)
    strangers = [SessionId(f"ses_{number:020}") for number in range(1_000)]
    for number in range(100):
        verifier.revoke(strangers, NOW_S + 10_000 * number)
    assert len(verifier._revoked) == 1_000


def test_only_so_many_tokens_are_kept_and_the_ones_in_use_stay() -> None:
    verifier = verifier_of(KEY, tokens_kept_max=10)
    issuer = TokenIssuer([KEY])
    mine = issuer.issue(ANN, NOW_S).encode()
    for number in range(100):
        verifier.verify(issuer.issue(principal_named(f"c{number}"), NOW_S).encode(), NOW_S)
        verifier.verify(mine, NOW_S)
    assert len(verifier._kept) == 10
    assert mine in verifier._kept


def test_who_knows_no_key_or_no_revocation_says_so_instead_of_refusing() -> None:
    for inform in (
        lambda verifier: None,
        lambda verifier: verifier.use_keys([KEY.public]),
        lambda verifier: verifier.revoke([], NOW_S),
    ):
        verifier = TokenVerifier()
        inform(verifier)
        for token in (GOOD.encode(), b"nonsense"):
            with pytest.raises(KeysUnknown):
                verifier.verify(token, NOW_S)


def test_the_parts_of_a_key_belong_together() -> None:
    other = new_signing_key()
    with pytest.raises(ValueError, match="do not belong together"):
        TokenIssuer([KEY._replace(public_raw=other.public_raw)])
    with pytest.raises(ValueError, match="cannot be read"):
        TokenIssuer([KEY._replace(private_pem="-----BEGIN PRIVATE KEY-----")])
    with pytest.raises(ValueError, match="instead of 32"):
        TokenVerifier().use_keys([PublicKey("k", b"short")])
    with pytest.raises(ValueError, match="no token can say"):
        TokenVerifier().use_keys([PublicKey("k k", KEY.public_raw)])
    verifier = verifier_of(KEY)
    with pytest.raises(ValueError):
        verifier.use_keys([PublicKey("k", b"short")])
    assert verifier.verify(GOOD.encode(), NOW_S) == ANN, "the keys before stay in use"


def test_a_key_does_not_print_itself() -> None:
    secret = KEY.private_pem.splitlines()[1]
    assert secret not in repr(KEY) + str(KEY) + f"{KEY}" + repr([KEY])
    assert kid_of(KEY.public_raw) == KEY.kid


def test_principals_are_what_tokens_say_and_nothing_else() -> None:
    token = signed(HEADER, claims(is_admin=True, scope="everything", roles=["admin"]))
    assert verifier_of(KEY).verify(token.encode(), NOW_S) == ANN
    assert Principal._fields == ("account_id", "role", "tenant_id", "session_id")


def test_another_spelling_of_a_signature_means_the_same_octets() -> None:
    """Otherwise the case above would be an ordinary wrong signature."""
    pad = "=="
    ours, theirs = (
        base64.urlsafe_b64decode(token.rpartition(".")[2] + pad)
        for token in (GOOD, other_spelling(GOOD))
    )
    assert ours == theirs
