-- name: find_holds
-- Holds with their bookings.
SELECT h.hold_id, h.customer_id, h.from_leg, h.to_leg, h.seats, h.seat_minor, h.admissions,
    h.arrangement, h.held_at_ms, h.expires_at_ms, h.request_digest, h.deadline_at_ms,
    h.ended_at_ms, h.state, b.booking_id, b.payment, b.amount_minor, b.confirmed_at_ms,
    b.cancelled_at_ms
FROM hold h LEFT JOIN booking b USING (hold_id)
WHERE h.hold_id = ANY ($1::text[])

-- name: find_bookings
-- Bookings by their holds.
SELECT h.hold_id, h.customer_id, h.from_leg, h.to_leg, h.seats, h.seat_minor, h.admissions,
    h.arrangement, h.held_at_ms, h.expires_at_ms, h.request_digest, h.deadline_at_ms,
    h.ended_at_ms, h.state, b.booking_id, b.payment, b.amount_minor, b.confirmed_at_ms,
    b.cancelled_at_ms
FROM booking b JOIN hold h USING (hold_id)
WHERE b.hold_id = ANY ($1::text[])

-- name: project_named
-- Make the rows of new holds that name one of these, holds or a customer, in the journal: of some
-- shows, or of all.
SELECT project_holds(array_agg(show_id), array_agg(seq)) FROM (
    SELECT o.show_id, max(j.seq) AS seq
    FROM show_owner o JOIN journal j ON j.show_id = o.show_id AND j.seq > o.projected_seq
    WHERE o.projected_seq < o.seq AND ($2::text[] IS NULL OR o.show_id = ANY ($2))
        AND EXISTS (SELECT FROM unnest($1::text[]) AS n(name)
            WHERE position('"' || n.name || '"' IN j.events::text) > 0)
    GROUP BY o.show_id
) w

-- name: list_live_holds
-- A customer's holds that still keep their places, the one that ends first at the top.
SELECT h.hold_id, h.customer_id, h.from_leg, h.to_leg, h.seats, h.seat_minor, h.admissions,
    h.arrangement, h.held_at_ms, h.expires_at_ms, h.request_digest, h.deadline_at_ms,
    h.ended_at_ms, h.state, NULL AS booking_id
FROM hold h
WHERE h.customer_id = $1 AND h.state = 'held' AND h.deadline_at_ms > house_now_ms()
ORDER BY h.deadline_at_ms, h.hold_id
LIMIT $2

-- name: list_bookings
-- A customer's bookings, the newest first, from a cursor on.
SELECT h.hold_id, h.customer_id, h.from_leg, h.to_leg, h.seats, h.seat_minor, h.admissions,
    h.arrangement, h.held_at_ms, h.expires_at_ms, h.request_digest, h.deadline_at_ms,
    h.ended_at_ms, h.state, b.booking_id, b.payment, b.amount_minor, b.confirmed_at_ms,
    b.cancelled_at_ms
FROM booking b JOIN hold h USING (hold_id)
WHERE b.customer_id = $1
    AND (b.confirmed_at_ms, b.booking_id) < ($2::bigint, $3::text)
ORDER BY b.confirmed_at_ms DESC, b.booking_id DESC
LIMIT $4

-- name: version_of
-- How far a show's journal is.
SELECT seq FROM show_owner WHERE show_id = $1

-- name: position_of
-- How far a show's journal is, and who may write it.
SELECT epoch, seq FROM show_owner WHERE show_id = $1

-- name: seat_map
-- How far a show's journal is and who may write it, and unless the reader is as far already ($2)
-- everything a seat map shows, in one snapshot: one row, so that one statement sees one moment.
SELECT epoch, seq, leg_count,
    CASE WHEN is_news THEN (
        SELECT coalesce(json_agg(json_build_array(block, taken)), '[]')
        FROM seat_claim WHERE show_id = $1) END,
    CASE WHEN is_news THEN (
        SELECT coalesce(json_agg(json_build_array(from_leg, to_leg, to_json(seats))), '[]')
        FROM every_hold WHERE show_id = $1 AND hold_id BETWEEN holds_from($1) AND holds_to($1)
            AND state = 'held') END,
    CASE WHEN is_news THEN (
        SELECT coalesce(json_agg(json_build_array(seat_index, reason)), '[]')
        FROM seat_block WHERE show_id = $1) END,
    CASE WHEN is_news THEN (
        SELECT coalesce(json_agg(json_build_array(tier_index, leg, admitted)), '[]')
        FROM admission_claim WHERE show_id = $1) END,
    CASE WHEN is_news THEN (
        SELECT coalesce(json_agg(seat_index), '[]') FROM channel_seat WHERE show_id = $1) END
FROM (
    SELECT coalesce(max(epoch), 0) AS epoch, coalesce(max(seq), 0) AS seq,
        coalesce(max(leg_count), 1) AS leg_count,
        coalesce(max(seq), 0) <> $2::bigint AS is_news
    FROM show_owner WHERE show_id = $1
) o
