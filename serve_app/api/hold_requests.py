"""From the body of a hold request to the command that the show's actor decides.

Everything that an actor may take for granted is checked here: seats that exist, in order and
each once; tiers that exist; a segment of the route; not more places than one hold may have.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from reservation.commands import (
    HoldBestAvailable,
    HoldFromChannel,
    HoldSeats,
    Wish,
    digest_request,
)
from reservation.ids import ChannelId, CustomerId, HoldId
from reservation.limits import SEATS_PER_HOLD_MAX
from reservation.route import Segment
from reservation.show import OrphanRule
from serve_app.api.booking_schemas import (
    HOLD_BEST,
    HOLD_NAMED,
    LABEL_LENGTH_MAX,
    AdmissionWish,
    BestAvailable,
)
from serve_app.api.problems import FieldError, bad_field, bad_request, shorten
from serve_app.api.segments import segment_of
from serve_app.api.show_facts import ShowFacts
from serve_app.api.strict_json import validated

_NO_ADMISSIONS: list[AdmissionWish] = []


def command_of(
    body: dict[str, Any], facts: ShowFacts, hold_id: HoldId, customer_id: CustomerId
) -> HoldSeats | HoldBestAvailable:
    """The command that this body asks for.

    Two bodies that mean the same give commands with the same digest: the order of seats does
    not count, nor whether the ends of the route are written out.

    Raises:
        Problem: ``invalid_request`` with every field that is wrong.
    """
    if "best_available" in body:
        best = validated(HOLD_BEST, body)
        segment = segment_of(facts.route, best.from_, best.to)
        return _best_command(best.best_available, facts, segment, hold_id, customer_id)
    wish = named_wish_of(body)
    segment = segment_of(facts.route, wish.from_, wish.to)
    return _named_command(wish, facts, segment, hold_id, customer_id)


def through_channel(hold: HoldSeats | HoldBestAvailable, channel_id: ChannelId) -> HoldFromChannel:
    """The same hold, with the seats of a channel as well. Without the channel it is another one."""
    digest = digest_request(hold.request_digest, channel_id)
    return HoldFromChannel(channel_id, hold._replace(request_digest=digest))


class NamedWish(NamedTuple):
    """What a body of ``HoldNamed`` says."""

    seats: list[str]
    admissions: list[AdmissionWish] = _NO_ADMISSIONS
    or_nearest: bool = False
    from_: str | None = None
    to: str | None = None


def named_wish_of(body: dict[str, Any]) -> NamedWish:
    """What a body that names its places says.

    Nearly all bodies are a list of labels and nothing else, and that is seen at a glance. The
    schema is asked about every other one, and what is wrong with one is always the schema's word.

    Raises:
        Problem: ``invalid_request``, naming every field that is wrong.
    """
    seats = body.get("seats")
    if len(body) == 1 and type(seats) is list and len(seats) <= SEATS_PER_HOLD_MAX:
        for label in seats:
            if type(label) is not str or len(label) > LABEL_LENGTH_MAX:
                break
        else:
            return NamedWish(seats)
    named = validated(HOLD_NAMED, body)
    return NamedWish(named.seats, named.admissions, named.or_nearest, named.from_, named.to)


def _named_command(
    wish: NamedWish,
    facts: ShowFacts,
    segment: Segment,
    hold_id: HoldId,
    customer_id: CustomerId,
) -> HoldSeats:
    errors: list[FieldError] = []
    seat_indexes = _seat_indexes(wish.seats, facts, errors)
    admissions = _admissions(wish.admissions, facts, errors) if wish.admissions else ()
    if errors:
        raise bad_request(errors)
    place_count = len(seat_indexes) + sum([count for _, count in admissions])
    if not place_count:
        raise bad_field("seats", "names no seat, and admissions names no place")
    if place_count > SEATS_PER_HOLD_MAX:
        raise bad_field("admissions", f"a hold has at most {SEATS_PER_HOLD_MAX} places")
    digest = digest_request("named", seat_indexes, admissions, wish.or_nearest, tuple(segment))
    return HoldSeats(
        hold_id, customer_id, segment, seat_indexes, admissions, wish.or_nearest, digest
    )


def _seat_indexes(labels: list[str], facts: ShowFacts, errors: list[FieldError]) -> tuple[int, ...]:
    index_of = facts.plan.index_of
    found: set[int] = set()
    for position, label in enumerate(labels):
        index = index_of(label)
        if index is None:
            reason = f"this show has no seat {shorten(label)!r}"
            errors.append(FieldError(f"seats[{position}]", reason))
        elif index in found:
            errors.append(FieldError(f"seats[{position}]", "is named twice"))
        else:
            found.add(index)
    return tuple(sorted(found))


def _admissions(
    wishes: list[AdmissionWish], facts: ShowFacts, errors: list[FieldError]
) -> tuple[tuple[int, int], ...]:
    found: dict[int, int] = {}
    for position, wish in enumerate(wishes):
        tier_index = facts.plan.tier_index_of(wish.tier)
        field = f"admissions[{position}].tier"
        if tier_index is None:
            errors.append(FieldError(field, f"this show has no tier {shorten(wish.tier)!r}"))
        elif tier_index in found:
            errors.append(FieldError(field, "is named twice"))
        else:
            found[tier_index] = wish.count
    return tuple(sorted(found.items()))


def _best_command(
    wish: BestAvailable,
    facts: ShowFacts,
    segment: Segment,
    hold_id: HoldId,
    customer_id: CustomerId,
) -> HoldBestAvailable:
    errors: list[FieldError] = []
    category_index: int | None = None
    if wish.category is not None:
        category_index = facts.plan.category_index_of(wish.category)
        if category_index is None:
            reason = f"this show has no category {shorten(wish.category)!r}"
            errors.append(FieldError("best_available.category", reason))
    if wish.accessible + wish.companions > wish.count:
        reason = "is less than the accessible and companion seats it contains"
        errors.append(FieldError("best_available.count", reason))
    if wish.companions and not wish.accessible:
        errors.append(
            FieldError("best_available.companions", "needs accessible seats to be beside")
        )
    if errors:
        raise bad_request(errors)
    content = (wish.count, category_index, wish.accessible, wish.companions, wish.orphan_rule)
    return HoldBestAvailable(
        hold_id,
        customer_id,
        segment,
        Wish(
            wish.count,
            category_index,
            wish.accessible,
            wish.companions,
            None if wish.orphan_rule is None else OrphanRule(wish.orphan_rule),
        ),
        digest_request("best", content, tuple(segment)),
    )
