-- What was sold of a show, for its organiser. A show's bookings are one range of the primary key,
-- because a hold's id begins with its show's.

-- name: list_bookings_of_show
-- Bookings of a show after one, cancelled ones included.
SELECT b.hold_id, b.booking_id, b.customer_id, b.payment, b.amount_minor, b.confirmed_at_ms,
    b.cancelled_at_ms, h.from_leg, h.to_leg, h.seats, h.seat_minor, h.admissions::text AS admissions,
    p.state AS payment_state, p.amount_minor AS price_minor, p.captured_minor, p.refunded_minor,
    coalesce((SELECT sum(r.amount_minor) FROM refund r WHERE r.payment_id = p.payment_id
        AND r.state IN ('due', 'requested')), 0)::bigint AS refunding_minor
FROM booking b JOIN hold h USING (hold_id) LEFT JOIN payment p ON p.payment_id = b.payment
WHERE b.hold_id > $2 AND b.hold_id <= holds_to($1)
ORDER BY b.hold_id
LIMIT $3;

-- name: sum_bookings_by_payment
-- Bookings, seats and money by way of payment, cancelled ones apart.
SELECT coalesce(p.provider, b.payment) AS payment, b.cancelled_at_ms IS NOT NULL AS is_cancelled,
    count(*) AS booking_count, sum(cardinality(h.seats))::bigint AS seat_count,
    sum(b.amount_minor)::bigint AS amount_minor
FROM booking b JOIN hold h USING (hold_id) LEFT JOIN payment p ON p.payment_id = b.payment
WHERE b.hold_id BETWEEN holds_from($1) AND holds_to($1)
GROUP BY 1, 2
ORDER BY 1, 2;

-- name: sum_bookings_by_day
-- The same by the day of the booking in a time zone, without cancelled ones.
SELECT ((to_timestamp(b.confirmed_at_ms / 1000.0) AT TIME ZONE $2)::date)::text AS day,
    count(*) AS booking_count, sum(b.amount_minor)::bigint AS amount_minor
FROM booking b
WHERE b.hold_id BETWEEN holds_from($1) AND holds_to($1) AND b.cancelled_at_ms IS NULL
GROUP BY 1
ORDER BY 1;

-- name: sum_seats
-- How often each seat is booked, and for how much: more than once on a route with stops.
SELECT s.seat_index, count(*) AS place_count, sum(s.seat_minor)::bigint AS amount_minor
FROM booking b JOIN hold h USING (hold_id), unnest(h.seats, h.seat_minor) AS s(seat_index, seat_minor)
WHERE b.hold_id BETWEEN holds_from($1) AND holds_to($1) AND b.cancelled_at_ms IS NULL
GROUP BY 1;

-- name: sum_admissions
-- How many places of each tier are booked, and for how much.
SELECT (a.value ->> 0)::integer AS tier_index, sum((a.value ->> 1)::bigint)::bigint AS place_count,
    sum((a.value ->> 1)::bigint * (a.value ->> 2)::bigint)::bigint AS amount_minor
FROM booking b JOIN hold h USING (hold_id), jsonb_array_elements(h.admissions) AS a(value)
WHERE b.hold_id BETWEEN holds_from($1) AND holds_to($1) AND b.cancelled_at_ms IS NULL
    AND h.admissions <> '[]'
GROUP BY 1;

-- name: sum_live_holds
-- What is held and not yet booked. Holds whose end nobody has written down yet count no more.
SELECT count(*) AS hold_count, coalesce(sum(cardinality(h.seats)), 0)::bigint AS seat_count,
    coalesce(sum((SELECT sum((a.value ->> 1)::bigint) FROM jsonb_array_elements(h.admissions)
        AS a(value))), 0)::bigint AS admission_count
FROM every_hold h
WHERE h.show_id = $1 AND h.hold_id BETWEEN holds_from($1) AND holds_to($1) AND h.state = 'held'
    AND h.deadline_at_ms > house_now_ms();

-- name: list_blocks_of_show
-- Seats that are off sale, in their order.
SELECT seat_index, reason FROM seat_block
WHERE show_id = $1 AND seat_index > $2
ORDER BY seat_index
LIMIT $3;

-- name: list_allocations_of_show
-- Seats that channels sell, in their order.
SELECT seat_index, channel_id FROM channel_seat
WHERE show_id = $1 AND seat_index > $2
ORDER BY seat_index
LIMIT $3;

-- name: list_shows_of_channel
-- Shows in this database that a channel has seats of.
SELECT DISTINCT show_id FROM channel_seat WHERE channel_id = $1 ORDER BY show_id;
