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
