-- What organisers work with: venues, named seating plans with versions, series, promo codes,
-- channels, imports of timetables; and whose every show is.
--
-- Every row belongs to one tenant, and a row may refer only to rows of its own tenant: such keys
-- are pairs with the tenant in them. Column version counts the changes of a row, so that two
-- people who edit the same thing notice each other. request_digest is the digest of the request
-- that made the row: a repeated request finds its own row, another one finds the id taken.

CREATE TABLE venue (
    venue_id       text COLLATE "C" PRIMARY KEY CHECK (venue_id ~ '^ven_[0-9a-hjkmnp-tv-z]{20}$'),
    tenant_id      text COLLATE "C" NOT NULL REFERENCES tenant,
    name           text NOT NULL CHECK (char_length(name) BETWEEN 1 AND 500),
    name_key       text COLLATE "C" NOT NULL,
    address        text NOT NULL CHECK (char_length(address) <= 2000),
    time_zone      text NOT NULL CHECK (char_length(time_zone) BETWEEN 1 AND 100),
    version        integer NOT NULL DEFAULT 1,
    request_digest bytea NOT NULL,
    created_at_ms  bigint NOT NULL DEFAULT house_now_ms(),
    updated_at_ms  bigint NOT NULL DEFAULT house_now_ms(),
    UNIQUE (tenant_id, venue_id),
    UNIQUE (tenant_id, name_key)
);
CREATE INDEX venue_by_age ON venue (tenant_id, created_at_ms DESC, venue_id DESC);

-- A seating plan as an organiser knows it: a name, and versions whose content never changes.
CREATE TABLE venue_plan (
    venue_plan_id  text COLLATE "C" PRIMARY KEY
                   CHECK (venue_plan_id ~ '^vpl_[0-9a-hjkmnp-tv-z]{20}$'),
    tenant_id      text COLLATE "C" NOT NULL REFERENCES tenant,
    venue_id       text COLLATE "C",
    name           text NOT NULL CHECK (char_length(name) BETWEEN 1 AND 500),
    name_key       text COLLATE "C" NOT NULL,
    version_count  integer NOT NULL DEFAULT 1 CHECK (version_count >= 1),
    plan_id        text COLLATE "C" NOT NULL REFERENCES seating_plan,
    version        integer NOT NULL DEFAULT 1,
    request_digest bytea NOT NULL,
    created_at_ms  bigint NOT NULL DEFAULT house_now_ms(),
    updated_at_ms  bigint NOT NULL DEFAULT house_now_ms(),
    FOREIGN KEY (tenant_id, venue_id) REFERENCES venue (tenant_id, venue_id),
    UNIQUE (tenant_id, venue_plan_id),
    UNIQUE (tenant_id, name_key)
);
COMMENT ON COLUMN venue_plan.plan_id IS 'the content of the newest version';
CREATE INDEX venue_plan_by_age ON venue_plan (tenant_id, created_at_ms DESC, venue_plan_id DESC);

CREATE TABLE plan_version (
    tenant_id     text COLLATE "C" NOT NULL,
    venue_plan_id text COLLATE "C" NOT NULL,
    number        integer NOT NULL CHECK (number >= 1),
    plan_id       text COLLATE "C" NOT NULL REFERENCES seating_plan,
    created_by    text COLLATE "C" NOT NULL,
    created_at_ms bigint NOT NULL DEFAULT house_now_ms(),
    PRIMARY KEY (venue_plan_id, number),
    FOREIGN KEY (tenant_id, venue_plan_id) REFERENCES venue_plan (tenant_id, venue_plan_id)
);
CREATE INDEX plan_version_by_plan ON plan_version (plan_id, tenant_id);

