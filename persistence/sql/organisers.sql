-- What organisers ask of Postgres about venues, plans, series, promo codes and channels. Every
-- statement names the tenant first; the row of another tenant is not found.

-- name: insert_venue
-- A new venue; nothing when the id is taken.
INSERT INTO venue (tenant_id, venue_id, request_digest, name, name_key, address, time_zone)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (venue_id) DO NOTHING
RETURNING *;

-- name: find_venue
-- One venue of a tenant.
SELECT * FROM venue WHERE tenant_id = $1 AND venue_id = $2;

-- name: update_venue
-- Change a venue.
UPDATE venue
SET name = $4, name_key = $5, address = $6, time_zone = $7, version = version + 1,
    updated_at_ms = house_now_ms()
WHERE tenant_id = $1 AND venue_id = $2 AND ($3::integer IS NULL OR version = $3)
RETURNING *;

-- name: delete_venue
-- Remove a venue that nothing refers to.
DELETE FROM venue WHERE tenant_id = $1 AND venue_id = $2 RETURNING *;

-- name: list_venues
-- Venues, the newest first.
SELECT * FROM venue
WHERE tenant_id = $1 AND (created_at_ms, venue_id) < ($2, $3)
ORDER BY created_at_ms DESC, venue_id DESC
LIMIT $4;

-- name: insert_venue_plan
-- A new named plan with its first version; nothing when the id is taken.
WITH plan AS (
    INSERT INTO venue_plan (tenant_id, venue_plan_id, request_digest, name, name_key, venue_id,
        plan_id)
    VALUES ($1, $2, $3, $4, $5, $6, $7)
    ON CONFLICT (venue_plan_id) DO NOTHING
    RETURNING *
), first AS (
    INSERT INTO plan_version (tenant_id, venue_plan_id, number, plan_id, created_by)
    SELECT tenant_id, venue_plan_id, 1, plan_id, $8 FROM plan
)
SELECT plan.*, seat_count, category_count
FROM plan JOIN seating_plan ON seating_plan.plan_id = plan.plan_id;

-- name: find_venue_plan
-- One named plan of a tenant.
SELECT venue_plan.*, seat_count, category_count
FROM venue_plan JOIN seating_plan ON seating_plan.plan_id = venue_plan.plan_id
WHERE tenant_id = $1 AND venue_plan_id = $2;

-- name: update_venue_plan
-- Rename a plan, or say where it is.
UPDATE venue_plan
SET name = $4, name_key = $5, venue_id = $6, version = version + 1,
    updated_at_ms = house_now_ms()
FROM seating_plan
WHERE tenant_id = $1 AND venue_plan_id = $2 AND ($3::integer IS NULL OR version = $3)
    AND seating_plan.plan_id = venue_plan.plan_id
RETURNING venue_plan.*, seat_count, category_count;

-- name: add_plan_version
-- A newer content for a named plan.
WITH plan AS (
    UPDATE venue_plan
    SET plan_id = $4, version_count = version_count + 1, version = version + 1,
        updated_at_ms = house_now_ms()
    WHERE tenant_id = $1 AND venue_plan_id = $2 AND ($3::integer IS NULL OR version = $3)
        AND plan_id <> $4
    RETURNING *
), newest AS (
    INSERT INTO plan_version (tenant_id, venue_plan_id, number, plan_id, created_by)
    SELECT tenant_id, venue_plan_id, version_count, plan_id, $5 FROM plan
)
SELECT plan.*, seat_count, category_count
FROM plan JOIN seating_plan ON seating_plan.plan_id = plan.plan_id;

-- name: list_venue_plans
-- Named plans, the newest first.
SELECT venue_plan.*, seat_count, category_count
FROM venue_plan JOIN seating_plan ON seating_plan.plan_id = venue_plan.plan_id
WHERE tenant_id = $1 AND (created_at_ms, venue_plan_id) < ($2, $3)
ORDER BY created_at_ms DESC, venue_plan_id DESC
LIMIT $4;

-- name: list_plan_versions
-- The versions of a named plan below a number, the newest first.
SELECT number, plan_version.plan_id, created_by, created_at_ms, seat_count, category_count
FROM plan_version
JOIN seating_plan ON seating_plan.plan_id = plan_version.plan_id
WHERE tenant_id = $1 AND venue_plan_id = $2 AND number < $3
ORDER BY number DESC
LIMIT $4;

-- name: owns_plan
-- Whether a tenant may sell from this content.
SELECT EXISTS (SELECT FROM plan_version WHERE tenant_id = $1 AND plan_id = $2)
    OR EXISTS (SELECT FROM show WHERE tenant_id = $1 AND plan_id = $2);

