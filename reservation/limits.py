"""Every bound, with its unit and its reason. A limit that is not here does not exist."""

from __future__ import annotations

SEATS_PER_HOLD_MAX = 50
"""Seats and admissions one hold may claim: a coach party. Larger groups take several holds."""

SEATS_PER_PLAN_MAX = 200_000
"""The largest stadiums have about 130,000 seats; a plan beyond this is a mistake in a file."""

LEGS_PER_ROUTE_MAX = 255
"""The longest timetables we met have 51 legs; one byte keeps every journal row small."""

ADMISSION_CAPACITY_MAX = 1_000_000
"""General-admission places of one tier."""

HOLD_TTL_MS_DEFAULT = 10 * 60_000
"""How long a customer may think before paying."""

HOLD_TTL_MS_MIN = 1_000
HOLD_TTL_MS_MAX = 30 * 60_000

HOLD_LIFE_MS_DEFAULT = 20 * 60_000
"""Hard cap of one hold's life, extensions included, counted from its first moment."""

HOLD_LIFE_MS_MAX = 2 * 60 * 60_000

LIVE_HOLDS_PER_CUSTOMER_DEFAULT = 4
"""Live holds of one customer on one show."""

SEATS_PER_CUSTOMER_DEFAULT = 10
"""Held plus booked seats and admissions of one customer on one show."""

ENDED_HOLD_MEMORY_MS = 24 * 60 * 60_000
"""How long an ended hold answers a repeated request. After that its id may be used anew."""

ENDED_HOLDS_REMEMBERED_MAX = 20_000
"""Per show, so that a flood of holds cannot fill the actor's memory."""

AMOUNT_MINOR_MAX = 10**12
"""Money in minor units; far above any basket and far below 2**63."""

FEES_PER_SHOW_MAX = 10
TAXES_PER_SHOW_MAX = 10
"""Lines that a receipt can show and a person can read."""

PRICE_LINE_NAME_LENGTH_MAX = 60

REFUND_BANDS_MAX = 20
"""Steps by which a refund shrinks as the show comes nearer."""

REFUNDS_PER_PAYMENT_MAX = 20
"""Refunds made of one payment, the failed ones included. After that a person has to look."""

FARE_WINDOWS_MAX = 50
"""Price windows of one show: early, regular, late, and room for a price that moves each week."""

assert HOLD_TTL_MS_MIN <= HOLD_TTL_MS_DEFAULT <= HOLD_TTL_MS_MAX <= HOLD_LIFE_MS_MAX
assert HOLD_TTL_MS_DEFAULT <= HOLD_LIFE_MS_DEFAULT <= HOLD_LIFE_MS_MAX
assert HOLD_LIFE_MS_MAX < ENDED_HOLD_MEMORY_MS
