-- Uses of promo codes, in the first database.

-- name: take_promo_use
-- Count a use, unless the code was used often enough; says what became of it.
SELECT take_promo_use($1, $2, $3, $4, $5, $6);

-- name: give_promo_use_back
-- A checkout ended without a booking.
SELECT give_promo_use_back($1);

-- name: keep_promo_use
-- A checkout ended with a booking.
SELECT keep_promo_use($1);

-- name: count_promo_uses
-- How often a code was used, by all and by one customer.
SELECT coalesce((SELECT use_count FROM promo_use_count
                 WHERE tenant_id = $1 AND code_key = $2), 0) AS total,
    (SELECT count(*) FROM promo_use
     WHERE tenant_id = $1 AND code_key = $2 AND customer_id = $3) AS by_customer;

-- name: list_open_promo_uses
-- Uses whose checkouts have not been said to have ended, the oldest first.
SELECT payment_id FROM promo_use
WHERE NOT is_kept AND at_ms < $1
ORDER BY at_ms
LIMIT $2;
