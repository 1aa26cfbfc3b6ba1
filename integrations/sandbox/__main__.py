"""``python -m integrations.sandbox --port 0``: serve, and print the URLs as one line of JSON."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path

import orjson
import uvicorn

from integrations.sandbox.app import Sandbox
from integrations.sandbox.settings import (
    PUBLISHABLE_KEY,
    RAZORPAY_KEY_ID,
    RAZORPAY_KEY_SECRET,
    SECRET_KEY,
    Keys,
)

HOST = "127.0.0.1"
_BACKLOG = 2_048


def read_keys(path: Path) -> Keys:
    """The keys in a file of JSON, which may say more than that."""
    content = orjson.loads(path.read_bytes())
    return Keys(**{each.name: content[each.name] for each in fields(Keys)})


def listen(port: int) -> socket.socket:
    """A listening socket, on this machine only; port 0 means any that is free."""
    # The protocol is named because only then does asyncio send small answers at once.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((HOST, port))
    listener.listen(_BACKLOG)
    return listener


def url_of(listener: socket.socket) -> str:
    """The URL of what listens there."""
    return f"http://{HOST}:{listener.getsockname()[1]}"


def make_server(sandbox: Sandbox) -> uvicorn.Server:
    """A server for it. Calls that hang on purpose do not hold up its end."""
    config = uvicorn.Config(
        sandbox,
        log_level="warning",
        access_log=False,
        lifespan="on",
        timeout_graceful_shutdown=1,
        server_header=False,
        date_header=False,
        proxy_headers=False,
    )
    return uvicorn.Server(config)


async def until_started(server: uvicorn.Server, serving: asyncio.Task[None]) -> None:
    """Return once the server answers, or has ended."""
    while not server.started and not serving.done():  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.002)


def describe(sandbox: Sandbox) -> dict[str, str]:
    """What whoever starts the sandbox needs to know."""
    return {
        "url": sandbox.url,
        "stripe_url": f"{sandbox.url}/stripe",
        "razorpay_url": f"{sandbox.url}/razorpay",
        "control_url": f"{sandbox.url}/sandbox",
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until a signal says otherwise."""
    options = _parser().parse_args(arguments)
    if options.keys_file is not None:
        keys = read_keys(options.keys_file)
    else:
        keys = Keys(
            options.secret_key,
            options.publishable_key,
            options.razorpay_key_id,
            options.razorpay_key_secret,
        )
    listener = listen(options.port)
    sandbox = Sandbox(url_of(listener), options.state, keys)
    server = make_server(sandbox)
    if options.until_stdin_closes:
        _end_with_stdin(server)
    described = orjson.dumps(describe(sandbox)).decode()
    with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
        runner.run(_serve(server, listener, lambda: _announce(described, options.url_file)))
    return 0


async def _serve(
    server: uvicorn.Server, listener: socket.socket, announce: Callable[[], None]
) -> None:
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    await until_started(server, serving)
    if server.started:
        announce()
    # A signal ends ``serve``, which then passes it on to this process.
    with contextlib.suppress(KeyboardInterrupt):
        await serving


def _announce(described: str, url_file: Path | None) -> None:
    print(described, flush=True)
    if url_file is not None:
        unfinished = url_file.with_name(f".{url_file.name}.{os.getpid()}")
        unfinished.write_text(described + "\n")
        unfinished.replace(url_file)


def _end_with_stdin(server: uvicorn.Server) -> None:
    def wait() -> None:
        while sys.stdin.buffer.read(4_096):
            pass
        server.should_exit = True

    threading.Thread(target=wait, name="until stdin closes", daemon=True).start()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m integrations.sandbox",
        description="A payment provider for this machine: Stripe's and Razorpay's HTTP.",
    )
    parser.add_argument("--port", type=int, default=0, help="on 127.0.0.1; 0 means any free one")
    parser.add_argument("--state", type=Path, help="a directory to remember things in")
    parser.add_argument("--url-file", type=Path, help="also write the URLs into this file")
    parser.add_argument(
        "--until-stdin-closes",
        action="store_true",
        help="end when the other end of standard input is closed, so with whoever started it",
    )
    parser.add_argument(
        "--keys-file",
        type=Path,
        help="JSON with the keys below, in underscores: everybody can read arguments",
    )
    parser.add_argument("--secret-key", default=SECRET_KEY)
    parser.add_argument("--publishable-key", default=PUBLISHABLE_KEY)
    parser.add_argument("--razorpay-key-id", default=RAZORPAY_KEY_ID)
    parser.add_argument("--razorpay-key-secret", default=RAZORPAY_KEY_SECRET)
    return parser


if __name__ == "__main__":
    sys.exit(main())