-- name: is_plan_of_others
-- Whether anybody but this tenant has this content.
SELECT EXISTS (SELECT FROM plan_version WHERE plan_id = $2 AND tenant_id <> $1)
    OR EXISTS (SELECT FROM show WHERE plan_id = $2 AND tenant_id <> $1)
    OR EXISTS (SELECT FROM series WHERE plan_id = $2 AND tenant_id <> $1);

-- name: insert_series
-- A new series; nothing when the id is taken.
INSERT INTO series (tenant_id, series_id, request_digest, title, description, venue_id, plan_id,
    duration_ms, currency, fares, policy)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10::text::jsonb, $11::text::jsonb)
ON CONFLICT (series_id) DO NOTHING
RETURNING *, fares::text AS fares_text, policy::text AS policy_text;

-- name: find_series
-- One series of a tenant.
SELECT *, fares::text AS fares_text, policy::text AS policy_text
FROM series WHERE tenant_id = $1 AND series_id = $2;

-- name: update_series
-- Change a series; the shows that were made of it stay as they are.
UPDATE series
SET title = $4, description = $5, venue_id = $6, plan_id = $7, duration_ms = $8, currency = $9,
    fares = $10::text::jsonb, policy = $11::text::jsonb, version = version + 1,
    updated_at_ms = house_now_ms()
WHERE tenant_id = $1 AND series_id = $2 AND ($3::integer IS NULL OR version = $3)
RETURNING *, fares::text AS fares_text, policy::text AS policy_text;

-- name: list_series
-- Series, the newest first.
SELECT *, fares::text AS fares_text, policy::text AS policy_text
FROM series
WHERE tenant_id = $1 AND (created_at_ms, series_id) < ($2, $3)
ORDER BY created_at_ms DESC, series_id DESC
LIMIT $4;

-- name: insert_promo_code
-- A new promo code; nothing when the id is taken.
INSERT INTO promo_code (tenant_id, promo_code_id, request_digest, code, code_key, terms, is_active)
VALUES ($1, $2, $3, $4, $5, $6::text::jsonb, $7)
ON CONFLICT (promo_code_id) DO NOTHING
RETURNING *, terms::text AS terms_text;

-- name: find_promo_code
-- One promo code of a tenant.
SELECT *, terms::text AS terms_text
FROM promo_code WHERE tenant_id = $1 AND promo_code_id = $2;

-- name: find_promo_code_by_code
-- The promo code that a customer typed.
SELECT *, terms::text AS terms_text FROM promo_code WHERE tenant_id = $1 AND code_key = $2;

-- name: update_promo_code
-- Change a promo code.
UPDATE promo_code
SET code = $4, code_key = $5, terms = $6::text::jsonb, is_active = $7, version = version + 1,
    updated_at_ms = house_now_ms()
WHERE tenant_id = $1 AND promo_code_id = $2 AND ($3::integer IS NULL OR version = $3)
RETURNING *, terms::text AS terms_text;

-- name: list_promo_codes
-- Promo codes, the newest first.
SELECT *, terms::text AS terms_text
FROM promo_code
WHERE tenant_id = $1 AND (created_at_ms, promo_code_id) < ($2, $3)
ORDER BY created_at_ms DESC, promo_code_id DESC
LIMIT $4;

-- name: insert_channel
-- A new channel; nothing when the id is taken.
INSERT INTO channel (tenant_id, channel_id, request_digest, name, name_key, key_sha256)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (channel_id) DO NOTHING
RETURNING *;

-- name: find_channel
-- One channel of a tenant.
SELECT * FROM channel WHERE tenant_id = $1 AND channel_id = $2;

-- name: find_channel_by_key
-- The channel that this access key opens. Who sells may read these columns and no other.
SELECT channel_id, tenant_id, name, is_open, version, created_at_ms, updated_at_ms
FROM channel WHERE key_sha256 = $1;

-- name: update_channel
-- Rename a channel.
UPDATE channel
SET name = $4, name_key = $5, version = version + 1, updated_at_ms = house_now_ms()
WHERE tenant_id = $1 AND channel_id = $2 AND ($3::integer IS NULL OR version = $3)
RETURNING *;

-- name: set_channel_open
-- Open or close a channel.
UPDATE channel
SET is_open = $4, version = version + 1, updated_at_ms = house_now_ms()
WHERE tenant_id = $1 AND channel_id = $2 AND ($3::integer IS NULL OR version = $3)
RETURNING *;

-- name: replace_channel_key
-- Another access key; the one before opens nothing from now on.
UPDATE channel
SET key_sha256 = $4, version = version + 1, updated_at_ms = house_now_ms()
WHERE tenant_id = $1 AND channel_id = $2 AND ($3::integer IS NULL OR version = $3)
RETURNING *;

-- name: list_channels
-- Channels, the newest first.
SELECT * FROM channel
WHERE tenant_id = $1 AND (created_at_ms, channel_id) < ($2, $3)
ORDER BY created_at_ms DESC, channel_id DESC
LIMIT $4;
