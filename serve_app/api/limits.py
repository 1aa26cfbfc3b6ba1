"""How often clients may ask: which limits apply where, and the answer 429.

Three things are counted, each in jars of its own (``persistence.rate_limits`` says how):

account    Whom the request is made for. A login is made for the address that was typed, whether
           or not there is such an account: neither the answer nor its time tells.
device     The header ``X-Device-Id``, if it is well-formed. A client that wants to may choose a
           new one each time; so it only ever adds a limit, and never replaces or raises one.
address    The client's, and only when the gateway says it and proves that it is the gateway. A
           whole network of IPv6 (/64) counts as one address, because a client has all of it.
           Behind Serve's proxy everybody is 127.0.0.1; without a gateway there is no such limit.

The limit of an address over all requests is asked by a layer of its own, before a body is read;
the others by the routes, before anything is parsed. None of it reads a database.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum, unique
from functools import lru_cache
from typing import NamedTuple

from starlette.types import ASGIApp, Receive, Scope, Send

from persistence.rate_limits import Charge, RateLimit, RateLimiter, Verdict
from serve_app.api.problems import Problem

CLIENT_HEADER = b"x-housefull-client"
GATEWAY_HEADER = b"x-housefull-gateway"
DEVICE_HEADER = b"x-device-id"

_DEVICE = re.compile(rb"[A-Za-z0-9_-]{16,128}")
_HEADERS_OF_INTEREST = frozenset({CLIENT_HEADER, GATEWAY_HEADER, DEVICE_HEADER})
_ANNOUNCE_BODIES = frozenset({b"content-length", b"transfer-encoding"})
_MINUTE_MS = 60_000
_HOUR_MS = 3_600_000
_NETWORK_BITS = 64
_ADDRESSES_READ_MAX = 4_096


@unique
class Rule(StrEnum):
    """What a request does, as far as limits are concerned."""

    HOLD = "hold"
    COMMAND = "command"
    READ = "read"
    LOGIN = "login"
    SIGN_UP = "sign_up"
    MAIL = "mail"
    TOKEN_USE = "token_use"
    REFRESH = "refresh"
    ORGANISER = "organiser"


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitRates:
    """Requests in a minute, ``mails`` in an hour; 0 turns a limit off.

    Shapes:
        holds, commands, reads: of one account. Commands extend, release, confirm and cancel.
        logins: with one e-mail address; logins_of_address: from one client address.
        mails: to one e-mail address, and sign-ups with it.
        account_requests_of_address: sign-ups, mails and uses of tokens from one client address.
        refreshes: of one session, or with one API key.
        organiser: administrative requests of one account.
        device, address: everything else of one device; everything from one client address.
    """

    holds: int = 60
    commands: int = 240
    reads: int = 600
    logins: int = 5
    logins_of_address: int = 20
    mails: int = 6
    account_requests_of_address: int = 30
    refreshes: int = 30
    organiser: int = 600
    device: int = 1_200
    address: int = 6_000


UNLIMITED = LimitRates(
    holds=0,
    commands=0,
    reads=0,
    logins=0,
    logins_of_address=0,
    mails=0,
    account_requests_of_address=0,
    refreshes=0,
    organiser=0,
    device=0,
    address=0,
)


class _Limits(NamedTuple):
    """The limits of one rule."""

    account: RateLimit | None = None
    device: RateLimit | None = None
    address: RateLimit | None = None


class RequestLimits:
    """Admits requests. One for each replica and application; belongs to one event loop.

    Args:
        limiter: None admits everything.
        gateway_secret: what the gateway shows to be believed; None believes nobody.
    """

    def __init__(
        self,
        limiter: RateLimiter | None,
        rates: LimitRates = UNLIMITED,
        *,
        gateway_secret: str | None = None,
    ) -> None:
        self._limiter = limiter
        self._secret = None if gateway_secret is None else gateway_secret.encode()
        self._address = _limit("address", rates.address) if limiter is not None else None
        self._rules = _rules(rates) if limiter is not None else {}
        self._needs_headers = {
            rule for rule, (_, device, address) in self._rules.items() if device or address
        }

    @property
    def know_addresses(self) -> bool:
        """Whether there is a limit of client addresses, and somebody to tell them."""
        return self._address is not None and self._secret is not None

    @classmethod
    def off(cls) -> RequestLimits:
        """No limits at all."""
        return cls(None)

    async def admit(self, scope: Scope, rule: Rule, subject: str | None = None) -> None:
        """Charge this request.

        Args:
            subject: the id of an account or session, a token, or an e-mail address as typed;
                whatever else is counted beside the device and the client's address.

        Raises:
            Problem: ``too_many_requests``.
        """
        if self._limiter is None:
            return
        limits = self._rules[rule]
        charges: list[Charge] = []
        if limits.account is not None and subject is not None:
            charges.append(Charge(limits.account, _key_of_subject(subject)))
        if rule in self._needs_headers:
            self._charge_origin(scope, limits, charges)
        if charges:
            verdict = await self._limiter.take(charges)
            if not verdict.is_allowed:
                raise too_many_requests(verdict)

    async def admit_address(self, scope: Scope) -> None:
        """Charge this request to its client's address, if that is known.

        Raises:
            Problem: ``too_many_requests``.
        """
        if self._limiter is None or self._address is None:
            return
        address = self._origin_of(scope)[0]
        if address is not None:
            verdict = await self._limiter.take((Charge(self._address, address),))
            if not verdict.is_allowed:
                raise too_many_requests(verdict)

    async def close(self) -> None:
        """Let go of the server that counts."""
        if self._limiter is not None:
            await self._limiter.close()

    def _charge_origin(self, scope: Scope, limits: _Limits, charges: list[Charge]) -> None:
        address, device = self._origin_of(scope)
        if limits.device is not None and device is not None:
            charges.append(Charge(limits.device, device))
        if limits.address is not None and address is not None:
            charges.append(Charge(limits.address, address))

    def _origin_of(self, scope: Scope) -> tuple[str | None, str | None]:
        """The client's network and device, each None when nobody who can be believed says it."""
        found: dict[bytes, bytes] = {}
        for name, value in scope["headers"]:
            if name in _HEADERS_OF_INTEREST:
                # Said twice is not said: of two, nobody knows which one the gateway wrote.
                found[name] = b"" if name in found else value
        if not found:
            return None, None
        address: str | None = None
        shown = found.get(GATEWAY_HEADER)
        if self._secret is not None and shown and hmac.compare_digest(shown, self._secret):
            address = network_of(found.get(CLIENT_HEADER, b""))
        device = found.get(DEVICE_HEADER)
        if device is None or _DEVICE.fullmatch(device) is None:
            return address, None
        return address, device.decode()


