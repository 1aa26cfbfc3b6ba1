"""Ids of what organisers make: venues, their plans, series, promo codes, channels, imports.

An id is derived from the tenant and the key that its maker sent with the request, so a request
that is repeated meets what it made the first time. It says nothing to others, and another
tenant with the same key gets another id.

    ven_ vpl_ ser_ prm_ chn_ imp_ and 20 letters
"""

from __future__ import annotations

import hashlib
import re
from enum import StrEnum
from typing import NewType

from reservation.access import HOUSE_TENANT
from reservation.ids import ALPHABET, DRAWN_LETTER_COUNT, TenantId

VenueId = NewType("VenueId", str)
VenuePlanId = NewType("VenuePlanId", str)
SeriesId = NewType("SeriesId", str)
PromoCodeId = NewType("PromoCodeId", str)
ImportJobId = NewType("ImportJobId", str)


class ObjectKind(StrEnum):
    """What an organiser makes; the value is how its ids begin."""

    VENUE = "ven_"
    VENUE_PLAN = "vpl_"
    SERIES = "ser_"
    PROMO_CODE = "prm_"
    CHANNEL = "chn_"
    IMPORT_JOB = "imp_"


_LETTERS = re.compile(rf"[{ALPHABET}]{{{DRAWN_LETTER_COUNT}}}")
_TO_BASE32 = bytes(ord(ALPHABET[value & 31]) for value in range(256))


def derive_object_id(kind: ObjectKind, tenant_id: TenantId, request_key: str) -> str:
    """The id of what this tenant makes with a request under this key, the same every time.

    Example:
        >>> made = derive_object_id(ObjectKind.VENUE, HOUSE_TENANT, "8f14e45f")
        >>> made == derive_object_id(ObjectKind.VENUE, HOUSE_TENANT, "8f14e45f")
        True
        >>> is_object_id(ObjectKind.VENUE, made), is_object_id(ObjectKind.SERIES, made)
        (True, False)
    """
    source = f"{kind.value}\0{tenant_id}\0{request_key}".encode()
    digest = hashlib.blake2b(source, digest_size=DRAWN_LETTER_COUNT).digest()
    return kind.value + digest.translate(_TO_BASE32).decode("ascii")


def is_object_id(kind: ObjectKind, text: str) -> bool:
    """Whether ``text`` has the form of such an id (not whether the thing exists)."""
    return text.startswith(kind.value) and _LETTERS.fullmatch(text, len(kind.value)) is not None


def tenant_source_key(tenant_id: TenantId, key: str) -> str:
    """The source key of a show that a tenant makes or imports under ``key``.

    Two tenants may import the same timetable, and each must get shows of its own. The house's
    keys stay as they were before there were tenants.

    Example:
        >>> tenant_source_key(HOUSE_TENANT, "gtfs:CR:1045:2026-12-01")
        'gtfs:CR:1045:2026-12-01'
    """
    return key if tenant_id == HOUSE_TENANT else f"{tenant_id}:{key}"
