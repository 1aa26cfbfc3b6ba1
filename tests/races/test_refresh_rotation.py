"""Fifty connections exchange one refresh token at the same moment.

Its control twin takes the lock out of ``rotate_refresh_token`` and must make several successors.
"""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from persistence.accounts import Accounts
from persistence.login_sessions import RefreshRefused, Rotation
from tests.support.accounts import (
    NOW_MS,
    ask,
    log_in,
    make_account,
    opened_pool,
)

CONNECTIONS = 50
_LIVE_TOKENS = "SELECT count(*) FROM refresh_token WHERE used_at_ms IS NULL"


Told = list[Rotation | RefreshRefused]


def winners_of(told: Told) -> int:
    """How many got a successor of their own."""
    return sum(isinstance(answer, Rotation) and not answer.is_repetition for answer in told)


async def race(
    dsn: str, clients: list[str | None], rounds: int, *, winners_enough: int = CONNECTIONS
) -> list[Told]:
    """What fifty callers with one token were told, in each of some rounds.

    The last round is the first with so many winners.
    """
    told: list[Told] = []
    async with opened_pool(dsn, role=None, size_max=CONNECTIONS) as pool:
        accounts = Accounts(pool)
        # All connections are open before the race, so that it is one.
        opened = [await pool.acquire() for _ in range(CONNECTIONS)]
        for connection in opened:
            await pool.release(connection)
        for number in range(rounds):
            account_id = await make_account(accounts, f"{number}@example.com")
            token = (await log_in(accounts, account_id)).refresh_token
            told.append(
                await asyncio.gather(
                    *(accounts.rotate_refresh(token, NOW_MS, client=client) for client in clients)
                )
            )
            if winners_of(told[-1]) >= winners_enough:
                break
    return told


async def test_of_fifty_different_clients_one_wins_and_the_others_end_the_session(
    fresh_database: str,
) -> None:
    rounds = await race(fresh_database, [f"client {n}" for n in range(CONNECTIONS)], 5)
    for told in rounds:
        (winner,) = [answer for answer in told if isinstance(answer, Rotation)]
        assert not winner.is_repetition
        assert told.count(RefreshRefused.REUSED) == CONNECTIONS - 1
        async with opened_pool(fresh_database, role=None) as pool:
            refused = await Accounts(pool).rotate_refresh(
                winner.refresh_token, NOW_MS, client="client 0"
            )
        assert refused is RefreshRefused.ENDED
    assert await ask(fresh_database, _LIVE_TOKENS) == 5
    assert await ask(fresh_database, "SELECT count(*) FROM revoked_session") == 5


async def test_of_fifty_that_say_nothing_about_themselves_one_wins(fresh_database: str) -> None:
    (told,) = await race(fresh_database, [None] * CONNECTIONS, 1)
    assert sum(isinstance(answer, Rotation) for answer in told) == 1
    assert told.count(RefreshRefused.REUSED) == CONNECTIONS - 1


async def test_fifty_windows_of_one_client_share_one_successor(fresh_database: str) -> None:
    rounds = await race(fresh_database, ["one browser"] * CONNECTIONS, 5)
    for told in rounds:
        rotations = [answer for answer in told if isinstance(answer, Rotation)]
        assert len(rotations) == CONNECTIONS
        assert len({rotation.refresh_token for rotation in rotations}) == 1
        assert sum(not rotation.is_repetition for rotation in rotations) == 1
    assert await ask(fresh_database, _LIVE_TOKENS) == 5
    assert await ask(fresh_database, "SELECT count(*) FROM revoked_session") == 0


@pytest.mark.parametrize("clients", [["x"] * CONNECTIONS, [None] * CONNECTIONS])
async def test_control_without_the_lock_several_successors_are_made(
    fresh_database: str, clients: list[str | None]
) -> None:
    connection = await asyncpg.connect(fresh_database)
    body = await connection.fetchval(
        "SELECT pg_get_functiondef(oid) FROM pg_proc WHERE proname = 'rotate_refresh_token'"
    )
    assert body.count(" FOR UPDATE") == 1
    await connection.execute(body.replace(" FOR UPDATE", ""))
    await connection.close()
    # On a busy machine many rounds go by in which nobody comes between reading and writing.
    rounds = await race(fresh_database, clients, 100, winners_enough=2)
    assert winners_of(rounds[-1]) > 1
