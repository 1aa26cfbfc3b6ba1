-- Jobs that cancel all bookings of a cancelled show.

-- name: find_refund_job
-- The job of a show.
SELECT * FROM refund_job WHERE show_id = $1;

-- name: lease_refund_job
-- Take the oldest job that runs and that nobody has.
SELECT * FROM lease_refund_job($1, $2);

-- name: list_bookings_to_cancel
-- Bookings of a show after one that are not cancelled.
SELECT hold_id, booking_id, customer_id, payment FROM booking
WHERE hold_id > $2 AND hold_id <= holds_to($1) AND cancelled_at_ms IS NULL
ORDER BY hold_id
LIMIT $3;

-- name: advance_refund_job
-- Say how far a job is; false when it is another worker's.
SELECT advance_refund_job($1, $2, $3, $4, $5, $6, $7, $8);

-- name: name_refund_requester
-- Say who cancelled the show.
SELECT name_refund_requester($1, $2);
