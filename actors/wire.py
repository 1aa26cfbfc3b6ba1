"""Batches as bytes, for the line between a ref and an actor.

Pickle calls Python code for every ``NamedTuple`` it meets, but none for a plain tuple. So each
command and event travels as a plain tuple that begins with its kind; faults, which are rare,
travel as the exceptions they are. Of a hold of just the seats that were asked for, which is most of
what is ever answered, only that travels which the caller does not know.
"""

from __future__ import annotations

import pickle
from typing import Any, TypeAlias, cast

from actors.messages import Reply, Request
from reservation.commands import (
    AllocateSeats,
    BlockSeats,
    CancelBooking,
    CancelShow,
    CloseChannel,
    Command,
    ConfirmHold,
    DeallocateSeats,
    ExtendHold,
    HoldBestAvailable,
    HoldFromChannel,
    HoldSeats,
    ReleaseHold,
    UnblockSeats,
)
from reservation.events import (
    Arrangement,
    BookingCancelled,
    BookingConfirmed,
    HeldFromChannel,
    HoldExtended,
    HoldReleased,
    SeatsAllocated,
    SeatsBlocked,
    SeatsDeallocated,
    SeatsHeld,
    SeatsUnblocked,
    ShowCancelled,
)
from reservation.rejections import Rejected
from reservation.route import Segment
from reservation.seat_map import Repeated

_Plain: TypeAlias = tuple[Any, ...]

# Both ends of a line run the same version, so a kind may change its number.
_KINDS: tuple[Any, ...] = (
    # These three have a segment as their third field; it travels as two numbers.
    HoldSeats,
    HoldBestAvailable,
    SeatsHeld,
    # These have an event or a command as their last field.
    Repeated,
    HoldFromChannel,
    HeldFromChannel,
    ExtendHold,
    ReleaseHold,
    ConfirmHold,
    CancelBooking,
    BlockSeats,
    UnblockSeats,
    HoldExtended,
    HoldReleased,
    BookingConfirmed,
    BookingCancelled,
    SeatsBlocked,
    SeatsUnblocked,
    AllocateSeats,
    DeallocateSeats,
    CloseChannel,
    CancelShow,
    SeatsAllocated,
    SeatsDeallocated,
    ShowCancelled,
    Rejected,
)
_NUMBER_OF: dict[type, int] = {kind: number for number, kind in enumerate(_KINDS)}
_AS_ASKED = len(_KINDS)
_LAST_WITH_SEGMENT = 2
_LAST_WITH_INNER = 5


def pack_requests(requests: list[Request]) -> bytes:
    """A batch of commands as bytes."""
    return pickle.dumps([(show_id, _pack(command)) for show_id, command in requests], -1)


def unpack_requests(content: bytes) -> list[Request]:
    """The batch that ``pack_requests`` packed."""
    return [(show_id, _unpack(plain)) for show_id, plain in pickle.loads(content)]


def pack_reply(reply: Reply, requests: list[Request]) -> bytes:
    """A reply to these requests as bytes."""
    answers = [
        _pack_answer(answer, command)
        for answer, (_, command) in zip(reply.answers, requests, strict=True)
    ]
    return pickle.dumps((answers, reply.epochs), -1)


def unpack_reply(content: bytes, requests: list[Request]) -> Reply:
    """The reply to these requests that ``pack_reply`` packed."""
    answers, epochs = pickle.loads(content)
    return Reply(
        [
            _unpack_answer(plain, command)
            for plain, (_, command) in zip(answers, requests, strict=True)
        ],
        epochs,
    )


def _pack_answer(answer: object, command: Command) -> object:
    if type(answer) is SeatsHeld and type(command) is HoldSeats:
        _, _, _, seats, seat_minor, admissions, arrangement, held_at_ms, expires_at_ms, _ = answer
        # The very same seats: it was made from this command, and has everything else of it, too.
        if seats is command.seat_indexes and arrangement is Arrangement.NAMED:
            return _AS_ASKED, seat_minor, admissions, held_at_ms, expires_at_ms
    return _pack(answer)


def _unpack_answer(plain: Any, command: Any) -> Any:
    if type(plain) is tuple and plain[0] == _AS_ASKED:
        hold_id, customer_id, segment, seats, _, _, digest = command
        _, seat_minor, admissions, held_at_ms, expires_at_ms = plain
        return _new(
            SeatsHeld,
            (
                hold_id,
                customer_id,
                segment,
                seats,
                seat_minor,
                admissions,
                Arrangement.NAMED,
                held_at_ms,
                expires_at_ms,
                digest,
            ),
        )
    return _unpack(plain)


def _pack(value: object) -> object:
    number = _NUMBER_OF.get(type(value))
    if number is None:
        return value
    fields = cast(_Plain, value)
    if number <= _LAST_WITH_SEGMENT:
        return number, fields[0], fields[1], *fields[2], *fields[3:]
    if number <= _LAST_WITH_INNER:
        return number, *fields[:-1], _pack(fields[-1])
    return number, *fields


def _unpack(plain: Any) -> Any:
    if type(plain) is not tuple:
        return plain
    number = plain[0]
    if number <= _LAST_WITH_SEGMENT:
        segment = _new(Segment, plain[3:5])
        return _new(_KINDS[number], (plain[1], plain[2], segment, *plain[5:]))
    if number <= _LAST_WITH_INNER:
        return _new(_KINDS[number], (*plain[1:-1], _unpack(plain[-1])))
    return _new(_KINDS[number], plain[1:])


_new: Any = tuple.__new__
"""A named tuple's own constructor is Python code, and checks what its packing has checked."""
