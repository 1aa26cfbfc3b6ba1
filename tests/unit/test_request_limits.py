"""Which requests are charged to whom, and what those hear who ask too often."""

from __future__ import annotations

import json
from dataclasses import fields

import pytest
from starlette.types import Message, Receive, Scope, Send

from persistence.memory_rate_limits import MemoryRateLimiter
from serve_app.api.limits import (
    UNLIMITED,
    AddressLimit,
    LimitRates,
    RequestLimits,
    Rule,
    network_of,
)
from serve_app.api.problems import Problem

SECRET = "gateway-secret-gateway-secret"
DEVICE = "device-0123456789abcdef"
Headers = list[tuple[bytes, bytes]]


class ManualClock:
    """Seconds, which pass when a test says so."""

    def __init__(self) -> None:
        self.now_s = 5_000.0

    def __call__(self) -> float:
        return self.now_s


def limits_of(clock: ManualClock | None = None, **rates: int) -> RequestLimits:
    """Only these limits."""
    all_rates = {rate.name: 0 for rate in fields(LimitRates)} | rates
    limiter = MemoryRateLimiter(clock=clock or ManualClock())
    return RequestLimits(limiter, LimitRates(**all_rates), gateway_secret=SECRET)


def scope_of(*headers: tuple[str, str]) -> Scope:
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
    return {"type": "http", "method": "POST", "path": "/x", "headers": raw, "client": ("::1", 1)}


def through_gateway(address: str, *headers: tuple[str, str], secret: str = SECRET) -> Scope:
    """A request as the gateway passes it on."""
    shown = ("X-Housefull-Gateway", secret)
    return scope_of(("X-Housefull-Client", address), shown, *headers)


async def admitted(
    limits: RequestLimits, scope: Scope, rule: Rule, subject: str | None = None, times: int = 1
) -> int:
    """How many of so many requests are admitted."""
    count = 0
    for _ in range(times):
        try:
            await limits.admit(scope, rule, subject)
        except Problem as problem:
            if problem.code != "too_many_requests":
                raise
        else:
            count += 1
    return count


async def test_each_account_has_a_limit_of_its_own() -> None:
    limits = limits_of(holds=3)
    assert await admitted(limits, scope_of(), Rule.HOLD, "acc_ann", 10) == 3
    assert await admitted(limits, scope_of(), Rule.HOLD, "acc_bob", 10) == 3


async def test_an_account_is_limited_from_wherever_it_asks() -> None:
    limits = limits_of(holds=3)
    got = 0
    for number in range(50):
        got += await admitted(limits, through_gateway(f"10.0.0.{number}"), Rule.HOLD, "acc_ann")
    assert got == 3


async def test_one_address_cannot_log_in_to_many_accounts() -> None:
    limits = limits_of(logins=5, logins_of_address=20)
    got = 0
    for number in range(50):
        scope = through_gateway("198.51.100.7")
        got += await admitted(limits, scope, Rule.LOGIN, f"victim-{number}@example.org")
    assert got == 20


@pytest.mark.parametrize(
    "others",
    [
        ["ANN@example.org", " ann@example.org ", "Ann@Example.ORG"],
        ["ａｎｎ@example.org"],
    ],
)
async def test_one_e_mail_address_is_one_however_it_is_typed(others: list[str]) -> None:
    limits = limits_of(logins=5)
    assert await admitted(limits, scope_of(), Rule.LOGIN, "ann@example.org", 5) == 5
    for other in others:
        assert await admitted(limits, scope_of(), Rule.LOGIN, other) == 0


@pytest.mark.parametrize("subject", ["", "\x00", "x" * 100_000, "\ud800@example.org", "acc_ž"])
async def test_any_subject_can_be_counted(subject: str) -> None:
    limits = limits_of(logins=2)
    assert await admitted(limits, scope_of(), Rule.LOGIN, subject, 5) == 2


async def test_rules_are_counted_apart() -> None:
    limits = limits_of(holds=1, commands=2, reads=3)
    for rule, count in ((Rule.HOLD, 1), (Rule.COMMAND, 2), (Rule.READ, 3)):
        assert await admitted(limits, scope_of(), rule, "acc_ann", 9) == count


async def test_sign_ups_and_mails_share_what_may_be_sent_to_one_address() -> None:
    limits = limits_of(mails=2)
    assert await admitted(limits, scope_of(), Rule.SIGN_UP, "ann@example.org") == 1
    assert await admitted(limits, scope_of(), Rule.MAIL, "ann@example.org", 5) == 1


async def test_a_device_that_names_itself_is_limited_over_all_its_accounts() -> None:
    limits = limits_of(device=4)
    got = 0
    for number in range(20):
        scope = scope_of(("X-Device-Id", DEVICE))
        got += await admitted(limits, scope, Rule.HOLD, f"acc_{number}")
    assert got == 4


async def test_a_new_device_id_does_not_help_an_account_over_its_limit() -> None:
    limits = limits_of(holds=3, device=100)
    got = 0
    for number in range(20):
        scope = scope_of(("X-Device-Id", f"{DEVICE}-{number}"))
        got += await admitted(limits, scope, Rule.HOLD, "acc_ann")
    assert got == 3


@pytest.mark.parametrize("device", ["", "short", "a" * 129, "with blanks in between", "é" * 20])
async def test_a_device_id_that_is_not_well_formed_is_none(device: str) -> None:
    limits = limits_of(device=1)
    scope = scope_of(("X-Device-Id", device))
    assert await admitted(limits, scope, Rule.HOLD, "acc_ann", 5) == 5


