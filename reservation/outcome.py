"""What a command comes to: an event, the event of an earlier time, or a refusal."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from reservation.events import Event
from reservation.rejections import Rejected


class Repeated(NamedTuple):
    """The command was done before; ``event`` is what happened then."""

    event: Event


Outcome: TypeAlias = Event | Repeated | Rejected
