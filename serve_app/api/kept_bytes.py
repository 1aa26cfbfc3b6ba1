"""Response bodies kept for the next reader: the latest ones, bounded by their size."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, NamedTuple, TypeVar

_Key = TypeVar("_Key", bound=Hashable)


class KeptBody(NamedTuple):
    """A body and its entity tag. ``kept_at_s`` is by the event loop's clock."""

    etag: str
    body: bytes
    kept_at_s: float


class KeptBytes(Generic[_Key]):
    """The most recently used bodies, ``bytes_max`` in all. Whether one is still true is not its
    matter: the entity tag or the age tells.
    """

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._bodies: OrderedDict[_Key, KeptBody] = OrderedDict()

    def find(self, key: _Key) -> KeptBody | None:
        """The body kept under this key."""
        kept = self._bodies.get(key)
        if kept is not None:
            self._bodies.move_to_end(key)
        return kept

    def keep(self, key: _Key, kept: KeptBody) -> None:
        """Keep a body instead of the one before it; one that is too large is not kept."""
        before = self._bodies.pop(key, None)
        if before is not None:
            self._bytes -= len(before.body)
        if len(kept.body) > self._bytes_max:
            return
        self._bodies[key] = kept
        self._bytes += len(kept.body)
        while self._bytes > self._bytes_max:
            _, oldest = self._bodies.popitem(last=False)
            self._bytes -= len(oldest.body)
