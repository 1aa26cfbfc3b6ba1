-- name: append_batch
-- One batch of one or many shows, durable together.
SELECT append_batch($1::text[], $2::bigint[], $3::bigint[], $4::json[], ROW(
    $5::text::integer[],
    string_to_array($6, E'\n'),
    string_to_array($7, E'\n'),
    $8::text::integer[],
    $9::text::integer[],
    $10::text::integer[],
    $11::text::integer[],
    $12::text::bigint[],
    string_to_array($13, E'\n'),
    string_to_array($14, E'\n'),
    $15::text::bigint[],
    $16::text::bigint[],
    string_to_array($17, E'\n'),
    $18::text::integer[]
)::new_holds, $19::jsonb)

-- name: activate_show
-- The next epoch of a show, and how far its journal is.
SELECT epoch, seq FROM activate_show($1, $2, $3, $4, $5::integer[])

-- name: load_holds
-- Every hold that still means something, with its booking; ended ones in the order they ended.
SELECT h.hold_id, h.customer_id, h.from_leg, h.to_leg, h.seats, h.seat_minor, h.admissions,
    h.arrangement, h.held_at_ms, h.expires_at_ms, h.request_digest, h.deadline_at_ms,
    h.ended_at_ms, h.state, b.booking_id, b.payment, b.amount_minor, b.confirmed_at_ms,
    b.cancelled_at_ms
FROM hold h LEFT JOIN booking b USING (hold_id)
WHERE h.hold_id BETWEEN holds_from($1) AND holds_to($1)
ORDER BY h.ended_at_ms NULLS FIRST, h.seq

-- name: load_blocks
-- Seats that are off sale.
SELECT seat_index, reason FROM seat_block WHERE show_id = $1

-- name: count_claims
-- What the claims add up to, counted without the holds.
SELECT
    (SELECT coalesce(sum(bit_count(taken)), 0)::bigint FROM seat_claim WHERE show_id = $1),
    (SELECT coalesce(sum(admitted), 0)::bigint FROM admission_claim WHERE show_id = $1)

-- name: find_owners
-- Who may write these shows, and how far their journals are.
SELECT show_id, epoch, seq, owner FROM show_owner WHERE show_id = ANY ($1::text[])

-- name: find_written
-- Which of these batches are in the journal, written by these epochs.
SELECT j.show_id FROM journal j
    JOIN unnest($1::text[], $2::bigint[], $3::bigint[]) AS w(show_id, seq, epoch)
        USING (show_id, seq, epoch)

-- name: terminate_owner
-- End the sessions of a replaced owner, so that nothing of it can keep a row locked.
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE application_name = $1 AND pid <> pg_backend_pid()

-- name: now_ms
-- The database's clock.
SELECT house_now_ms()

-- name: find_overdue_shows
-- Shows whose owner has not ended a hold in time: nobody has them in memory. In no order, so that
-- some that cannot be woken do not stand in the way of all others.
SELECT show_id FROM (
    SELECT DISTINCT show_id FROM hold
    WHERE state = 'held' AND deadline_at_ms < house_now_ms() - $1::bigint
) due
ORDER BY random()
LIMIT $2
