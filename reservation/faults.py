"""Faults: something broke, and the exception says whether the command may have happened.

A *rejection* (``rejections``) is an expected no and is returned. A *fault* is raised: it is
either ``NotDone`` (nothing happened and nothing will; ask again freely) or ``OutcomeUnknown``
(it may or may not have happened; ask again with the **same** id). A *bug* is an assertion.
"""

from __future__ import annotations


class Fault(Exception):
    """Something that should work did not."""


class NotDone(Fault):
    """Nothing happened and nothing will. Asking again is free.

    ``retry_after_ms`` is a hint for the caller.
    """

    def __init__(self, message: str, *, retry_after_ms: int = 1_000) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after_ms = retry_after_ms

    def __reduce__(self) -> tuple[object, ...]:
        # Faults cross process boundaries; keyword arguments need help to survive that.
        return (_rebuild_not_done, (type(self), self.message, self.retry_after_ms))


def _rebuild_not_done(kind: type[NotDone], message: str, retry_after_ms: int) -> NotDone:
    return kind(message, retry_after_ms=retry_after_ms)


class Overloaded(NotDone):
    """The show's mailbox is full."""


class ShowUnavailable(NotDone):
    """The show's actor or its database cannot be reached now."""


class ShowNotFound(NotDone):
    """There is no such show."""


class ShowMoved(NotDone):
    """The show belongs to another actor now; look its placement up again."""


class Fenced(NotDone):
    """A newer owner of the show exists; this one must stop serving it."""


class Diverged(NotDone):
    """The database refused what memory believed. The owner must stop and reload."""


class PlanTooSmall(NotDone):
    """The show's plan has fewer seats or places than the plan that it was sold from."""


class OutcomeUnknown(Fault):
    """The command may or may not have happened. Repeat it with the same id to learn which."""
