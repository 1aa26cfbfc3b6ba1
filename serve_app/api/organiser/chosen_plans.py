"""Plans by their content: the one that a request means, and a new one that it brings."""

from __future__ import annotations

from collections.abc import Mapping

from reservation.ids import TenantId
from reservation.organiser_ids import ObjectKind, VenuePlanId, is_object_id
from reservation.seating_plan import SeatingPlan
from serve_app.api.organiser.desk import OrganiserDesk
from serve_app.api.organiser.outcomes import bad_text
from serve_app.api.organiser.show_bodies import PlanChoice
from serve_app.api.problems import bad_field


async def chosen_plan(
    desk: OrganiserDesk, tenant_id: TenantId, choice: PlanChoice
) -> tuple[str, SeatingPlan]:
    """The id and the content of the plan.

    Raises:
        Problem: ``invalid_request``: no plan or two are named, or it is not there, or it is
            somebody else's.
    """
    if choice.plan_id is not None:
        if choice.seating_plan_id is not None or choice.seating_plan_version is not None:
            raise bad_field("plan_id", "stands instead of seating_plan_id, not beside it")
        plan_id, field = choice.plan_id, "plan_id"
        if not await desk.organisers.venue_plans.owns_plan(tenant_id, plan_id):
            raise bad_field(field, "there is no such plan")
    else:
        plan_id, field = await _newest_or_named(desk, tenant_id, choice), "seating_plan_id"
    plan = await desk.catalogue.load_plan(plan_id)
    if plan is None:
        raise bad_field(field, "there is no such plan")
    return plan_id, plan


async def put_plan(
    desk: OrganiserDesk,
    tenant_id: TenantId,
    plan_id: str,
    plan: SeatingPlan,
    document: Mapping[str, object],
    extras: Mapping[str, object],
) -> bool:
    """Store a plan; says whether it is drawn as ``document`` now.

    Plans are named by their content, so several tenants may have the same one. The drawing of a
    plan that somebody else has too is left as it is.

    Raises:
        Problem: ``invalid_request``: something cannot be stored.
    """
    there = await desk.catalogue.load_plan_document(plan_id)
    if there == (document, extras):
        return True
    plans = desk.organisers.venue_plans
    if there is not None and not await plans.owns_plan_alone(tenant_id, plan_id):
        return False
    try:
        await desk.catalogue.put_plan(plan_id, plan, document, extras)
    except ValueError as error:
        raise bad_text(error) from None
    return True


async def _newest_or_named(desk: OrganiserDesk, tenant_id: TenantId, choice: PlanChoice) -> str:
    named = choice.seating_plan_id
    if named is None:
        raise bad_field("seating_plan_id", "is missing")
    plans = desk.organisers.venue_plans
    row = None
    if is_object_id(ObjectKind.VENUE_PLAN, named):
        row = await plans.find(tenant_id, VenuePlanId(named))
    if row is None:
        raise bad_field("seating_plan_id", "there is no such seating plan")
    if choice.seating_plan_version is None:
        return row.plan_id
    version = await plans.find_version(tenant_id, row.venue_plan_id, choice.seating_plan_version)
    if version is None:
        raise bad_field("seating_plan_version", "the seating plan has no such version")
    return version.plan_id
