-- name: list_shows
-- Every show that was ever activated in this database, and whatever claims to be one.
SELECT show_id FROM show_owner
UNION SELECT show_id FROM journal
UNION SELECT show_id FROM hold
UNION SELECT show_id FROM seat_claim
UNION SELECT show_id FROM seat_block
UNION SELECT show_id FROM channel_seat
UNION SELECT show_id FROM cancelled_show
ORDER BY show_id

-- name: has_traces
-- Whether anything is stored about a show, apart from its owner.
SELECT EXISTS (SELECT FROM journal WHERE show_id = $1)
    OR EXISTS (SELECT FROM hold WHERE hold_id BETWEEN holds_from($1) AND holds_to($1))
    OR EXISTS (SELECT FROM seat_claim WHERE show_id = $1)
    OR EXISTS (SELECT FROM seat_block WHERE show_id = $1)
    OR EXISTS (SELECT FROM channel_seat WHERE show_id = $1)
    OR EXISTS (SELECT FROM cancelled_show WHERE show_id = $1)

-- name: find_owner
-- How far a show is, and its shape.
SELECT epoch, seq, leg_count, seat_count FROM show_owner WHERE show_id = $1

-- name: list_capacities
-- The capacity of each admission tier.
SELECT capacity FROM admission_tier WHERE show_id = $1 ORDER BY tier_index

-- name: read_journal
-- The journal, in order.
SELECT seq, epoch, (extract(epoch FROM at) * 1000)::bigint AS at_ms, events
FROM journal WHERE show_id = $1 ORDER BY seq

-- name: list_claims
-- What the claims say.
SELECT block, taken::text FROM seat_claim WHERE show_id = $1

-- name: list_admissions
-- What the admission counters say.
SELECT tier_index, leg, admitted FROM admission_claim WHERE show_id = $1 AND admitted > 0

-- name: find_cancellation
-- Whether the show is cancelled, why and since when.
SELECT reason, at_ms FROM cancelled_show WHERE show_id = $1

-- name: list_unpaid_bookings
-- Bookings whose payment is not there, or does not know of them.
SELECT b.booking_id, b.payment, CASE WHEN p.payment_id IS NULL THEN 'is not there'
    WHEN p.booking_hold_id IS DISTINCT FROM b.hold_id THEN 'was used for another hold'
    WHEN p.cancelled_at_ms IS DISTINCT FROM b.cancelled_at_ms
        THEN 'was not cancelled with it, or was alone'
    ELSE 'is ' || p.state END AS what
FROM booking b LEFT JOIN payment p ON p.payment_id = b.payment
WHERE b.hold_id BETWEEN holds_from($1) AND holds_to($1) AND is_payment_id(b.payment)
    AND (p.payment_id IS NULL OR p.booking_hold_id IS DISTINCT FROM b.hold_id
        OR p.cancelled_at_ms IS DISTINCT FROM b.cancelled_at_ms
        OR NOT (p.state IN ('booked', 'settled')
            OR p.state = 'voided' AND b.cancelled_at_ms IS NOT NULL))

-- name: list_lost_payments
-- Payments that say they have a booking which is not there, or was paid with something else.
SELECT p.payment_id, 'is ' || p.state || ' by a booking that is not there' AS what
FROM payment p LEFT JOIN booking b ON b.hold_id = p.booking_hold_id AND b.payment = p.payment_id
WHERE p.payment_id BETWEEN payments_from($1) AND payments_to($1) AND p.booked_at_ms IS NOT NULL
    AND b.hold_id IS NULL
