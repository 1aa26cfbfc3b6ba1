"""What was made for one reader, kept for the next: the latest of it, bounded by its size."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, NamedTuple, Protocol, TypeVar


class Sized(Protocol):
    """Anything that knows how much memory it takes."""

    @property
    def size_bytes(self) -> int:
        """About how much."""
        ...


_Key = TypeVar("_Key", bound=Hashable)
_Kept = TypeVar("_Kept", bound=Sized)


class KeptBody(NamedTuple):
    """A response's body and its entity tag. ``kept_at_s`` is by the event loop's clock."""

    etag: str
    body: bytes
    kept_at_s: float

    @property
    def size_bytes(self) -> int:
        """See ``Sized``."""
        return len(self.body)


class KeptBytes(Generic[_Key, _Kept]):
    """The most recently used, ``bytes_max`` in all. Whether one is still true is not its matter."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._all: OrderedDict[_Key, _Kept] = OrderedDict()

    def find(self, key: _Key) -> _Kept | None:
        """What is kept under this key."""
        kept = self._all.get(key)
        if kept is not None:
            self._all.move_to_end(key)
        return kept

    def keep(self, key: _Key, kept: _Kept) -> None:
        """Keep this instead of the one before it; what is too large is not kept."""
        before = self._all.pop(key, None)
        if before is not None:
            self._bytes -= before.size_bytes
        if kept.size_bytes > self._bytes_max:
            return
        self._all[key] = kept
        self._bytes += kept.size_bytes
        while self._bytes > self._bytes_max:
            _, oldest = self._all.popitem(last=False)
            self._bytes -= oldest.size_bytes
