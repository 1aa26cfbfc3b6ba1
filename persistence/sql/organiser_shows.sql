-- What organisers ask of Postgres about their own shows, drafts included.

-- name: insert_show
-- A new show; nothing when its id is taken.
INSERT INTO show
    (show_id, source_key, kind, title, venue, starts_at, ends_at, service_day_at, time_zone,
     plan_id, route_id, currency, fares, placement, policy, search_words, tenant_id, status,
     description, series_id, venue_id, request_digest)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13::text::jsonb, $14,
    $15::text::jsonb, $16, $17, $18, $19, $20, $21, $22)
ON CONFLICT (show_id) DO NOTHING
RETURNING show_id;

-- name: find_show_of_tenant
-- One show of a tenant.
SELECT show_id, source_key, kind, title, venue, starts_at, ends_at, service_day_at, time_zone,
       plan_id, route_id, currency, fares::text AS fares, placement, policy::text AS policy,
       tenant_id, status, description, series_id, venue_id, version, request_digest, created_at,
       updated_at
FROM show
WHERE tenant_id = $1 AND show_id = $2;

-- name: lock_show_of_tenant
-- One show of a tenant, which nobody else changes until the transaction ends.
SELECT show_id, source_key, kind, title, venue, starts_at, ends_at, service_day_at, time_zone,
       plan_id, route_id, currency, fares::text AS fares, placement, policy::text AS policy,
       tenant_id, status, description, series_id, venue_id, version, request_digest, created_at,
       updated_at
FROM show
WHERE tenant_id = $1 AND show_id = $2
FOR UPDATE;

-- name: update_show
-- Change what an organiser may change of a show.
UPDATE show
SET title = $2, venue = $3, starts_at = $4, ends_at = $5, service_day_at = $6, currency = $7,
    fares = $8::text::jsonb, policy = $9::text::jsonb, search_words = $10, description = $11,
    series_id = $12, venue_id = $13, version = version + 1, updated_at = now()
WHERE show_id = $1;

-- name: set_show_status
-- Publish or cancel a show, from one of these states.
UPDATE show
SET status = $3, version = version + 1, updated_at = now()
WHERE tenant_id = $1 AND show_id = $2 AND status = ANY ($4::text[])
RETURNING show_id;

-- name: change_show_plan
-- Give a show a revised plan; says what became of it.
SELECT change_show_plan($1, $2, $3, $4, $5, $6::text::jsonb);

-- name: load_two_plans
-- The plans that a change is from and to, with their labels.
SELECT plan_id, layout, labels FROM seating_plan WHERE plan_id IN ($1, $2);

-- name: list_shows_of_tenant
-- Shows of a tenant from a place in the order of their starts.
SELECT show_id, source_key, kind, title, venue, starts_at, ends_at, service_day_at, time_zone,
       plan_id, route_id, currency, fares::text AS fares, placement, policy::text AS policy,
       tenant_id, status, description, series_id, venue_id, version, request_digest, created_at,
       updated_at
FROM show
WHERE tenant_id = $1 AND (starts_at, show_id) > ($2, $3) AND starts_at < $4
  AND ($5::text IS NULL OR status = $5) AND ($6::text IS NULL OR series_id = $6)
  AND ($7::text IS NULL OR kind = $7) AND ($8::text IS NULL OR search @@ $8::text::tsquery)
ORDER BY starts_at, show_id
LIMIT $9;