class AddressLimit:
    """Pure ASGI middleware: the limit of a client's address over all requests.

    It stands outside of whoever reads bodies, so that a client that is over its limit is answered
    without any of it being read. ``spares`` names requests that it is not for.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        limits: RequestLimits,
        spares: Callable[[Scope], bool] | None = None,
    ) -> None:
        self._app = app
        self._limits = limits
        self._spares = spares

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it."""
        if scope["type"] == "http" and not (self._spares is not None and self._spares(scope)):
            try:
                await self._limits.admit_address(scope)
            except Problem as problem:
                response = problem.response()
                if any(name in _ANNOUNCE_BODIES for name, _ in scope["headers"]):
                    # The body stays unread, so the connection cannot be used again.
                    response.headers["Connection"] = "close"
                await response(scope, receive, send)
                return
        await self._app(scope, receive, send)


def too_many_requests(verdict: Verdict) -> Problem:
    """The problem that says how long to wait, with the fields of the IETF's RateLimit draft."""
    limit = verdict.limit
    assert limit is not None, "nothing was charged, so nothing can have refused"
    seconds = -(-verdict.retry_after_ms // 1_000)
    window_s = -(-limit.window_ms // 1_000)
    return Problem(
        "too_many_requests",
        f"At most {limit.count} requests of this kind in {window_s} s.",
        members={"retry": f"Repeat the request after {seconds} s."},
        headers={
            "Retry-After": str(seconds),
            "RateLimit-Policy": f'"{limit.name}";q={limit.count};w={window_s}',
            "RateLimit": f'"{limit.name}";r={verdict.remaining};t={seconds}',
        },
    )


@lru_cache(maxsize=_ADDRESSES_READ_MAX)
def network_of(address: bytes) -> str | None:
    """What counts as one client address: an IPv4 address, or a network of IPv6.

    Example:
        >>> network_of(b"2001:db8:1:2:3::4")
        '2001:db8:1:2::/64'
        >>> network_of(b"::ffff:192.0.2.7")
        '192.0.2.7'
    """
    try:
        parsed = ipaddress.ip_address(address.decode("latin-1"))
    except ValueError:
        return None
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    network = ipaddress.IPv6Network((int(parsed) >> _NETWORK_BITS << _NETWORK_BITS, _NETWORK_BITS))
    return str(network)


def _key_of_subject(subject: str) -> str:
    """The key of an account, session, token or e-mail address.

    Ids are kept as they are. Everything else is hashed: nobody needs to find the addresses of
    people in the memory of a server, or tokens, and the key has a bounded length.
    """
    if subject.startswith(("acc_", "ses_")) and len(subject) <= 32 and subject.isascii():
        return subject
    folded = unicodedata.normalize("NFKC", subject[:1_024]).strip().casefold()
    return hashlib.blake2b(folded.encode(errors="replace"), digest_size=16).hexdigest()


def _limit(
    name: str, count: int, window_ms: int = _MINUTE_MS, *, is_exact: bool = False
) -> RateLimit | None:
    return RateLimit(name, count, window_ms, is_exact=is_exact) if count else None


def _rules(rates: LimitRates) -> Mapping[Rule, _Limits]:
    """The one table of which limits apply to what."""
    device = _limit("device", rates.device)
    login_address = _limit("login_address", rates.logins_of_address, is_exact=True)
    account_address = _limit("account_address", rates.account_requests_of_address, is_exact=True)
    mail = _limit("mail", rates.mails, _HOUR_MS, is_exact=True)
    return {
        Rule.HOLD: _Limits(_limit("hold", rates.holds), device),
        Rule.COMMAND: _Limits(_limit("command", rates.commands), device),
        Rule.READ: _Limits(_limit("read", rates.reads), device),
        Rule.LOGIN: _Limits(_limit("login", rates.logins, is_exact=True), device, login_address),
        Rule.SIGN_UP: _Limits(mail, device, account_address),
        Rule.MAIL: _Limits(mail, device, account_address),
        Rule.TOKEN_USE: _Limits(_limit("token", rates.refreshes), device, account_address),
        Rule.REFRESH: _Limits(_limit("refresh", rates.refreshes), device),
        Rule.ORGANISER: _Limits(_limit("organiser", rates.organiser)),
    }
