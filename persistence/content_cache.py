"""Immutable content in memory: loaded once for all who want it, bounded by its size."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_Content = TypeVar("_Content")


class ContentCache(Generic[_Content]):
    """The most recently used content, by its id.

    What is promised:
        As long as an id stays in the cache everybody gets the same object.
        Content that many ask for at once is loaded once; one of them giving up does not
        disturb the others.
        The weights of what is kept add up to ``weight_max`` at most, except that the latest
        content is always kept.
        An id that is unknown, or whose loading failed, is asked for again the next time.

    It belongs to one event loop.
    """

    def __init__(self, weight_max: int, weight_of: Callable[[_Content], int]) -> None:
        self._weight_max = weight_max
        self._weight_of = weight_of
        self._weight = 0
        self._contents: OrderedDict[str, _Content] = OrderedDict()
        self._loading: dict[str, asyncio.Task[_Content | None]] = {}

    def __len__(self) -> int:
        return len(self._contents)

    async def get(
        self, content_id: str, load: Callable[[str], Awaitable[_Content | None]]
    ) -> _Content | None:
        """The content called ``content_id``, from memory or from ``load``.

        Raises:
            whatever ``load`` raises, to all who were waiting for it.
        """
        content = self._contents.get(content_id)
        if content is not None:
            self._contents.move_to_end(content_id)
            return content
        task = self._loading.get(content_id)
        if task is None:
            task = asyncio.create_task(self._load(content_id, load))
            self._loading[content_id] = task
        return await asyncio.shield(task)

    async def _load(
        self, content_id: str, load: Callable[[str], Awaitable[_Content | None]]
    ) -> _Content | None:
        try:
            content = await load(content_id)
        finally:
            del self._loading[content_id]
        if content is not None:
            self._contents[content_id] = content
            self._weight += self._weight_of(content)
            while self._weight > self._weight_max and len(self._contents) > 1:
                _, oldest = self._contents.popitem(last=False)
                self._weight -= self._weight_of(oldest)
        return content
