"""A running sandbox provider for a test: in a thread, or as a program that can be killed.

    with running_sandbox() as sandbox:
        client = StripeClient(sandbox.secret_key, base_addresses={"api": sandbox.stripe_url})

The thread is up in milliseconds and enough for nearly everything. What a test says to the control
plane, ``control`` says: ``sandbox.control("POST", "faults", operation="stripe.*", kind="delay")``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from integrations.sandbox.__main__ import listen, make_server, until_started, url_of
from integrations.sandbox.app import Sandbox
from integrations.sandbox.settings import (
    PUBLISHABLE_KEY,
    RAZORPAY_KEY_ID,
    RAZORPAY_KEY_SECRET,
    SECRET_KEY,
)

CHECKOUT = Path(__file__).resolve().parents[2]
_TIMEOUT_S = 20


@dataclass(frozen=True)
class RunningSandbox:
    """Where it is, and the keys it accepts.

    ``process`` is there for a sandbox that runs as a program.
    """

    url: str
    process: subprocess.Popen[bytes] | None = None
    secret_key: str = SECRET_KEY
    publishable_key: str = PUBLISHABLE_KEY
    razorpay_auth: tuple[str, str] = (RAZORPAY_KEY_ID, RAZORPAY_KEY_SECRET)

    @property
    def stripe_url(self) -> str:
        return f"{self.url}/stripe"

    @property
    def razorpay_url(self) -> str:
        return f"{self.url}/razorpay"

    def control(self, method: str, path: str, /, **data: Any) -> Any:
        """Ask the control plane.

        Raises:
            AssertionError: it refused; the message says why.
        """
        request = urllib.request.Request(
            f"{self.url}/sandbox/{path}",
            json.dumps(data).encode() if method != "GET" else None,
            {"Content-Type": "application/json"},
            method=method,
        )
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{error.code} {error.read().decode()}") from None


@contextlib.contextmanager
def running_sandbox(
    state_directory: Path | None = None, *, as_program: bool = False, port: int = 0
) -> Iterator[RunningSandbox]:
    """A sandbox that ends with the block.

    Args:
        state_directory: where it remembers things for the next one.
        as_program: in a process of its own, which a test may kill.
    """
    started = _program(state_directory, port) if as_program else _thread(state_directory, port)
    with started as sandbox:
        yield sandbox


@contextlib.contextmanager
def _thread(state_directory: Path | None, port: int) -> Iterator[RunningSandbox]:
    listener = listen(port)
    url = url_of(listener)
    server = make_server(Sandbox(url, state_directory))
    is_up = threading.Event()

    async def serve() -> None:
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        await until_started(server, serving)
        is_up.set()
        await serving

    def run() -> None:
        with listener:
            asyncio.run(serve())

    thread = threading.Thread(target=run, name="sandbox", daemon=True)
    thread.start()
    assert is_up.wait(_TIMEOUT_S), "the sandbox did not start"
    try:
        yield RunningSandbox(url)
    finally:
        server.should_exit = True
        # It sees that within a tenth of a second, and takes another one. Only whoever is given its
        # state or its port needs it gone.
        if state_directory is not None or port:
            thread.join(_TIMEOUT_S)


@contextlib.contextmanager
def _program(state_directory: Path | None, port: int) -> Iterator[RunningSandbox]:
    command = [sys.executable, "-m", "integrations.sandbox", "--until-stdin-closes"]
    command += ["--port", str(port)]
    if state_directory is not None:
        command += ["--state", str(state_directory)]
    process = subprocess.Popen(
        command,
        cwd=CHECKOUT,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line, f"the sandbox ended with code {process.wait()} at its start"
        yield RunningSandbox(json.loads(line)["url"], process)
    finally:
        process.stdin.close()
        process.wait(_TIMEOUT_S)
        process.stdout.close()
