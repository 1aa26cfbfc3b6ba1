"""What a ref and a show actor say to each other."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from reservation.commands import Command
from reservation.faults import Fault
from reservation.ids import ShowId
from reservation.seat_map import Outcome

Request: TypeAlias = tuple[ShowId, Command]


class Reply(NamedTuple):
    """The answers to one batch.

    Shapes:
        answers: one per request, in the same order; a fault is a value here, so that one
            show's trouble does not fail its neighbours.
        epochs: for every show that answered, the epoch that answered.
    """

    answers: list[Outcome | Fault]
    epochs: dict[ShowId, int]


class ShowStatus(NamedTuple):
    """One activated show, for operators and tests."""

    show_id: ShowId
    epoch: int
    live_holds: int
    holds: int


class ActorStatus(NamedTuple):
    """One show actor, for operators and tests.

    Units:
        private_bytes: memory that this process alone uses.
    """

    name: str
    pid: int
    private_bytes: int
    waiting_commands: int
    shows: list[ShowStatus]
