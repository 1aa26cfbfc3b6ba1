"""Where an actor learns what a show is made of: the catalogue."""

from __future__ import annotations

from typing import Protocol

from reservation.faults import ShowMoved, ShowNotFound
from reservation.ids import ShowId
from reservation.show import Placement, Show


class ShowSource(Protocol):
    """The catalogue, as far as an actor needs it."""

    async def load_show(self, show_id: ShowId) -> Show | None:
        """The show, or None when there is none."""
        ...


async def load_own(source: ShowSource, show_id: ShowId, placement: Placement) -> Show:
    """The show, for an actor that owns shows of this placement.

    Raises:
        ShowNotFound: there is no such show.
        ShowMoved: another kind of actor owns it by now.
    """
    show = await source.load_show(show_id)
    if show is None:
        raise ShowNotFound(f"no show {show_id}")
    if show.placement is not placement:
        raise ShowMoved(f"{show_id} is {show.placement}", retry_after_ms=50)
    return show