-- A production with several shows, and what a new show of it starts from.
CREATE TABLE series (
    series_id      text COLLATE "C" PRIMARY KEY CHECK (series_id ~ '^ser_[0-9a-hjkmnp-tv-z]{20}$'),
    tenant_id      text COLLATE "C" NOT NULL REFERENCES tenant,
    title          text NOT NULL CHECK (char_length(title) BETWEEN 1 AND 500),
    description    text NOT NULL CHECK (char_length(description) <= 10000),
    venue_id       text COLLATE "C",
    plan_id        text COLLATE "C" REFERENCES seating_plan,
    duration_ms    bigint CHECK (duration_ms >= 0),
    currency       char(3) CHECK (currency ~ '^[A-Z]{3}$'),
    fares          jsonb,
    policy         jsonb,
    version        integer NOT NULL DEFAULT 1,
    request_digest bytea NOT NULL,
    created_at_ms  bigint NOT NULL DEFAULT house_now_ms(),
    updated_at_ms  bigint NOT NULL DEFAULT house_now_ms(),
    FOREIGN KEY (tenant_id, venue_id) REFERENCES venue (tenant_id, venue_id),
    CHECK ((currency IS NULL) = (fares IS NULL)),
    UNIQUE (tenant_id, series_id)
);
CREATE INDEX series_by_age ON series (tenant_id, created_at_ms DESC, series_id DESC);

-- Whose a show is. What the command line imported before there were tenants is the house's.
ALTER TABLE show
    ADD COLUMN tenant_id text COLLATE "C" NOT NULL DEFAULT 'tnt_00000000000000000000'
        REFERENCES tenant,
    ADD COLUMN description text NOT NULL DEFAULT '' CHECK (char_length(description) <= 10000),
    ADD COLUMN series_id text COLLATE "C",
    ADD COLUMN venue_id text COLLATE "C",
    ADD COLUMN version integer NOT NULL DEFAULT 1,
    ADD COLUMN request_digest bytea,
    ADD FOREIGN KEY (tenant_id, series_id) REFERENCES series (tenant_id, series_id),
    ADD FOREIGN KEY (tenant_id, venue_id) REFERENCES venue (tenant_id, venue_id),
    DROP CONSTRAINT show_status_check,
    ADD CONSTRAINT show_status_check CHECK (status IN ('draft', 'on_sale', 'cancelled'));
COMMENT ON COLUMN show.request_digest IS 'of the request that made the show; NULL for imported ones';
CREATE INDEX show_by_tenant ON show (tenant_id, starts_at, show_id);
CREATE INDEX show_by_series ON show (series_id, starts_at, show_id) WHERE series_id IS NOT NULL;
CREATE INDEX show_by_plan ON show (plan_id, tenant_id);

-- Give a show a revised plan. Nobody may set show.plan_id otherwise, because seats were sold by
-- their indexes: a revised plan has at least the seats, and the categories, of the one before.
-- That they are the same ones is compared where plans can be read (persistence/organiser_shows.py).
CREATE FUNCTION change_show_plan(
    p_tenant_id text, p_show_id text, p_expected_plan_id text, p_plan_id text,
    p_currency text, p_fares jsonb
) RETURNS text LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    v_plan_id text;
    v_is_larger boolean;
BEGIN
    SELECT plan_id INTO v_plan_id FROM show
        WHERE show_id = p_show_id AND tenant_id = p_tenant_id FOR UPDATE;
    IF NOT FOUND THEN
        RETURN 'not_found';
    END IF;
    IF v_plan_id NOT IN (p_expected_plan_id, p_plan_id) THEN
        RETURN 'stale';
    END IF;
    SELECT new.seat_count >= old.seat_count AND new.category_count >= old.category_count
        INTO v_is_larger FROM seating_plan old, seating_plan new
        WHERE old.plan_id = v_plan_id AND new.plan_id = p_plan_id;
    IF v_is_larger IS NOT TRUE THEN
        RETURN 'reference_not_found';
    END IF;
    UPDATE show SET plan_id = p_plan_id, currency = p_currency, fares = p_fares,
            version = version + 1, updated_at = now()
        WHERE show_id = p_show_id
            AND (plan_id, currency::text, fares) IS DISTINCT FROM (p_plan_id, p_currency, p_fares);
    RETURN CASE WHEN FOUND THEN 'updated' ELSE 'repeated' END;
