"""The handlers of those who come in crowds, found without trying patterns.

Commands come by the thousand a second and have one id in the second place of their addresses:
``/holds/{hold_id}/confirm``. The framework would find their route by trying one pattern after the
other, and pass them through layers that have nothing to do for them; that costs more than most
handlers. Here one look into a dictionary finds the handler.

Logins and the notices of payment providers come in crowds too, and every moment spent on them is
taken from those who buy. A route without an id can ask to be found here (``CrowdRoute``).

There is no second list of routes: the dictionary is made of those that the framework has. What a
handler raises becomes a problem in the same place, and whatever is not found here, wrong methods
and unknown addresses included, is the framework's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from starlette.requests import Request
from starlette.routing import BaseRoute
from starlette.types import Receive, Scope, Send

from reservation.faults import Fault
from serve_app.api.api_document import BareRoute, CrowdRoute, Handler
from serve_app.api.problems import Problem, response_to

_Key = tuple[str, str, str]

_FOUND = "housefull.handler"
_NO_PARTS = ("", "", "", "")


class DirectRoutes:
    """Pure ASGI for the requests that ``finds`` says yes to; see the module's docstring.

    ``routes`` are those of the framework, complete before the first request.
    """

    def __init__(self, routes: Iterable[BaseRoute]) -> None:
        self._handlers: dict[_Key, tuple[str, Handler]] = {}
        self._without_id: dict[tuple[str, str], Handler] = {}
        for route in routes:
            if isinstance(route, BareRoute):
                self._add(route)

    def _add(self, route: BareRoute) -> None:
        if isinstance(route, CrowdRoute):
            for method in route.methods or ():
                self._without_id[method, route.path] = route.handler
            return
        root, collection, name, verb = _parts_of(route.path)
        if not root and name.startswith("{") and "{" not in collection + verb:
            for method in route.methods or ():
                self._handlers[method, collection, verb] = (name[1:-1], route.handler)

    def finds(self, scope: Scope, path: str) -> bool:
        """Whether this request is answered here; ``path`` is its address in this application."""
        handler = self._without_id.get((scope["method"], path))
        if handler is not None:
            scope[_FOUND], scope["path_params"] = handler, {}
            return True
        root, collection, claim_id, verb = _parts_of(path)
        if root or not claim_id:
            return False
        found = self._handlers.get((scope["method"], collection, verb))
        if found is None:
            return False
        name, scope[_FOUND] = found
        scope["path_params"] = {name: claim_id}
        return True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request that was found here."""
        handler: Handler = scope[_FOUND]
        try:
            response = await handler(Request(scope, receive, send))
        except (Problem, Fault) as error:
            response = response_to(error)
        await response(scope, receive, send)


def _parts_of(path: str) -> Sequence[str]:
    """What stands before ``/collection/id/verb``, and these three; only the verb may be missing."""
    parts = path.split("/")
    if len(parts) == 3:
        return (*parts, "")
    return parts if len(parts) == 4 and parts[3] else _NO_PARTS
