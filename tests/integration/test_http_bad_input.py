"""What breaks servers, sent to every route that takes input: each gets a 4xx that names the
mistake, nothing is stored, and nothing is ever a 500.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from reservation.ids import CustomerId, ShowId, booking_id_of, derive_hold_id
from tests.support.access import account_named
from tests.support.http_house import (
    BODY_BYTES_MAX,
    BOOKING,
    BROWSE,
    House,
    as_seller,
    code_of,
    fields_of,
    open_client,
    open_new_house,
    selling,
)

JSON = "application/json"
TWO_TO_63 = 2**63
MANY_DIGITS = b"9" * 5_000


@pytest.fixture(scope="module")
async def house() -> AsyncIterator[House]:
    async with open_new_house() as house:
        yield house


@pytest.fixture(scope="module")
async def booking(house: House) -> AsyncIterator[httpx.AsyncClient]:
    async with open_client(house.booking_app(), BOOKING) as client:
        yield client


@pytest.fixture(scope="module")
async def browse(house: House) -> AsyncIterator[httpx.AsyncClient]:
    async with open_client(house.browse_app(), BROWSE) as client:
        yield client


@pytest.fixture(scope="module")
async def untouched(house: House) -> AsyncIterator[list[ShowId]]:
    """Shows that nothing may be stored for, whatever is sent."""
    shows = [await house.add_show(), await house.add_run()]
    yield shows
    for show_id in shows:
        assert await house.stored(show_id) == (0, 0)


@pytest.fixture
def show_id(untouched: list[ShowId]) -> ShowId:
    return untouched[0]


@pytest.fixture
def run_id(untouched: list[ShowId]) -> ShowId:
    return untouched[1]


def hold_addresses(show_id: ShowId) -> list[tuple[str, str]]:
    """Every booking route that reads a body."""
    hold_id = derive_hold_id(show_id, CustomerId(account_named("ann")), "nothing")
    return [
        ("POST", f"/shows/{show_id}/holds"),
        ("POST", f"/holds/{hold_id}/extend"),
        ("POST", f"/holds/{hold_id}/confirm"),
        ("DELETE", f"/holds/{hold_id}"),
        ("POST", f"/bookings/{booking_id_of(hold_id)}/cancel"),
        ("POST", f"/holds/{hold_id}/checkout"),
    ]


async def send(
    client: httpx.AsyncClient,
    method: str,
    address: str,
    content: Any = None,
    **headers: str,
) -> httpx.Response:
    sent = {**as_seller("ann"), "Content-Type": JSON}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    return await client.request(method, address, content=content, headers=sent)


UNREADABLE: list[tuple[str, bytes]] = [
    ("nothing but spaces", b"  "),
    ("half an object", b'{"seats": ["Stalls-A-1"'),
    ("a comma too many", b'{"seats": ["Stalls-A-1"],}'),
    ("two objects", b"{}{}"),
    ("a byte order mark", b'\xef\xbb\xbf{"seats": []}'),
    ("bytes that are not UTF-8", b'{"seats": ["\xff\xfe"]}'),
    ("a surrogate in UTF-8", b'{"seats": ["\xed\xa0\x80"]}'),
    ("a lone surrogate", b'{"seats": ["\\ud800"]}'),
    ("a lone surrogate as a name", b'{"\\udfff": 1}'),
    ("not a number", b'{"admissions": [{"tier": "lawn", "count": NaN}]}'),
    ("infinity", b'{"admissions": [{"tier": "lawn", "count": Infinity}]}'),
    ("a zero before a number", b'{"admissions": [{"tier": "lawn", "count": 01}]}'),
    ("a raw zero character", b'{"seats": ["A\x00B"]}'),
    ("a repeated name", b'{"seats": ["Stalls-A-1"], "seats": ["Stalls-A-2"]}'),
    ("a repeated name within", b'{"admissions": [{"tier": "lawn", "count": 1, "count": 2}]}'),
    (
        "a repeated name that is written differently",
        b'{"payment": "x", "p\\u0061yment": "counter"}',
    ),
    ("ten thousand brackets", b"[" * 10_000 + b"]" * 10_000),
    ("ten thousand braces", b'{"a":' * 10_000 + b"1" + b"}" * 10_000),
    ("as deep as the reader goes", b'{"a": {"b":' + b"[" * 1_015 + b"]" * 1_015 + b"}}"),
]


@pytest.mark.parametrize(("name", "content"), UNREADABLE, ids=[name for name, _ in UNREADABLE])
async def test_what_is_not_json_is_refused_everywhere(
    booking: httpx.AsyncClient, show_id: ShowId, name: str, content: bytes
) -> None:
    for method, address in hold_addresses(show_id):
        answer = await send(booking, method, address, content)
        assert (answer.status_code, code_of(answer)) == (400, "malformed_json"), answer.text
        assert fields_of(answer) == ["body"]


@pytest.mark.parametrize("content", [b"[]", b'"x"', b"1", b"null", b"true", b"1e400"])
async def test_a_body_that_is_not_an_object_is_refused_everywhere(
    booking: httpx.AsyncClient, show_id: ShowId, content: bytes
) -> None:
    for method, address in hold_addresses(show_id):
        answer = await send(booking, method, address, content)
        assert answer.status_code in (400, 422)
        assert fields_of(answer) == ["body"]


WRONG: list[tuple[str, object, list[str]]] = [
    ("nothing", {}, ["seats"]),
    ("no seat", {"seats": []}, ["seats"]),
    ("an unknown member", {"seats": ["Stalls-A-1"], "price": 1}, ["price"]),
    ("members of the answer", {"seats": ["Stalls-A-1"], "amount_minor": 0, "state": "held"},
     ["amount_minor", "state"]),
    ("both kinds", {"seats": ["Stalls-A-1"], "best_available": {"count": 1}}, ["seats"]),
    ("an unknown seat", {"seats": ["Stalls-A-1", "Stalls-Z-9"]}, ["seats[1]"]),
    ("an index for a label", {"seats": ["0"]}, ["seats[0]"]),
    ("a zero character", {"seats": ["Stalls-A-1\0"]}, ["seats[0]"]),
    ("a seat twice", {"seats": ["Stalls-A-1", "Stalls-A-2", "Stalls-A-1"]}, ["seats[2]"]),
    ("a number for a label", {"seats": [1]}, ["seats[0]"]),
    ("null for a label", {"seats": [None]}, ["seats[0]"]),
    ("an object for a label", {"seats": [{}]}, ["seats[0]"]),
    ("a text for a list", {"seats": "Stalls-A-1"}, ["seats"]),
    ("an object for a list", {"seats": {"0": "Stalls-A-1"}}, ["seats"]),
    ("null for a list", {"seats": None}, ["seats"]),
    ("a long label", {"seats": ["A" * 60_000]}, ["seats[0]"]),
    ("51 seats", {"seats": [f"Stalls-A-{n}" for n in range(51)]}, ["seats"]),
    ("10,000 seats", {"seats": ["A"] * 10_000}, ["seats"]),
    ("an unknown tier", {"admissions": [{"tier": "moon", "count": 1}]}, ["admissions[0].tier"]),
    ("a zero character in a tier", {"admissions": [{"tier": "\0", "count": 1}]},
     ["admissions[0].tier"]),
    ("a tier twice", {"admissions": [{"tier": "lawn", "count": 1}] * 2}, ["admissions[1].tier"]),
    ("no count", {"admissions": [{"tier": "lawn"}]}, ["admissions[0].count"]),
    ("no places", {"admissions": [{"tier": "lawn", "count": 0}]}, ["admissions[0].count"]),
    ("minus one", {"admissions": [{"tier": "lawn", "count": -1}]}, ["admissions[0].count"]),
    ("a text for a count", {"admissions": [{"tier": "lawn", "count": "1"}]},
     ["admissions[0].count"]),
    ("true for a count", {"admissions": [{"tier": "lawn", "count": True}]},
     ["admissions[0].count"]),
    ("1.0 for a count", {"admissions": [{"tier": "lawn", "count": 1.0}]},
     ["admissions[0].count"]),
    ("2^63", {"admissions": [{"tier": "lawn", "count": TWO_TO_63}]}, ["admissions[0].count"]),
    ("-2^63 - 1", {"admissions": [{"tier": "lawn", "count": -TWO_TO_63 - 1}]},
     ["admissions[0].count"]),
    ("2^64", {"admissions": [{"tier": "lawn", "count": 2 * TWO_TO_63}]},
     ["admissions[0].count"]),
    ("too many places together",
     {"seats": ["Stalls-A-1"], "admissions": [{"tier": "standing", "count": 50}]},
     ["admissions"]),
    ("a text for a flag", {"seats": ["Stalls-A-1"], "or_nearest": "true"}, ["or_nearest"]),
    ("1 for a flag", {"seats": ["Stalls-A-1"], "or_nearest": 1}, ["or_nearest"]),
    ("stops of a show without stops", {"seats": ["Stalls-A-1"], "from": "PRG", "to": "OVA"},
     ["from", "to"]),
    ("a number for a stop", {"seats": ["Stalls-A-1"], "from": 1}, ["from"]),
    ("best of nothing", {"best_available": {}}, ["best_available.count"]),
    ("best of zero", {"best_available": {"count": 0}}, ["best_available.count"]),
    ("best of 51", {"best_available": {"count": 51}}, ["best_available.count"]),
    ("best of 2^63", {"best_available": {"count": TWO_TO_63}}, ["best_available.count"]),
    ("best of true", {"best_available": {"count": True}}, ["best_available.count"]),
    ("a list for a wish", {"best_available": []}, ["best_available"]),
    ("null for a wish", {"best_available": None}, ["best_available"]),
    ("an unknown category", {"best_available": {"count": 1, "category": "Moon"}},
     ["best_available.category"]),
    ("a zero character in a category", {"best_available": {"count": 1, "category": "\0"}},
     ["best_available.category"]),
    ("more accessible seats than seats", {"best_available": {"count": 1, "accessible": 2}},
     ["best_available.count"]),
    ("companions of nobody", {"best_available": {"count": 2, "companions": 1}},
     ["best_available.companions"]),
    ("an unknown rule", {"best_available": {"count": 1, "orphan_rule": "x"}},
     ["best_available.orphan_rule"]),
    ("an unknown member of a wish", {"best_available": {"count": 1, "rank": 1}},
     ["best_available.rank"]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "body", "fields"), WRONG, ids=[case[0] for case in WRONG])
async def test_a_wrong_hold_request_names_the_field(
    booking: httpx.AsyncClient, show_id: ShowId, name: str, body: object, fields: list[str]
) -> None:
    answer = await send(booking, "POST", f"/shows/{show_id}/holds", json.dumps(body))
    assert (answer.status_code, code_of(answer)) == (422, "invalid_request")
    assert fields_of(answer) == fields
    assert len(answer.content) < 5_000


@pytest.mark.parametrize(
    ("stops", "fields"),
    [
        ({"from": "PCE", "to": "KOL"}, ["to"]),
        ({"from": "PCE", "to": "PCE"}, ["to"]),
        ({"from": "OVA"}, ["from"]),
        ({"to": "PRG"}, ["to"]),
        ({"from": "XXX"}, ["from"]),
        ({"from": "XXX", "to": "YYY"}, ["from", "to"]),
        ({"from": "PRG\0"}, ["from"]),
        ({"from": ""}, ["from"]),
        ({"to": "é" * 300}, ["to"]),
    ],
)
async def test_a_wrong_segment_names_the_stop(
    booking: httpx.AsyncClient,
    browse: httpx.AsyncClient,
    run_id: ShowId,
    stops: dict[str, str],
    fields: list[str],
) -> None:
    for body in ({"seats": ["Coach-1-1"]}, {"best_available": {"count": 1}}):
        content = json.dumps({**body, **stops})
        answer = await send(booking, "POST", f"/shows/{run_id}/holds", content)
        assert (answer.status_code, code_of(answer)) == (422, "invalid_request")
        assert fields_of(answer) == fields
    for path in ("", "/seat-map"):
        answer = await browse.get(f"/shows/{run_id}{path}", params=stops)
        assert answer.status_code in (400, 422)
        assert fields_of(answer) == fields


async def test_stops_of_a_show_without_stops_are_refused_in_browsing(
    browse: httpx.AsyncClient, show_id: ShowId
) -> None:
    for path in ("", "/seat-map"):
        answer = await browse.get(f"/shows/{show_id}{path}", params={"from": "PRG"})
        assert (answer.status_code, fields_of(answer)) == (422, ["from"])


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, ["payment"]),
        ({"payment": "card"}, ["payment"]),
        ({"payment": 1}, ["payment"]),
        ({"payment": None}, ["payment"]),
        ({"payment": "counter\0"}, ["payment"]),
        ({"payment": "counter", "amount_minor": 1}, ["amount_minor"]),
    ],
)
async def test_a_wrong_confirmation_names_the_field(
    booking: httpx.AsyncClient, show_id: ShowId, body: object, fields: list[str]
) -> None:
    _, address = hold_addresses(show_id)[2]
    answer = await send(booking, "POST", address, json.dumps(body))
    assert (answer.status_code, fields_of(answer)) == (422, fields)


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({"provider": "paypal"}, ["provider"]),
        ({"provider": 1}, ["provider"]),
        ({"accepts_equivalent": "yes"}, ["accepts_equivalent"]),
        ({"promo_code": ""}, ["promo_code"]),
        ({"promo_code": "x" * 101}, ["promo_code"]),
        ({"amount_minor": 1, "currency": "EUR"}, ["amount_minor", "currency"]),
    ],
)
async def test_paying_has_a_closed_schema(
    booking: httpx.AsyncClient, show_id: ShowId, body: object, fields: list[str]
) -> None:
    method, address = hold_addresses(show_id)[5]
    answer = await send(booking, method, address, json.dumps(body))
    assert (answer.status_code, fields_of(answer)) == (422, fields)


async def test_routes_that_need_no_body_refuse_one_with_content(
    booking: httpx.AsyncClient, show_id: ShowId
) -> None:
    for method, address in (hold_addresses(show_id)[i] for i in (1, 3, 4)):
        answer = await send(booking, method, address, b'{"customer_id": "bob"}')
        assert (answer.status_code, fields_of(answer)) == (422, ["customer_id"])
        assert (await send(booking, method, address, b"{}")).status_code == 404


async def test_an_empty_body_is_no_hold(booking: httpx.AsyncClient, show_id: ShowId) -> None:
    for position in (0, 2):
        method, address = hold_addresses(show_id)[position]
        answer = await send(booking, method, address, b"")
        assert (answer.status_code, code_of(answer)) == (400, "malformed_json")


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/xml", "application/jsonx", "application/json; charset=latin-1",
     "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "", "é"],
)  # fmt: skip
async def test_only_json_is_taken(
    booking: httpx.AsyncClient, show_id: ShowId, content_type: str
) -> None:
    for method, address in hold_addresses(show_id):
        headers = {**as_seller("ann"), "Content-Type": content_type}
        raw = {name: value.encode("utf-8") for name, value in headers.items()}
        answer = await booking.request(method, address, content=b'{"a": 1}', headers=raw)
        assert (answer.status_code, code_of(answer)) == (415, "unsupported_media_type")


async def test_a_compressed_body_is_refused(booking: httpx.AsyncClient, show_id: ShowId) -> None:
    answer = await send(booking, "POST", f"/shows/{show_id}/holds", b"{}", Content_Encoding="gzip")
    assert (answer.status_code, code_of(answer)) == (415, "unsupported_media_type")


async def test_json_with_a_charset_is_json(booking: httpx.AsyncClient, show_id: ShowId) -> None:
    for content_type in ("application/json; charset=utf-8", 'Application/JSON;charset="UTF-8"'):
        answer = await send(
            booking, "POST", f"/shows/{show_id}/holds", b"{}", Content_Type=content_type
        )
        assert answer.status_code == 422


async def test_a_large_body_is_refused_whether_it_is_announced_or_not(
    booking: httpx.AsyncClient, browse: httpx.AsyncClient, show_id: ShowId
) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield b" " * 16_384

    megabyte = b'{"seats": [' + b'"A",' * 262_144 + b'"A"]}'
    for method, address in hold_addresses(show_id):
        for content in (megabyte, chunks()):
            answer = await send(booking, method, address, content)
            assert (answer.status_code, code_of(answer)) == (413, "body_too_large")
            assert answer.headers["connection"] == "close"
    edge = b'{"seats": [' + b" " * (BODY_BYTES_MAX - 13) + b"]}"
    assert len(edge) == BODY_BYTES_MAX
    assert (await send(booking, "POST", f"/shows/{show_id}/holds", edge)).status_code == 422
    answer = await send(booking, "POST", f"/shows/{show_id}/holds", edge + b" ")
    assert answer.status_code == 413
    answer = await browse.request("GET", f"/shows/{show_id}", content=megabyte)
    assert (answer.status_code, code_of(answer)) == (413, "body_too_large")


async def test_numbers_of_thousands_of_digits_are_no_numbers(
    booking: httpx.AsyncClient, show_id: ShowId
) -> None:
    for digits in (MANY_DIGITS, b"-" + MANY_DIGITS, b"0." + MANY_DIGITS, b"1e" + MANY_DIGITS):
        content = b'{"admissions": [{"tier": "lawn", "count": ' + digits + b"}]}"
        answer = await send(booking, "POST", f"/shows/{show_id}/holds", content)
        assert answer.status_code in (400, 422)


@pytest.mark.parametrize(
    "key", [b"", b" ", b"two words", b"a\x7f", b"k" * 256, "ключ".encode(), b"\xff", b"tab\tkey"]
)
async def test_a_broken_idempotency_key_is_refused_everywhere(
    booking: httpx.AsyncClient, show_id: ShowId, key: bytes
) -> None:
    headers: list[tuple[bytes, bytes]] = [
        (b"Authorization", selling("ann")["Authorization"].encode()),
        (b"Content-Type", b"application/json"),
        (b"Idempotency-Key", key),
    ]
    for method, address in hold_addresses(show_id):
        answer = await booking.request(method, address, content=b"{}", headers=headers)
        assert (answer.status_code, code_of(answer)) == (400, "invalid_header")
        assert fields_of(answer) == ["Idempotency-Key"]


async def test_a_hold_needs_one_idempotency_key(
    booking: httpx.AsyncClient, show_id: ShowId
) -> None:
    address = f"/shows/{show_id}/holds"
    body = {"seats": ["Stalls-A-1"]}
    missing = await booking.post(address, json=body, headers=selling("ann"))
    assert (missing.status_code, code_of(missing)) == (400, "idempotency_key_missing")
    two = [*selling("ann").items(), ("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    answer = await booking.post(address, json=body, headers=two)
    assert (answer.status_code, fields_of(answer)) == (400, ["Idempotency-Key"])


NOT_TEXT = ["%00", "%FF", "%ED%A0%80", "%C0%80", "a%00b"]


@pytest.mark.parametrize("text", NOT_TEXT)
async def test_an_address_that_is_no_text_is_refused(
    booking: httpx.AsyncClient, browse: httpx.AsyncClient, text: str
) -> None:
    for client, method, address in (
        (booking, "POST", f"/shows/{text}/holds"),
        (booking, "GET", f"/holds/{text}"),
        (booking, "DELETE", f"/holds/{text}"),
        (booking, "GET", f"/bookings/{text}"),
        (browse, "GET", f"/shows/{text}"),
        (browse, "GET", f"/shows/{text}/seat-map"),
    ):
        answer = await client.request(method, address, headers=as_seller("ann"))
        assert (answer.status_code, code_of(answer)) == (400, "invalid_target")
        assert fields_of(answer) == ["path"]


@pytest.mark.parametrize("text", NOT_TEXT)
async def test_a_query_that_is_no_text_is_refused(
    booking: httpx.AsyncClient, browse: httpx.AsyncClient, run_id: ShowId, text: str
) -> None:
    for client, address, name in (
        (browse, "/shows", "q"),
        (browse, "/shows", "kind"),
        (browse, "/shows", "from"),
        (browse, "/shows", "to"),
        (browse, "/shows", "date"),
        (browse, "/shows", "starts_from"),
        (browse, "/shows", "limit"),
        (browse, "/shows", "cursor"),
        (browse, "/stops", "q"),
        (browse, f"/shows/{run_id}", "from"),
        (browse, f"/shows/{run_id}/seat-map", "labels"),
        (booking, "/bookings", "cursor"),
        (booking, "/bookings", "limit"),
    ):
        answer = await client.get(f"{address}?{name}={text}", headers=selling("ann"))
        assert (answer.status_code, code_of(answer)) == (400, "invalid_target")
        assert fields_of(answer) == [name]
    answer = await browse.get(f"/shows?{text}=1")
    assert answer.status_code == 400


async def test_a_parameter_that_is_given_twice_is_refused(browse: httpx.AsyncClient) -> None:
    answer = await browse.get("/shows?limit=1&limit=2")
    assert (answer.status_code, fields_of(answer)) == (400, ["limit"])


@pytest.mark.parametrize(
    "limit", ["0", "101", "-1", "abc", "", "1.0", "1_0", "+1", " 1", "1e1", "٣", str(TWO_TO_63)]
)
async def test_a_wrong_limit_is_refused_everywhere(
    booking: httpx.AsyncClient, browse: httpx.AsyncClient, limit: str
) -> None:
    customer = selling("ann")
    for client, address, more in (
        (browse, "/shows", {}),
        (browse, "/stops", {"q": "a"}),
        (booking, "/bookings", {}),
    ):
        answer = await client.get(address, params={**more, "limit": limit}, headers=customer)
        assert (answer.status_code, fields_of(answer)) == (422, ["limit"])


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "%%%",
        "!!!!",
        "A" * 201,
        "W10",  # []
        "bnVsbA",  # null
        "WzEsMl0",  # [1,2]
        "WyIxIiwiYSJd",  # ["1","a"]
        "W3RydWUsInNod18wMDAwMDAwMDAwMDAwMDAwIl0",  # [true,"shw_0000000000000000"]
        "WzkyMjMzNzIwMzY4NTQ3NzU4MDgsInNod18wMDAwMDAwMDAwMDAwMDAwIl0",  # 2^63
        "WzEsImFcdTAwMDBiIl0",  # [1,"a\0b"]
        "WzEsIm90aGVyIl0",  # [1,"other"]
    ],
)
async def test_a_cursor_that_was_never_given_out_is_refused(
    booking: httpx.AsyncClient, browse: httpx.AsyncClient, cursor: str
) -> None:
    for client, address in ((browse, "/shows"), (booking, "/bookings")):
        answer = await client.get(address, params={"cursor": cursor}, headers=selling("ann"))
        assert (answer.status_code, fields_of(answer)) == (422, ["cursor"])


@pytest.mark.parametrize(
    ("parameters", "fields"),
    [
        ({"colour": "red"}, ["colour"]),
        ({"q": "a" * 301}, ["q"]),
        ({"kind": "opera"}, ["kind"]),
        ({"from": "a" * 301}, ["from"]),
        ({"date": "tomorrow"}, ["date"]),
        ({"date": "2026-02-30"}, ["date"]),
        ({"date": "2026-1-1"}, ["date"]),
        ({"date": "9999-12-31"}, ["date"]),
        ({"date": "1790000000"}, ["date"]),
        ({"starts_from": "2026-09-21"}, ["starts_from"]),
        ({"starts_from": "2026-09-21T10:00:00"}, ["starts_from"]),
        ({"starts_from": "2026-09-21T10:00:00 01:00"}, ["starts_from"]),
        ({"starts_from": "2026-09-21T25:00:00Z"}, ["starts_from"]),
        ({"starts_before": "9999-12-31T23:59:59-23:59"}, ["starts_before"]),
        ({"starts_before": "0001-01-01T00:00:00+23:59"}, ["starts_before"]),
        ({"starts_before": "1790000000000"}, ["starts_before"]),
        ({"date": "2026-09-21", "starts_from": "2026-09-21T10:00:00Z"}, ["query"]),
    ],
)
async def test_a_wrong_search_names_the_parameter(
    browse: httpx.AsyncClient, parameters: dict[str, str], fields: list[str]
) -> None:
    answer = await browse.get("/shows", params=parameters)
    assert (answer.status_code, code_of(answer)) == (422, "invalid_request")
    assert fields_of(answer) == fields


async def test_other_wrong_parameters_are_named(
    booking: httpx.AsyncClient, browse: httpx.AsyncClient, show_id: ShowId
) -> None:
    for client, address, fields in (
        (browse, "/stops", ["q"]),
        (browse, "/stops?q=a&x=1", ["x"]),
        (browse, f"/stops?q={'a' * 301}", ["q"]),
        (browse, f"/shows/{show_id}?x=1", ["x"]),
        (browse, f"/shows/{show_id}/seat-map?labels=1", ["labels"]),
        (browse, f"/shows/{show_id}/seat-map?labels=True", ["labels"]),
        (booking, "/bookings?x=1", ["x"]),
    ):
        answer = await client.get(address, headers=selling("ann"))
        assert (answer.status_code, fields_of(answer)) == (422, fields)


async def test_what_is_not_there_and_what_is_not_done_there_are_problems(
    booking: httpx.AsyncClient, browse: httpx.AsyncClient, show_id: ShowId
) -> None:
    for client in (booking, browse):
        for address in ("/nothing", "", "/", "/healthz/", "/docs", "/redoc", "/shows/"):
            answer = await client.get(address)
            assert (answer.status_code, code_of(answer)) == (404, "not_found"), address
        for method in ("PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "POST", "BREW"):
            answer = await client.request(method, "/healthz")
            assert (answer.status_code, code_of(answer)) == (405, "method_not_allowed")
            assert answer.headers["allow"] == "GET"
    for bad_id in ("x", "shw_", "shw_" + "0" * 17, "shw_ůůůůůůůůůůůůůůůů", "..", "a" * 5_000):
        answer = await browse.get(f"/shows/{bad_id}/seat-map")
        assert answer.status_code == 404


async def test_a_search_for_anything_at_all_is_answered(browse: httpx.AsyncClient) -> None:
    for text in ("'", "''; DROP TABLE show; --", "\\", "a & b | !c:*", "%", "\u202e", "🎭", "\x01"):
        assert (await browse.get("/shows", params={"q": text})).status_code == 200
        assert (await browse.get("/shows", params={"from": text})).status_code == 200
        assert (await browse.get("/stops", params={"q": text})).status_code == 200
