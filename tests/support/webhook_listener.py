"""An HTTP server of a test's own that takes webhooks and keeps them."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

_TIMEOUT_S = 10


class Taken(NamedTuple):
    """One delivery. Names of headers are in lower case."""

    body: bytes
    headers: dict[str, str]


class WebhookListener:
    """Answers 200, or what ``answers`` says next."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.taken: list[Taken] = []
        self.answers: list[int] = []
        self._changed = threading.Condition()

    def take(self, delivery: Taken) -> int:
        with self._changed:
            self.taken.append(delivery)
            self._changed.notify_all()
            return self.answers.pop(0) if self.answers else 200

    def wait_until(self, is_enough: Callable[[list[Taken]], bool]) -> list[Taken]:
        """What was taken, once it is enough."""
        deadline = time.monotonic() + _TIMEOUT_S
        with self._changed:
            while not is_enough(self.taken):
                left = deadline - time.monotonic()
                assert left > 0, f"only {len(self.taken)} deliveries came"
                self._changed.wait(left)
            return list(self.taken)


@contextlib.contextmanager
def webhook_listener() -> Iterator[WebhookListener]:
    """A listener on a free port, for as long as the block lasts."""
    listener: WebhookListener

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            status = listener.take(Taken(body, headers))
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    listener = WebhookListener(f"http://127.0.0.1:{server.server_address[1]}/webhook")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield listener
    finally:
        server.shutdown()
        server.server_close()
