"""Everything that organisers' work is stored in, in one place for who needs most of it."""

from __future__ import annotations

from typing import Final

from persistence.channels import Channels
from persistence.import_jobs import ImportJobs
from persistence.organiser_shows import OrganiserShows
from persistence.promo_codes import PromoCodes
from persistence.series import SeriesStore
from persistence.sessions import Pool
from persistence.venue_plans import VenuePlans
from persistence.venues import Venues


class Organisers:
    """The stores of an organiser's work, over one pool.

    What is promised, by all of them:
        A tenant sees and changes its own rows only; another tenant's are not there.
        A request that makes something may be repeated with the same id, and makes it once.
        A change may name the version it was made from, and is STALE when there is a newer one.

    Args:
        pool: stays the caller's: the database of the catalogue, with the rights of
            ``housefull_organiser``.
    """

    def __init__(self, pool: Pool) -> None:
        self.venues: Final = Venues(pool)
        self.venue_plans: Final = VenuePlans(pool)
        self.series: Final = SeriesStore(pool)
        self.shows: Final = OrganiserShows(pool)
        self.promo_codes: Final = PromoCodes(pool)
        self.channels: Final = Channels(pool)
        self.import_jobs: Final = ImportJobs(pool)
