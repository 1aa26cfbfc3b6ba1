"""An application with two ways to its handlers: the framework's, and a short one.

The short way is for what ``DirectRoutes`` finds. It has the same layers as the framework's way,
built once more around the handlers alone, so that nothing but the framework is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from serve_app.api.direct_routes import DirectRoutes


class Api(FastAPI):
    """A framework's application in these layers, the outermost first.

    Routes must be complete before the first request.
    """

    def __init__(self, layers: Sequence[Middleware], **options: Any) -> None:
        super().__init__(middleware=layers, **options)
        self._layers = layers
        self._direct: DirectRoutes | None = None
        self._short_way: ASGIApp | None = None

    def takes(self, scope: Scope, path: str) -> bool:
        """Whether ``answer_shortly`` may be asked; ``path`` is the address in this application."""
        if self._direct is None:
            self._direct = DirectRoutes(self.router.routes)
            self._short_way = self._direct
            for kind, arguments, options in reversed(self._layers):
                self._short_way = kind(self._short_way, *arguments, **options)
        return self._direct.finds(scope, path)

    async def answer_shortly(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request that ``takes`` said yes to."""
        assert self._short_way is not None
        await self._short_way(scope, receive, send)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the lifespan."""
        if scope["type"] == "http" and self.takes(scope, _path_of(scope)):
            await self.answer_shortly(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


def _path_of(scope: Scope) -> str:
    """The address within this application."""
    path: str = scope["path"]
    root_path: str = scope.get("root_path", "")
    return path[len(root_path) :] if root_path and path.startswith(root_path) else path
