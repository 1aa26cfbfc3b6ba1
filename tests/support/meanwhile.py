"""Stories that mostly wait, told while the other tests of a file go on.

All tests share one event loop, so what one of them has begun goes on during the next ones.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest


@asynccontextmanager
async def begun(
    request: pytest.FixtureRequest, test: str, story: Callable[[], Awaitable[None]]
) -> AsyncIterator[asyncio.Future[None]]:
    """A story that has begun, for the test of this name to wait for; not when that will not run."""
    if not any(item.name == test for item in request.session.items):
        yield asyncio.get_running_loop().create_future()
        return
    told = asyncio.ensure_future(story())
    yield told
    told.cancel()
    await asyncio.wait([told])