END $$;

-- Reductions by a code that customers type. Orders take them into account when they are paid.
CREATE TABLE promo_code (
    promo_code_id  text COLLATE "C" PRIMARY KEY
                   CHECK (promo_code_id ~ '^prm_[0-9a-hjkmnp-tv-z]{20}$'),
    tenant_id      text COLLATE "C" NOT NULL REFERENCES tenant,
    code           text NOT NULL CHECK (char_length(code) BETWEEN 1 AND 40),
    code_key       text COLLATE "C" NOT NULL CHECK (char_length(code_key) BETWEEN 1 AND 40),
    terms          jsonb NOT NULL CHECK (jsonb_typeof(terms) = 'object'),
    is_active      boolean NOT NULL,
    version        integer NOT NULL DEFAULT 1,
    request_digest bytea NOT NULL,
    created_at_ms  bigint NOT NULL DEFAULT house_now_ms(),
    updated_at_ms  bigint NOT NULL DEFAULT house_now_ms(),
    UNIQUE (tenant_id, code_key)
);
COMMENT ON COLUMN promo_code.code_key IS 'the code as it is compared: reservation/promo_codes.py';
CREATE INDEX promo_code_by_age ON promo_code (tenant_id, created_at_ms DESC, promo_code_id DESC);

-- Who sells seats on behalf of a tenant: an agency, a partner, a presale. Which seats are
-- allocated to it is known by each show's actor.
CREATE TABLE channel (
    channel_id     text COLLATE "C" PRIMARY KEY
                   CHECK (channel_id ~ '^chn_[0-9a-hjkmnp-tv-z]{20}$'),
    tenant_id      text COLLATE "C" NOT NULL REFERENCES tenant,
    name           text NOT NULL CHECK (char_length(name) BETWEEN 1 AND 200),
    name_key       text COLLATE "C" NOT NULL,
    key_sha256     bytea NOT NULL UNIQUE CHECK (octet_length(key_sha256) = 32),
    is_open        boolean NOT NULL DEFAULT true,
    version        integer NOT NULL DEFAULT 1,
    request_digest bytea NOT NULL,
    created_at_ms  bigint NOT NULL DEFAULT house_now_ms(),
    updated_at_ms  bigint NOT NULL DEFAULT house_now_ms(),
    UNIQUE (tenant_id, name_key)
);
CREATE INDEX channel_by_age ON channel (tenant_id, created_at_ms DESC, channel_id DESC);

-- Imports of timetables. A worker has a job until lease_until_ms; after that anybody may take it
-- and do it anew, which changes nothing that is done already.
CREATE TABLE import_job (
    import_job_id  text COLLATE "C" PRIMARY KEY
                   CHECK (import_job_id ~ '^imp_[0-9a-hjkmnp-tv-z]{20}$'),
    tenant_id      text COLLATE "C" NOT NULL REFERENCES tenant,
    account_id     text COLLATE "C" NOT NULL,
    file_name      text NOT NULL CHECK (char_length(file_name) <= 300),
    parameters     jsonb NOT NULL CHECK (jsonb_typeof(parameters) = 'object'),
    state          text NOT NULL DEFAULT 'uploading' CHECK (state IN
                   ('uploading', 'queued', 'running', 'done', 'failed', 'cancelled')),
    archive_bytes  bigint NOT NULL DEFAULT 0,
    chunk_count    integer NOT NULL DEFAULT 0,
    worker         text,
    lease_until_ms bigint,
    attempt_count  integer NOT NULL DEFAULT 0,
    stage          text NOT NULL DEFAULT '' CHECK (char_length(stage) <= 200),
    done_count     bigint NOT NULL DEFAULT 0,
    total_count    bigint NOT NULL DEFAULT 0,
    created_count  bigint NOT NULL DEFAULT 0,
    updated_count  bigint NOT NULL DEFAULT 0,
    unchanged_count bigint NOT NULL DEFAULT 0,
    problem_count  bigint NOT NULL DEFAULT 0,
    problems       jsonb NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(problems) = 'array'),
    failure        text NOT NULL DEFAULT '',
    version        integer NOT NULL DEFAULT 1,
    request_digest bytea NOT NULL,
    created_at_ms  bigint NOT NULL DEFAULT house_now_ms(),
    updated_at_ms  bigint NOT NULL DEFAULT house_now_ms(),
    finished_at_ms bigint,
    CHECK ((state = 'running') = (worker IS NOT NULL AND lease_until_ms IS NOT NULL)),
    CHECK ((state IN ('done', 'failed', 'cancelled')) = (finished_at_ms IS NOT NULL)),
    UNIQUE (tenant_id, import_job_id)
);
COMMENT ON COLUMN import_job.problems IS 'the first thousand: [[file, place, reason], ...]';
CREATE INDEX import_job_by_age ON import_job (tenant_id, created_at_ms DESC, import_job_id DESC);
CREATE INDEX import_job_waiting ON import_job (created_at_ms) WHERE state IN ('queued', 'running');
CREATE INDEX import_job_uploading ON import_job (updated_at_ms) WHERE state = 'uploading';

