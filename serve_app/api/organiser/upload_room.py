"""How many large bodies a process takes at once: each is megabytes of memory or disk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from serve_app.api.problems import Problem

_RETRY_AFTER_S = 5


class UploadRoom:
    """Places for uploads. Belongs to one event loop."""

    def __init__(self, places: int) -> None:
        self._free = places

    @contextmanager
    def place(self) -> Iterator[None]:
        """Keep a place.

        Raises:
            Problem: ``overloaded``: all are taken.
        """
        if not self._free:
            raise Problem(
                "overloaded",
                "Too many uploads at once. Nothing happened.",
                members={"retry": f"Repeat the request after {_RETRY_AFTER_S} s."},
                headers={"Retry-After": str(_RETRY_AFTER_S)},
            )
        self._free -= 1
        try:
            yield
        finally:
            self._free += 1
