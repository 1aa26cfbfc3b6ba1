"""Opens, in a replica, what the routes of an application turn to. Nothing here waits for a
database: pools connect on first use, so replicas start while a database is still coming up.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count

from actors.activation import connect_refs
from actors.checkouts import Checkouts, open_checkouts
from actors.payment_hosting import PaymentBell
from actors.show_ref import ShowRefs
from persistence.accounts import Accounts
from persistence.catalogue import Catalogue
from persistence.channels import Channels
from persistence.claim_reader import ClaimReader
from persistence.memory_rate_limits import MemoryRateLimiter
from persistence.payments import Payments
from persistence.promo_codes import PromoCodes
from persistence.rate_limits import RateLimiter
from persistence.sessions import Pool, open_pool
from persistence.shards import ShardMap
from persistence.show_terms import ShowTermsStore
from persistence.valkey_rate_limits import ValkeyRateLimiter
from persistence.valkey_seat_map_cache import ValkeySeatMapCache
from reservation.ids import ShowId, derive_show_id
from serve_app.access.access_tokens import TokenVerifier
from serve_app.access.access_watch import watching
from serve_app.api.booking import BookingDesk
from serve_app.api.booking_checkout import CheckoutCounter
from serve_app.api.browse import BrowseDesk
from serve_app.api.channel_keys import ChannelKeys
from serve_app.api.limits import UNLIMITED, RequestLimits
from serve_app.api.payments.application import PaymentsDesk
from serve_app.api.payments.own_payments import OwnPayments
from serve_app.api.payments.recent_looks import RecentLooks
from serve_app.api.seat_maps import SeatMaps
from serve_app.api.show_facts import ShowFactsCache
from serve_app.hosting.edge_config import EdgeConfig

log = logging.getLogger(__name__)

POOL_CLOSE_TIMEOUT_S = 3.0

# Per replica and database. The hot route uses none; an embedded Postgres takes 100 in all.
_CATALOGUE_CONNECTIONS_MAX = 3
_CLAIM_CONNECTIONS_MAX = 4
_ACCESS_CONNECTIONS_MAX = 2
_PAYMENT_CONNECTIONS_MAX = 2


@asynccontextmanager
async def open_booking_desk(
    edge: EdgeConfig, verifier: TokenVerifier
) -> AsyncIterator[BookingDesk]:
    """The desk of the booking application, which keeps ``verifier`` informed; closed at the end."""
    async with AsyncExitStack() as opened:
        catalogue, claims = await _open_readers(edge, "booking", opened)
        pool = await opened.enter_async_context(watch_access(edge, "booking", verifier))
        channels = ChannelKeys(Channels(pool))
        refs = connect_refs(edge.actors, catalogue.placement_of)
        counter = CheckoutCounter(
            await _open_checkouts(edge, refs, opened),
            await _open_own_payments(edge, "booking", opened),
            ShowTermsStore(pool),
            PromoCodes(pool),
        )
        probes = [*_probes(catalogue, claims, edge.actors.shards), probe_access(verifier)]
        yield BookingDesk(refs, ShowFactsCache(catalogue), claims, channels, counter, probes)


@asynccontextmanager
async def open_payments_desk(
    edge: EdgeConfig, verifier: TokenVerifier
) -> AsyncIterator[PaymentsDesk]:
    """The desk of the payments application, which keeps ``verifier`` informed."""
    async with AsyncExitStack() as opened:
        pool = await opened.enter_async_context(watch_access(edge, "payments", verifier))
        refs = connect_refs(edge.actors, Catalogue(pool).placement_of)
        checkouts = await _open_checkouts(edge, refs, opened)
        payments = await _open_own_payments(edge, "payments", opened)
        probes = [payments.probe, probe_access(verifier)]
        yield PaymentsDesk(checkouts, RecentLooks(checkouts), payments, probes)


@asynccontextmanager
async def open_browse_desk(edge: EdgeConfig) -> AsyncIterator[BrowseDesk]:
    """The desk of the browse application; closed when it stops."""
    async with AsyncExitStack() as opened:
        catalogue, claims = await _open_readers(edge, "browse", opened)
        cache: ValkeySeatMapCache | None = None
        if edge.redis_url is not None:
            cache = ValkeySeatMapCache(edge.redis_url)
            opened.push_async_callback(cache.close)
        seat_maps = SeatMaps(claims, cache)
        opened.push_async_callback(seat_maps.close)
        probes = _probes(catalogue, claims, edge.actors.shards)
        yield BrowseDesk(catalogue, ShowFactsCache(catalogue), seat_maps, probes)


def open_limits(edge: EdgeConfig) -> RequestLimits:
    """The request limits of one application; they connect on first use."""
    if edge.limits == UNLIMITED:
        return RequestLimits.off()
    limiter: RateLimiter
    if edge.redis_url is None:
        limiter = MemoryRateLimiter()
    else:
        limiter = ValkeyRateLimiter(edge.redis_url)
    return RequestLimits(limiter, edge.limits, gateway_secret=edge.gateway_secret)


@asynccontextmanager
async def watch_access(edge: EdgeConfig, name: str, verifier: TokenVerifier) -> AsyncIterator[Pool]:
    """Keep the ``verifier`` of the application ``name`` informed of keys and revocations.

    Yields the pool that this takes, which has room for other short questions.
    """
    pool = await open_pool(edge.catalogue_dsn, name, size_max=_ACCESS_CONNECTIONS_MAX)
    try:
        async with watching(Accounts(pool), verifier):
            yield pool
    finally:
        await close_pool(pool)


def probe_access(verifier: TokenVerifier) -> Callable[[], Awaitable[object]]:
    """Whether tokens can be told from each other by now, as a question of ``edge.Desk``."""

    async def probe() -> None:
        verifier.check_informed()

    return probe


async def _open_readers(
    edge: EdgeConfig, name: str, opened: AsyncExitStack
) -> tuple[Catalogue, ClaimReader]:
    async def pool(dsn: str, connections_max: int) -> Pool:
        pool = await open_pool(dsn, name, size_max=connections_max)
        opened.push_async_callback(close_pool, pool)
        return pool

    shards = edge.actors.shards
    catalogue = Catalogue(await pool(edge.catalogue_dsn, _CATALOGUE_CONNECTIONS_MAX))
    pools = [await pool(dsn, _CLAIM_CONNECTIONS_MAX) for dsn in shards.dsns]
    return catalogue, ClaimReader(pools, shards)


async def _open_checkouts(edge: EdgeConfig, refs: ShowRefs, opened: AsyncExitStack) -> Checkouts:
    checkouts = await open_checkouts(edge.actors, refs, ring=PaymentBell(edge.actors))
    opened.push_async_callback(checkouts.close)
    return checkouts


async def _open_own_payments(edge: EdgeConfig, name: str, opened: AsyncExitStack) -> OwnPayments:
    stores = []
    for dsn in edge.actors.shards.dsns:
        pool = await open_pool(dsn, name, size_max=_PAYMENT_CONNECTIONS_MAX)
        opened.push_async_callback(close_pool, pool)
        stores.append(Payments(pool))
    return OwnPayments(stores, edge.actors.shards)


async def close_pool(pool: Pool) -> None:
    try:
        async with asyncio.timeout(POOL_CLOSE_TIMEOUT_S):
            await pool.close()
    except TimeoutError:
        log.warning("a query was still running when the application stopped")
        pool.terminate()


def _probes(
    catalogue: Catalogue, claims: ClaimReader, shards: ShardMap
) -> Sequence[Callable[[], Awaitable[object]]]:
    """One question for each database; no show has these ids, and none is needed."""
    ids = [_id_in(database, shards) for database in range(len(shards.dsns))]

    def ask_catalogue() -> Awaitable[object]:
        return catalogue.placement_of(ids[0])

    def ask_claims(show_id: ShowId) -> Callable[[], Awaitable[object]]:
        return lambda: claims.version_of(show_id)

    return [ask_catalogue, *[ask_claims(show_id) for show_id in ids]]


def _id_in(database: int, shards: ShardMap) -> ShowId:
    for number in count():
        show_id = derive_show_id(f"probe:{number}")
        if shards.database_of(show_id) == database:
            return show_id
    raise AssertionError("unreachable")
