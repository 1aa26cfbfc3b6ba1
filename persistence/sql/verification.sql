-- name: list_shows
-- Every show that was ever activated in this database.
SELECT show_id FROM show_owner ORDER BY show_id

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
SELECT seat_index, taken::text FROM seat_claim WHERE show_id = $1 AND bit_count(taken) > 0

-- name: list_admissions
-- What the admission counters say.
SELECT tier_index, leg, admitted FROM admission_claim WHERE show_id = $1 AND admitted > 0
