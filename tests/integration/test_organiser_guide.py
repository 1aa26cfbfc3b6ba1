"""docs/ORGANISERS.md, command by command, against the applications that it is about."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from persistence.migrate import APPLICATION_GROUP, ORGANISER_GROUP, migrate
from persistence.sessions import open_pool
from reservation.access import Role
from tests.support.access import signed_in
from tests.support.http_house import House
from tests.support.organiser_house import ORGANISER, OrganiserHouse
from tests.support.quick_postgres import quick_postgres
from tests.support.served_apis import Prepared, served_apis

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "ORGANISERS.md"
TIMEOUT_S = 120

# Commands end at the first answer that is none of success, which is what a reader would look for.
_STRICT = """
set -euo pipefail
curl() { command curl --fail-with-body "$@"; echo; }
"""


def commands_of_guide() -> str:
    """The commands in their order, without those that log in: the token is the test's own."""
    sections = re.split(r"(?m)^## ", GUIDE.read_text())
    wanted = [section for section in sections[1:] if not section.startswith("Log in")]
    lines = "\n".join(wanted).splitlines()
    return "\n".join(line[4:] for line in lines if line.startswith("    "))


@pytest.mark.skipif(
    shutil.which("curl") is None or shutil.which("bash") is None, reason="needs curl and bash"
)
def test_every_command_of_the_guide_does_what_it_says(tmp_path: Path) -> None:
    async def prepare(house: House, opened: AsyncExitStack) -> Prepared:
        pools = []
        for role in (ORGANISER_GROUP, APPLICATION_GROUP, None):
            pool = await open_pool(house.dsn, "tests", size_max=4, role=role)
            opened.push_async_callback(pool.close)
            pools.append(pool)
        return Prepared({ORGANISER: OrganiserHouse(house, *pools).app()})

    with quick_postgres() as server:
        asyncio.run(migrate(server.dsn()))
        with served_apis(server.dsn(), prepare) as served:
            token = signed_in("olga", Role.ORGANISER)["Authorization"]
            script = f"""{_STRICT}
house={served.url}
json='Content-Type: application/json'
auth='Authorization: {token}'
o=$house{ORGANISER}
{commands_of_guide()}
"""
            done = subprocess.run(
                ["bash", "-c", script],
                cwd=ROOT,
                env={
                    **os.environ,
                    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                    "TMPDIR": str(tmp_path),
                    "no_proxy": "*",
                },
                capture_output=True,
                text=True,
                timeout=TIMEOUT_S,
                check=False,
            )
    assert done.returncode == 0, done.stdout[-2_000:] + done.stderr[-2_000:]
    for told in (
        '"status":"on_sale"',
        '"access_key":"chk_',
        '"state":"queued"',
        '"status":"cancelled"',
    ):
        assert told in done.stdout, told
