-- What a show charges besides its fares, and what it gives back: the first database.

-- name: find_show_terms
-- The terms of shows; none of one for which nobody has set any.
SELECT show_id, price_terms::text AS price_terms, refund_policy::text AS refund_policy, version,
    updated_at_ms
FROM show_terms WHERE show_id = ANY ($1::text[]);

-- name: put_show_terms
-- Set the terms of a tenant's show; nothing when it is not the tenant's, or has changed since.
INSERT INTO show_terms AS t (show_id, price_terms, refund_policy)
SELECT show_id, $3::text::jsonb, $4::text::jsonb FROM show
WHERE tenant_id = $1 AND show_id = $2
    AND ($5::integer IS NULL OR $5 = coalesce(
        (SELECT version FROM show_terms WHERE show_id = $2), 0))
ON CONFLICT (show_id) DO UPDATE SET price_terms = excluded.price_terms,
    refund_policy = excluded.refund_policy, version = t.version + 1, updated_at_ms = house_now_ms()
WHERE $5::integer IS NULL OR t.version = $5
RETURNING price_terms::text AS price_terms, refund_policy::text AS refund_policy, version,
    updated_at_ms;

-- name: has_show
-- Whether a show is this tenant's.
SELECT EXISTS (SELECT FROM show WHERE tenant_id = $1 AND show_id = $2);
