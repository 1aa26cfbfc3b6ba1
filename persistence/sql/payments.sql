-- Payments, their refunds, and the books about both.

-- name: begin_payments
-- Start payments; says of each what became of it and which payment there is. Two who begin the same
-- ones do so in the same order.
SELECT w.n, b.verdict, b.payment_id
FROM (SELECT n, new FROM unnest($1::text[]) WITH ORDINALITY AS e(text, n),
        LATERAL (SELECT e.text::jsonb AS new) j
    ORDER BY new ->> 'hold_id', new ->> 'payment_id', n) w,
    LATERAL begin_payment(w.new) b;

-- name: find_payments
-- Payments by their ids.
SELECT p.*, p.price::text AS price_text, (SELECT json_agg(r ORDER BY r.number) FROM refund r
    WHERE r.payment_id = p.payment_id) AS refunds
FROM payment p WHERE payment_id = ANY ($1::text[]);

-- name: find_payments_of_holds
-- The payment that each hold was booked with, else the one that is alive, else the newest.
SELECT w.hold_id AS asked_hold_id, p.*, p.price::text AS price_text,
    (SELECT json_agg(r ORDER BY r.number) FROM refund r
        WHERE r.payment_id = p.payment_id) AS refunds
FROM unnest($1::text[]) AS w(hold_id), LATERAL (
    SELECT q.* FROM payment q
    WHERE q.hold_id = w.hold_id
        OR q.payment_id = (SELECT b.payment FROM booking b WHERE b.hold_id = w.hold_id)
    ORDER BY q.booking_hold_id = w.hold_id DESC NULLS LAST, q.is_alive DESC,
        q.created_at_ms DESC
    LIMIT 1) p;

-- name: list_payments_of_holds
-- All payments that were begun for these holds, the newest first.
SELECT p.*, p.price::text AS price_text, (SELECT json_agg(r ORDER BY r.number) FROM refund r
    WHERE r.payment_id = p.payment_id) AS refunds
FROM payment p
WHERE hold_id = ANY ($1::text[])
ORDER BY created_at_ms DESC, payment_id;

-- name: find_payment_by_provider_ref
-- The payment that a provider's object is of.
SELECT p.*, p.price::text AS price_text, (SELECT json_agg(r ORDER BY r.number) FROM refund r
    WHERE r.payment_id = p.payment_id) AS refunds
FROM payment p WHERE provider = $1 AND provider_ref = $2;

-- name: list_payments_by_customer
-- A customer's payments, the newest first.
SELECT p.*, p.price::text AS price_text, (SELECT json_agg(r ORDER BY r.number) FROM refund r
    WHERE r.payment_id = p.payment_id) AS refunds
FROM payment p
WHERE customer_id = $1 AND (created_at_ms, payment_id) < ($2, $3)
ORDER BY created_at_ms DESC, payment_id DESC
LIMIT $4;

-- name: list_payments_of_show
-- A show's payments after one, in the order of their ids.
SELECT p.*, p.price::text AS price_text, (SELECT json_agg(r ORDER BY r.number) FROM refund r
    WHERE r.payment_id = p.payment_id) AS refunds
FROM payment p
WHERE payment_id > $2 AND payment_id <= payments_to($1)
ORDER BY payment_id
LIMIT $3;

-- name: list_unfinished_payments
-- Payments that are not at their end and have not moved for some time, the oldest first.
SELECT p.*, p.price::text AS price_text, (SELECT json_agg(r ORDER BY r.number) FROM refund r
    WHERE r.payment_id = p.payment_id) AS refunds
FROM payment p
WHERE is_unfinished AND state_at_ms < $1
ORDER BY created_at_ms, payment_id
LIMIT $2;

-- name: lease_payments
-- Take payments that are due.
SELECT p.*, p.price::text AS price_text, (SELECT json_agg(r ORDER BY r.number) FROM refund r
    WHERE r.payment_id = p.payment_id) AS refunds
FROM lease_payments($1, $2, $3) p;

-- name: end_leases
-- End what other incarnations of an actor have leased; how many payments that were.
SELECT end_leases($1, $2);

