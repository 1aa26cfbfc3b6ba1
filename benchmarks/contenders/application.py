"""The usual ways over HTTP: one FastAPI application on plain uvicorn, as lean as ours.

    POST /{contender}/shows/{number}/holds      {"seats": [12, 13]}
        X-Customer-Id, Idempotency-Key          201 with the hold, 409 with the reason

It checks what ours checks of a hold, reads bare requests with the same JSON library as ours, and
is spared what ours must do besides: seats are numbers already, there are no fares, no plans and
no rules of sale.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg
import orjson
from fastapi import FastAPI, Request, Response
from redis.asyncio import Redis

from benchmarks.contenders.contender import HOLD_TTL_MS, Held
from benchmarks.contenders.line_up import OTHERS, make_contender
from benchmarks.contenders.place_tables import PlaceRequest, PlaceTables, open_contender_pool
from benchmarks.contenders.redlock import open_lock_server

SEATS_PER_HOLD_MAX = 50


@dataclass(frozen=True, slots=True)
class Stores:
    """Where the application finds its database and its locks; a part of the pool is its own."""

    dsn: str
    redis_url: str
    pool_size: int


class _Desk:
    """The pool of one process, and its contenders; opened when the application starts."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self._redis: Redis | None = None
        self.contenders: dict[str, PlaceTables] = {}

    @asynccontextmanager
    async def opened(self, _: FastAPI) -> AsyncIterator[None]:
        """The lifespan."""
        self._pool = await open_contender_pool(self._stores.dsn, size=self._stores.pool_size)
        self._redis = open_lock_server(self._stores.redis_url)
        for name in OTHERS:
            self.contenders[name] = make_contender(name, self._pool, self._redis)
        yield
        await self._redis.aclose()
        await self._pool.close()


def hold_id_of(show: str, customer_id: str, key: str) -> str:
    """The same request has the same hold."""
    digest = hashlib.blake2b(f"{show}\0{customer_id}\0{key}".encode(), digest_size=16)
    return f"hld_{digest.hexdigest()}"


def build_application(stores: Stores) -> FastAPI:
    """The application of one process."""
    desk = _Desk(stores)
    app = FastAPI(lifespan=desk.opened, openapi_url=None)
    for name in OTHERS:
        app.add_api_route(f"/{name}/shows/{{show}}/holds", _holder(desk, name), methods=["POST"])
    app.add_api_route("/healthz", _healthz, methods=["GET"])
    return app


async def _healthz() -> Response:
    return Response(b'{"status":"ok"}', media_type="application/json")


def _holder(desk: _Desk, name: str) -> Callable[[Request], Awaitable[Response]]:
    async def hold(request: Request) -> Response:
        customer_id = request.headers.get("x-customer-id")
        key = request.headers.get("idempotency-key")
        if not customer_id or not key:
            return _json(400, {"error": "X-Customer-Id and Idempotency-Key are needed"})
        seats = _seats_of(await request.body())
        if seats is None:
            return _json(422, {"error": "seats: must be different numbers, at least one"})
        show: str = request.path_params["show"]
        hold_id = hold_id_of(show, customer_id, key)
        contender: Any = desk.contenders[name]
        answer = await contender.hold(
            PlaceRequest(int(show), hold_id, customer_id, seats, HOLD_TTL_MS)
        )
        if isinstance(answer, Held):
            content = {"hold_id": hold_id, "seats": seats, "expires_at_ms": answer.expires_at_ms}
            return _json(201, content)
        return _json(409, {"error": answer.value})

    return hold


def _seats_of(body: bytes) -> list[int] | None:
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    seats = content.get("seats") if isinstance(content, dict) else None
    if not isinstance(seats, list) or not 0 < len(seats) <= SEATS_PER_HOLD_MAX:
        return None
    if not all(type(seat) is int and seat >= 0 for seat in seats):
        return None
    return sorted(seats) if len(set(seats)) == len(seats) else None


def _json(status: int, content: dict[str, object]) -> Response:
    return Response(orjson.dumps(content), status, media_type="application/json")