-- The archive itself, so that whoever takes the job has it. Gone when the job has ended.
CREATE TABLE import_job_chunk (
    import_job_id text COLLATE "C" NOT NULL REFERENCES import_job,
    number        integer NOT NULL CHECK (number >= 0),
    content       bytea NOT NULL CHECK (octet_length(content) BETWEEN 1 AND 1048576),
    PRIMARY KEY (import_job_id, number)
);
-- Archives are compressed already.
ALTER TABLE import_job_chunk ALTER COLUMN content SET STORAGE EXTERNAL;

GRANT SELECT ON tenant TO housefull_organiser;
GRANT SELECT, INSERT ON venue, venue_plan, plan_version, series, promo_code, channel, import_job
    TO housefull_organiser;
GRANT UPDATE (name, name_key, address, time_zone, version, updated_at_ms), DELETE
    ON venue TO housefull_organiser;
GRANT UPDATE (venue_id, name, name_key, version_count, plan_id, version, updated_at_ms)
    ON venue_plan TO housefull_organiser;
GRANT UPDATE (title, description, venue_id, plan_id, duration_ms, currency, fares, policy, version,
    updated_at_ms) ON series TO housefull_organiser;
GRANT UPDATE (code, code_key, terms, is_active, version, updated_at_ms)
    ON promo_code TO housefull_organiser;
GRANT UPDATE (name, name_key, key_sha256, is_open, version, updated_at_ms)
    ON channel TO housefull_organiser;
GRANT UPDATE (state, archive_bytes, chunk_count, worker, lease_until_ms, attempt_count, stage,
    done_count, total_count, created_count, updated_count, unchanged_count, problem_count,
    problems, failure, version, updated_at_ms, finished_at_ms) ON import_job TO housefull_organiser;
GRANT SELECT, INSERT, UPDATE (content), DELETE ON import_job_chunk TO housefull_organiser;
GRANT UPDATE (description, series_id, venue_id, version) ON show TO housefull_organiser;
-- Who holds through a channel shows its key to the application that sells.
GRANT SELECT (channel_id, tenant_id, name, key_sha256, is_open, version, created_at_ms,
    updated_at_ms) ON channel TO housefull_application;
-- What was sold, for whom it is sold.
GRANT SELECT ON every_hold, hold, booking, seat_block, channel_seat, cancelled_show TO housefull_organiser;

REVOKE ALL ON FUNCTION change_show_plan FROM PUBLIC;
DO $$
BEGIN
    -- It runs with our rights, so what it names must be ours, whatever path the caller has set.
    EXECUTE format('ALTER FUNCTION change_show_plan SET search_path = %I, pg_temp',
        current_schema());
END $$;
GRANT EXECUTE ON FUNCTION change_show_plan TO housefull_organiser;
