"""The organiser application: the routes of every noun, behind one gate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager

from starlette.types import Scope

from serve_app.api.api_document import describe
from serve_app.api.edge import Opened, make_api
from serve_app.api.limits import RequestLimits
from serve_app.api.organiser import (
    alarms,
    attendees,
    audit_list,
    blocks,
    channel_document,
    money,
    plan_bodies,
    promo_bodies,
    refund_bodies,
    sales_views,
    series_bodies,
    show_bodies,
    terms_bodies,
    timetable_bodies,
    venues,
)
from serve_app.api.organiser.alarms import AlarmRoutes
from serve_app.api.organiser.attendees import AttendeeRoutes
from serve_app.api.organiser.audit_list import AuditRoutes
from serve_app.api.organiser.blocks import BlockRoutes
from serve_app.api.organiser.channels import ChannelRoutes
from serve_app.api.organiser.counter import Counter
from serve_app.api.organiser.desk import OrganiserDesk
from serve_app.api.organiser.money import MoneyRoutes
from serve_app.api.organiser.plan_changes import PlanChangeRoutes
from serve_app.api.organiser.plans import PlanRoutes
from serve_app.api.organiser.promo_codes import PromoCodeRoutes
from serve_app.api.organiser.refunds import RefundRoutes
from serve_app.api.organiser.series import SeriesRoutes
from serve_app.api.organiser.shows import ShowRoutes
from serve_app.api.organiser.terms import TermsRoutes
from serve_app.api.organiser.timetables import TimetableRoutes
from serve_app.api.organiser.venues import VenueRoutes
from serve_app.api.principals import Gate
from serve_app.api.short_way import Api

DESCRIPTION = """\
For the people of a house that sells: its venues, seating plans, shows and sales.

Everything belongs to one tenant, and what is another's is answered as if it were not there. An
admin says for which tenant with `tenant_id`. What is created carries an `Idempotency-Key`;
repeating such a request creates nothing more. What is changed has a `version`, so that two people
who change the same thing notice each other. Every change is in the audit log.
"""

_NOUNS = (
    VenueRoutes,
    PlanRoutes,
    ShowRoutes,
    PlanChangeRoutes,
    SeriesRoutes,
    BlockRoutes,
    ChannelRoutes,
    PromoCodeRoutes,
    TimetableRoutes,
    AttendeeRoutes,
    TermsRoutes,
    RefundRoutes,
    MoneyRoutes,
    AlarmRoutes,
    AuditRoutes,
)
_MODELS = (
    *venues.MODELS,
    *plan_bodies.MODELS,
    *show_bodies.MODELS,
    *series_bodies.MODELS,
    *blocks.MODELS,
    *channel_document.MODELS,
    *promo_bodies.MODELS,
    *timetable_bodies.MODELS,
    *attendees.MODELS,
    *sales_views.MODELS,
    *terms_bodies.MODELS,
    *refund_bodies.MODELS,
    *money.MODELS,
    *alarms.MODELS,
    *audit_list.MODELS,
)


def build_organiser_api(
    open_desk: Callable[[], AbstractAsyncContextManager[OrganiserDesk]],
    *,
    gate: Gate,
    body_bytes_max: int,
    limits: RequestLimits | None = None,
    cors_origins: Sequence[str] = (),
) -> Api:
    """The organiser application as plain ASGI, without Ray.

    See ``edge.make_api`` for ``open_desk``.
    """
    opened = Opened()
    limits = limits or RequestLimits.off()
    app = make_api(
        opened,
        open_desk,
        title="Housefull organiser",
        summary="Put shows on sale, and see who comes.",
        description=DESCRIPTION,
        body_bytes_max=body_bytes_max,
        leaves_unread=has_large_body,
        limits=limits,
        cors_origins=cors_origins,
    )
    counter = Counter(opened, limits)
    for noun in _NOUNS:
        for operation, handler in noun(counter).operations():
            operation.add_to(app, handler, gate)
    describe(app, _MODELS)
    return app


def has_large_body(scope: Scope) -> bool:
    """Whether this is a request whose route reads its body by itself: a plan, or an archive."""
    if scope["method"] != "POST":
        return False
    path: str = scope["path"]
    root_path: str = scope.get("root_path", "")
    if root_path and path.startswith(root_path):
        path = path[len(root_path) :]
    parts = path.split("/")[1:]
    match parts:
        case ["seating-plans"] | ["seating-plans", _, "versions"]:
            return True
        case ["timetable-imports", _, "archive"]:
            return True
    return False
