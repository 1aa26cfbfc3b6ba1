"""The desk of the organiser application as a replica opens it, with the rights of a house."""

from __future__ import annotations

from pathlib import Path

import httpx

from actors.config import ActorsConfig
from persistence.provisioning import prepare_database
from persistence.shards import ShardMap
from reservation.access import Role
from serve_app.access.access_tokens import TokenVerifier
from serve_app.api.organiser.application import build_organiser_api
from serve_app.hosting.edge_config import EdgeConfig
from serve_app.hosting.organiser_desk import open_organiser_desk
from tests.support.access import open_gate, signed_in
from tests.support.organiser_house import ORGANISER, Organiser
from tests.support.quick_postgres import quick_postgres

_PASSWORD = "of-the-house"


async def test_a_replica_needs_no_rights_but_those_of_the_house(tmp_path: Path) -> None:
    with quick_postgres() as server:
        await prepare_database(server.dsn(), role="housefull", password=_PASSWORD)
        dsn = server.dsn(user="housefull", password=_PASSWORD)
        shards = ShardMap.even((dsn,))
        edge = EdgeConfig(
            actors=ActorsConfig(shards, str(tmp_path)), catalogue_dsn=dsn, redis_url=None
        )
        app = build_organiser_api(
            lambda: open_organiser_desk(edge, TokenVerifier()),
            gate=open_gate(),
            body_bytes_max=65_536,
        )
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(
                transport=httpx.ASGITransport(app, root_path=ORGANISER),
                base_url=f"http://house{ORGANISER}",
            ) as client,
        ):
            olga = Organiser(client)
            show = await olga.make_show(is_on_sale=False)
            found = await olga.get(f"/shows/{show['show_id']}")
            assert found["sales"]["bookings"] == 0
            assert (await olga.get(f"/shows/{show['show_id']}/attendees"))["attendees"] == []
            assert (await olga.get(f"/shows/{show['show_id']}/blocks"))["blocks"] == []
            assert (await olga.get(f"/shows/{show['show_id']}/allocations"))["allocations"] == []
            assert len((await olga.get("/audit-log"))["entries"]) == 3
            channel = await olga.make("/channels", {"name": "Agency"})
            await olga.do(f"/channels/{channel['channel_id']}/close")
            admin = await client.get(
                "/venues",
                params={"tenant_id": "tnt_" + "0" * 20},
                headers=signed_in("ada", Role.ADMIN),
            )
            assert admin.status_code == 200
