"""The HTTP applications over a real database, served on a port of this process.

For programs that speak HTTP: everything runs in a thread with an event loop of its own, behind the
same server that reads requests in a house.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass

import uvicorn
from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from serve_app.api.problems import Problem
from tests.support.http_house import House, open_house

START_S = 60
STOP_S = 20


@dataclass
class Prepared:
    """What is served: applications by their prefix."""

    apps: dict[str, FastAPI]


Prepare = Callable[[House, AsyncExitStack], Awaitable[Prepared]]


@dataclass(frozen=True)
class ServedApis:
    """Where they answer."""

    url: str


class _Prefixes:
    """Passes a request on to the application of its prefix, as Serve does."""

    def __init__(self, apps: Mapping[str, FastAPI]) -> None:
        self._apps = apps

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        for prefix, app in self._apps.items():
            if scope["path"].startswith(f"{prefix}/"):
                await app({**scope, "root_path": prefix}, receive, send)
                return
        await Problem("not_found", "No application is here.").response()(scope, receive, send)


@contextmanager
def served_apis(dsn: str, prepare: Prepare) -> Iterator[ServedApis]:
    """Serve what ``prepare`` makes over the house in this database, until the context ends."""
    # With its protocol said: asyncio turns off Nagle's delay for no other socket, and every answer
    # on a connection that is kept would come 40 ms late.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    started = threading.Event()
    failed: list[BaseException] = []
    server: list[uvicorn.Server] = []

    async def serve() -> None:
        async with AsyncExitStack() as opened:
            house = await opened.enter_async_context(open_house(dsn))
            made = await prepare(house, opened)
            for app in made.apps.values():
                await opened.enter_async_context(app.router.lifespan_context(app))
            config = uvicorn.Config(
                _Prefixes(made.apps), lifespan="off", log_level="warning", access_log=False
            )
            server.append(uvicorn.Server(config))
            started.set()
            await server[0].serve(sockets=[listener])

    def run() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:
            failed.append(error)
            started.set()

    thread = threading.Thread(target=run, name="served-apis", daemon=True)
    thread.start()
    assert started.wait(START_S), "the applications did not start in time"
    if failed:
        raise failed[0]
    try:
        yield ServedApis(f"http://127.0.0.1:{port}")
    finally:
        if server:
            server[0].should_exit = True
        thread.join(STOP_S)
        listener.close()
        if failed:
            raise failed[0]
