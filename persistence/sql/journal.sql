-- name: append_batch
-- One batch of one or many shows, durable together.
SELECT append_batch($1::text[], $2::bigint[], $3::bigint[], $4::json[], ROW(
    $5::text::integer[],
    $6::text::integer[],
    $7::text::bit varying[],
    $8::text::integer[]
)::block_claims, $9::text[], $10::jsonb)

-- name: project_holds
-- Make the rows of the oldest batches of these shows that have none yet; the shows that have more.
SELECT w.more FROM (
    SELECT array_agg(show_id) AS show_ids, array_agg(seq) AS seqs,
        array_agg(show_id) FILTER (WHERE seq < last) AS more
    FROM (
        SELECT show_id, least(projected_seq + $2, seq) AS seq, seq AS last
        FROM show_owner WHERE show_id = ANY ($1::text[]) AND projected_seq < seq
    ) behind
) w, project_holds(w.show_ids, w.seqs)

-- name: find_gone_owners
-- Owners of shows that have batches without rows, who have no session any more. Asked for by itself:
-- of a busy house every show has such batches, and nearly always there is no such owner.
SELECT owner FROM show_owner WHERE projected_seq < seq
EXCEPT SELECT application_name FROM pg_stat_activity

-- name: project_forgotten_holds
-- Make the rows of shows of these owners, or of everybody's, whose latest batch is as old as this.
SELECT project_holds(array_agg(show_id), array_agg(seq)) FROM (
    SELECT show_id, seq FROM show_owner o
    WHERE projected_seq < seq AND ($3::text[] IS NULL OR owner = ANY ($3)) AND (
        SELECT j.at FROM journal j WHERE j.show_id = o.show_id AND j.seq = o.seq
    ) < now() - make_interval(secs => $1::integer)
    LIMIT $2
) w

-- name: activate_show
-- The next epoch of a show, and how far its journal is.
SELECT epoch, seq FROM activate_show($1, $2, $3, $4, $5::integer[])

-- name: load_holds
-- Every hold that still means something. In no order: to sort them all costs as much as to read
-- them, and most are bookings, which need none. Their bookings come apart, because a join of tens of
-- thousands looks up each one.
SELECT hold_id, customer_id, from_leg, to_leg, seats, seat_minor, admissions, arrangement,
    held_at_ms, expires_at_ms, request_digest, deadline_at_ms, ended_at_ms, state, seq
FROM every_hold
WHERE show_id = $1 AND hold_id BETWEEN holds_from($1) AND holds_to($1)

-- name: load_bookings
-- The bookings that were made from holds of this show.
SELECT hold_id, booking_id, payment, amount_minor, confirmed_at_ms, cancelled_at_ms
FROM booking WHERE hold_id BETWEEN holds_from($1) AND holds_to($1)

-- name: load_house_seats
-- Seats that are not on general sale: blocked for a reason, or a channel's.
SELECT seat_index, reason, NULL AS channel_id FROM seat_block WHERE show_id = $1
UNION ALL SELECT seat_index, NULL, channel_id FROM channel_seat WHERE show_id = $1

-- name: count_claims
-- What the claims add up to, counted without the holds; and whether the show is cancelled.
SELECT
    (SELECT coalesce(sum(bit_count(taken)), 0)::bigint FROM seat_claim WHERE show_id = $1),
    (SELECT coalesce(sum(admitted), 0)::bigint FROM admission_claim WHERE show_id = $1),
    c.reason, c.at_ms
FROM (SELECT) one LEFT JOIN cancelled_show c ON c.show_id = $1

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
-- some that cannot be woken do not stand in the way of all others. (Asked for once, the time is a
-- value that an index can be searched for; asked for each row, it took a look at every live hold.)
SELECT show_id FROM (
    SELECT DISTINCT show_id FROM hold
    WHERE state = 'held' AND deadline_at_ms < (SELECT house_now_ms()) - $1::bigint
) due
ORDER BY random()
LIMIT $2