@pytest.mark.parametrize(
    "headers",
    [
        [("X-Housefull-Client", "198.51.100.7")],
        [("X-Housefull-Client", "198.51.100.7"), ("X-Housefull-Gateway", "guessed")],
        [("X-Housefull-Client", "198.51.100.7"), ("X-Housefull-Gateway", "")],
        [("X-Housefull-Client", "nonsense"), ("X-Housefull-Gateway", SECRET)],
        [("X-Forwarded-For", "198.51.100.7"), ("X-Housefull-Gateway", SECRET)],
        [("X-Real-Ip", "198.51.100.7")],
        [("Forwarded", "for=198.51.100.7")],
        [
            ("X-Housefull-Client", "198.51.100.7"),
            ("X-Housefull-Client", "198.51.100.8"),
            ("X-Housefull-Gateway", SECRET),
        ],
        [
            ("X-Housefull-Client", "198.51.100.7"),
            ("X-Housefull-Gateway", SECRET),
            ("X-Housefull-Gateway", SECRET),
        ],
    ],
)
async def test_an_address_that_is_not_the_gateway_s_word_counts_for_nothing(
    headers: list[tuple[str, str]],
) -> None:
    limits = limits_of(logins_of_address=1)
    assert await admitted(limits, scope_of(*headers), Rule.LOGIN, "ann@example.org", 5) == 5


async def test_forged_addresses_beside_the_gateway_s_change_nothing() -> None:
    limits = limits_of(logins_of_address=3)
    got = 0
    for number in range(20):
        forged = ("X-Forwarded-For", f"203.0.113.{number}")
        got += await admitted(limits, through_gateway("10.0.0.1", forged), Rule.LOGIN, "a@b.cz")
    assert got == 3


async def test_without_a_secret_nobody_is_the_gateway() -> None:
    limits = RequestLimits(MemoryRateLimiter(), LimitRates(logins=0, logins_of_address=1))
    for secret in ("", "None", SECRET):
        scope = through_gateway("10.0.0.1", secret=secret)
        assert await admitted(limits, scope, Rule.LOGIN, "ann@example.org", 5) == 5


@pytest.mark.parametrize(
    ("one", "other", "are_one"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff", True),
        ("2001:db8:1:2::1", "2001:DB8:1:2:0::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
    ],
)
def test_a_network_of_ipv6_is_one_client(one: str, other: str, are_one: bool) -> None:
    assert (network_of(one.encode()) == network_of(other.encode())) is are_one


@pytest.mark.parametrize("text", [b"", b"localhost", b"192.0.2.1:80", b"[::1]", b"1.2.3", b"\xff"])
def test_what_is_no_address_is_none(text: bytes) -> None:
    assert network_of(text) is None


async def test_limits_that_are_off_admit_everything() -> None:
    for limits in (RequestLimits.off(), RequestLimits(MemoryRateLimiter(), UNLIMITED)):
        for rule in Rule:
            assert await admitted(limits, through_gateway("::1"), rule, "acc_ann", 300) == 300
        assert not limits.know_addresses
        await limits.close()


@pytest.mark.parametrize("rate", [rate.name for rate in fields(LimitRates)])
async def test_every_rate_limits_something(rate: str) -> None:
    limits = limits_of(None, **{rate: 2})
    scope = through_gateway("198.51.100.7", ("X-Device-Id", DEVICE))
    got = [await admitted(limits, scope, rule, "ann@example.org", 9) for rule in Rule]
    if rate == "address":
        assert set(got) == {9}, "it is a limit of all requests, not of any rule"
        await limits.admit_address(scope)
        await limits.admit_address(scope)
        with pytest.raises(Problem, match="too_many_requests"):
            await limits.admit_address(scope)
    else:
        assert min(got) <= 2


async def test_the_refusal_says_how_long_to_wait_and_waiting_so_long_helps() -> None:
    clock = ManualClock()
    limits = limits_of(clock, logins=5)
    await admitted(limits, scope_of(), Rule.LOGIN, "ann@example.org", 5)
    clock.now_s += 2
    with pytest.raises(Problem) as refused:
        await limits.admit(scope_of(), Rule.LOGIN, "ann@example.org")
    assert refused.value.status == 429
    response = refused.value.response()
    assert response.headers["retry-after"] == "10"
    assert response.headers["ratelimit-policy"] == '"login";q=5;w=60'
    assert response.headers["ratelimit"] == '"login";r=0;t=10'
    assert response.headers["cache-control"] == "no-store"
    body = json.loads(bytes(response.body))
    assert body["code"] == "too_many_requests"
    assert body["retry"] == "Repeat the request after 10 s."
    clock.now_s += 10
    assert await admitted(limits, scope_of(), Rule.LOGIN, "ann@example.org", 2) == 1


async def answered(scope: Scope, limits: RequestLimits) -> list[Message]:
    """What the layer of addresses sends; the application beneath only says 204."""
    sent: list[Message] = []

    async def fine(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    async def receive() -> Message:
        raise AssertionError("the body of a refused request is not read")

    async def send(message: Message) -> None:
        sent.append(message)

    await AddressLimit(fine, limits=limits)(scope, receive, send)
    return sent


async def test_an_address_over_its_limit_is_answered_before_its_body_is_read() -> None:
    limits = limits_of(address=2)
    scope = through_gateway("198.51.100.7", ("Content-Length", "60000"))
    statuses = [(await answered(dict(scope), limits))[0]["status"] for _ in range(4)]
    assert statuses == [204, 204, 429, 429]
    refusal = (await answered(dict(scope), limits))[0]
    assert (b"connection", b"close") in refusal["headers"]
    assert (await answered(through_gateway("198.51.100.8"), limits))[0]["status"] == 204


async def test_whose_address_is_not_known_has_no_limit_of_addresses() -> None:
    limits = limits_of(address=1)
    for _ in range(5):
        assert (await answered(scope_of(), limits))[0]["status"] == 204