-- name: next_due_at
-- When the next payment is due that nobody has; NULL when none is.
SELECT min(greatest(due_at_ms, lease_until_ms)) FROM payment p WHERE due_at_ms IS NOT NULL;

-- name: save_checkouts
-- Change payments and their refunds, each if it is as it was; its new version, or NULL. Two who
-- change the same ones do so in the same order; an order of the whole would be of the answers only.
SELECT w.n, save_checkout(w.payment_id, w.version, w.state, w.after::jsonb, w.refunds::jsonb,
    w.keeps_lease) AS version
FROM (SELECT * FROM unnest($1::text[], $2::integer[], $3::text[], $4::text[], $5::text[],
        $6::boolean[]) WITH ORDINALITY AS
        e(payment_id, version, state, after, refunds, keeps_lease, n)
    ORDER BY payment_id, n) w;

-- name: grant_refund
-- Write down a refund that staff asks for; the payment's new version, or NULL.
SELECT grant_refund($1, $2, $3, $4::text::jsonb, $5::text::jsonb, $6::text::jsonb);

-- name: list_refund_requests
-- What staff has asked to be paid back of a payment.
SELECT request_key, digest, refund_id, note, requested_by FROM refund_request
WHERE payment_id = $1;

-- name: wake_payment
-- Something was heard of a payment.
SELECT wake_payment($1);

-- name: list_entries
-- A show's ledger after an entry.
SELECT number, kind, amount_minor, currency, payment_id, refund_id, at_ms FROM ledger_entry
WHERE show_id = $1 AND number > $2
ORDER BY number
LIMIT $3;

-- name: sum_entries
-- What a show's ledger adds up to, and whether its numbers have a gap.
SELECT kind, currency, sum(amount_minor)::bigint AS amount_minor, count(*) AS entry_count,
    max(number) AS last_number
FROM ledger_entry
WHERE show_id = $1
GROUP BY 1, 2;

-- name: sum_payments
-- The same money, counted from the payments, the refunds and the bookings themselves.
SELECT coalesce(p.paid_currency, p.currency)::text AS currency,
    sum(p.captured_minor)::bigint AS captured_minor,
    sum(p.refunded_minor)::bigint AS refunded_minor,
    coalesce(sum(p.kept_minor), 0)::bigint AS kept_minor,
    coalesce(sum(p.amount_minor) FILTER (WHERE b.hold_id IS NOT NULL), 0)::bigint AS booked_minor,
    coalesce(sum(p.amount_minor - p.captured_minor) FILTER (WHERE p.state = 'booked'
        AND b.hold_id IS NOT NULL), 0)::bigint AS promised_minor,
    coalesce(sum((SELECT sum(r.amount_minor) FROM refund r WHERE r.payment_id = p.payment_id
        AND r.state = 'succeeded')), 0)::bigint AS refunds_minor,
    -- See granted_minor of the rules: of a booking that stands, or of what was kept of another.
    coalesce(sum((SELECT sum(r.amount_minor) FROM refund r WHERE r.payment_id = p.payment_id
        AND r.state = 'succeeded' AND r.reason = CASE
            WHEN p.kept_minor IS NOT NULL THEN 'forgone'
            WHEN p.cancelled_at_ms IS NULL THEN 'granted' END)), 0)::bigint AS given_up_minor
FROM payment p
    LEFT JOIN booking b ON b.hold_id = p.booking_hold_id AND b.payment = p.payment_id
        AND b.cancelled_at_ms IS NULL
WHERE p.payment_id BETWEEN payments_from($1) AND payments_to($1)
GROUP BY 1;

-- name: raise_alarm
-- Say that somebody has to look; true when nobody had said it yet.
SELECT raise_alarm($1, $2, $3, $4);

-- name: resolve_alarm
-- Somebody has looked.
SELECT resolve_alarm($1, $2);

-- name: list_open_alarms
-- What somebody has to look at, the oldest first.
SELECT alarm_id, kind, subject, show_id, detail, seen_count, raised_at_ms, seen_at_ms
FROM payment_alarm
WHERE resolved_at_ms IS NULL
ORDER BY alarm_id
LIMIT $1;
