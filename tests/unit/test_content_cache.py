"""Content in memory: one object for all, loaded once, bounded."""

import asyncio

import pytest

from persistence.content_cache import ContentCache


class SlowShelf:
    """Loads a list of one text when it is let, and counts how often it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.open = asyncio.Event()
        self.missing: set[str] = set()
        self.broken: set[str] = set()

    async def load(self, content_id: str) -> list[str] | None:
        self.asked.append(content_id)
        await self.open.wait()
        if content_id in self.broken:
            raise OSError(content_id)
        return None if content_id in self.missing else [content_id]


def weight_of(content: list[str]) -> int:
    return len(content[0])


async def test_many_who_ask_at_once_get_one_object_that_was_loaded_once() -> None:
    shelf, cache = SlowShelf(), ContentCache[list[str]](100, weight_of)
    asking = [asyncio.create_task(cache.get("a", shelf.load)) for _ in range(50)]
    await asyncio.sleep(0)
    shelf.open.set()
    contents = await asyncio.gather(*asking)
    contents.append(await cache.get("a", shelf.load))
    assert len({id(content) for content in contents}) == 1
    assert shelf.asked == ["a"]


async def test_one_who_gives_up_does_not_disturb_the_others() -> None:
    shelf, cache = SlowShelf(), ContentCache[list[str]](100, weight_of)
    first = asyncio.create_task(cache.get("a", shelf.load))
    second = asyncio.create_task(cache.get("a", shelf.load))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    assert first.cancelled()
    shelf.open.set()
    assert await second == ["a"]
    assert shelf.asked == ["a"]


async def test_what_is_missing_or_fails_is_asked_for_again() -> None:
    shelf, cache = SlowShelf(), ContentCache[list[str]](100, weight_of)
    shelf.open.set()
    shelf.missing.add("a")
    assert await cache.get("a", shelf.load) is None
    shelf.missing.clear()
    shelf.broken.add("a")
    for _ in range(2):
        with pytest.raises(OSError, match="a"):
            await cache.get("a", shelf.load)
    shelf.broken.clear()
    assert await cache.get("a", shelf.load) == ["a"]
    assert len(shelf.asked) == 4


async def test_the_least_recently_used_leave_when_the_weight_is_reached() -> None:
    shelf, cache = SlowShelf(), ContentCache[list[str]](6, weight_of)
    shelf.open.set()
    for content_id in ("aa", "bb", "cc", "aa", "dd"):
        await cache.get(content_id, shelf.load)
    assert len(cache) == 3
    shelf.asked.clear()
    for content_id in ("aa", "cc", "dd", "bb"):
        await cache.get(content_id, shelf.load)
    assert shelf.asked == ["bb"]


async def test_content_heavier_than_the_bound_is_kept_alone() -> None:
    shelf, cache = SlowShelf(), ContentCache[list[str]](3, weight_of)
    shelf.open.set()
    await cache.get("a", shelf.load)
    heavy = await cache.get("heavy", shelf.load)
    assert len(cache) == 1
    assert await cache.get("heavy", shelf.load) is heavy
