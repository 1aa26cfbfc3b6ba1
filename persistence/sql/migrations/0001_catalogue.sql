-- The catalogue: seating plans, routes, the shows made of them, and who may touch which.
--
-- Plans and routes are named by their content and never change; shows refer to them.
-- What people type is compared by keys that the program makes (lower case, no accents, no
-- punctuation), because what lower() does depends on the locale of the database.

-- Roles belong to the whole server, so another database may be making them at this moment:
-- CREATE ROLE then fails in one of two ways, and both mean that the role is there.
DO $$
DECLARE
    group_role text;
BEGIN
    FOREACH group_role IN ARRAY ARRAY['housefull_application', 'housefull_organiser'] LOOP
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = group_role) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN', group_role);
            EXCEPTION WHEN duplicate_object OR unique_violation THEN
                NULL;
            END;
        END IF;
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', current_schema(), group_role);
    END LOOP;
END
$$;

CREATE TABLE seating_plan (
    plan_id        text COLLATE "C" PRIMARY KEY
                   CHECK (plan_id ~ '^pln_[0-9a-hjkmnp-tv-z]{20}$'),
    name           text NOT NULL CHECK (char_length(name) <= 500),
    seat_count     integer NOT NULL CHECK (seat_count BETWEEN 0 AND 200000),
    category_count integer NOT NULL CHECK (category_count >= 0),
    layout         bytea NOT NULL,
    labels         bytea NOT NULL,
    document       jsonb NOT NULL,
    extras         jsonb NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN seating_plan.layout IS 'persistence/plan_codec.py; without labels, for actors';
COMMENT ON COLUMN seating_plan.labels IS 'persistence/plan_codec.py; what people call the seats';
COMMENT ON COLUMN seating_plan.document IS 'the plan as it was imported';
-- Both are compressed before they come here; a second attempt only costs time.
ALTER TABLE seating_plan ALTER COLUMN layout SET STORAGE EXTERNAL;
ALTER TABLE seating_plan ALTER COLUMN labels SET STORAGE EXTERNAL;

CREATE TABLE route (
    route_id   text COLLATE "C" PRIMARY KEY
               CHECK (route_id ~ '^rte_[0-9a-hjkmnp-tv-z]{20}$'),
    name       text NOT NULL CHECK (char_length(name) <= 500),
    leg_count  integer NOT NULL CHECK (leg_count BETWEEN 1 AND 255),
    stops      jsonb NOT NULL CHECK (jsonb_typeof(stops) = 'array'),
    created_at timestamptz NOT NULL DEFAULT now(),
    -- A route without stops has one leg; otherwise there is one leg between two stops.
    CHECK (jsonb_array_length(stops) = CASE WHEN stops = '[]' THEN 0 ELSE leg_count + 1 END),
    CHECK (stops <> '[]' OR leg_count = 1)
);

-- A place that runs call at. Two timetables may use one code for different places, so a
-- place is its code and its name together.
CREATE TABLE stop (
    stop_id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- The lengths are bounded because an index entry must stay below 2,704 bytes.
    place_code text COLLATE "C" NOT NULL CHECK (char_length(place_code) <= 100),
    name       text COLLATE "C" NOT NULL CHECK (char_length(name) <= 300),
    name_key   text COLLATE "C" NOT NULL CHECK (char_length(name_key) <= 300),
    search     tsvector NOT NULL
               GENERATED ALWAYS AS (array_to_tsvector(string_to_array(name_key, ' '))) STORED,
    UNIQUE (place_code, name)
);
CREATE INDEX stop_by_name ON stop (name_key);
CREATE INDEX stop_by_word ON stop USING gin (search);

CREATE TABLE route_stop (
    route_id    text COLLATE "C" NOT NULL REFERENCES route,
    position    integer NOT NULL CHECK (position BETWEEN 0 AND 255),
    stop_id     bigint NOT NULL REFERENCES stop,
    stop_code   text NOT NULL,
    arrival_s   integer NOT NULL,
    departure_s integer NOT NULL,
    PRIMARY KEY (route_id, position)
);
COMMENT ON COLUMN route_stop.stop_code IS 'unique on its route: X, and X#2 for a second call at X';
CREATE INDEX route_stop_by_stop ON route_stop (stop_id, route_id, position);

CREATE TABLE show (
    show_id        text COLLATE "C" PRIMARY KEY
                   CHECK (show_id ~ '^shw_[0-9a-hjkmnp-tv-z]{16}$'),
    source_key     text COLLATE "C" NOT NULL UNIQUE
                   CHECK (char_length(source_key) BETWEEN 1 AND 500),
    kind           text NOT NULL CHECK (kind IN ('performance', 'train', 'bus', 'other_run')),
    title          text NOT NULL CHECK (char_length(title) <= 500),
    venue          text NOT NULL CHECK (char_length(venue) <= 500),
    starts_at      timestamptz NOT NULL,
    ends_at        timestamptz NOT NULL,
    service_day_at timestamptz NOT NULL,
    time_zone      text NOT NULL CHECK (time_zone <> ''),
    plan_id        text COLLATE "C" NOT NULL REFERENCES seating_plan,
    route_id       text COLLATE "C" REFERENCES route,
    currency       char(3) NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    fares          jsonb NOT NULL CHECK (jsonb_typeof(fares) = 'array'),
    placement      text NOT NULL CHECK (placement IN ('dedicated', 'pooled')),
    policy         jsonb NOT NULL CHECK (jsonb_typeof(policy) = 'object'),
    status         text NOT NULL DEFAULT 'on_sale' CHECK (status IN ('on_sale', 'cancelled')),
    search_words   text NOT NULL,
    search         tsvector NOT NULL
                   GENERATED ALWAYS AS (array_to_tsvector(string_to_array(search_words, ' '))) STORED,
    created_at     timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now(),
    CHECK (ends_at >= starts_at)
);
COMMENT ON COLUMN show.service_day_at IS 'the instant that the seconds of route_stop count from';
COMMENT ON COLUMN show.fares IS 'one [base_minor, [leg_minor, ...]] for each category of the plan';
COMMENT ON COLUMN show.search_words IS 'the words of title and venue as persistence/catalogue_search.py makes them';
CREATE INDEX show_by_start ON show (starts_at, show_id) WHERE status = 'on_sale';
CREATE INDEX show_by_kind_and_start ON show (kind, starts_at, show_id) WHERE status = 'on_sale';
CREATE INDEX show_by_route_and_day ON show (route_id, service_day_at, show_id)
    WHERE status = 'on_sale' AND route_id IS NOT NULL;
CREATE INDEX show_by_word ON show USING gin (search);

GRANT SELECT ON schema_migration TO housefull_application, housefull_organiser;
GRANT SELECT ON seating_plan, route, stop, route_stop, show
    TO housefull_application, housefull_organiser;
GRANT INSERT ON seating_plan, route, stop, route_stop, show TO housefull_organiser;
-- What a show is made of, and the drawing that seats were sold from, are not in these lists.
GRANT UPDATE (name, document, extras) ON seating_plan TO housefull_organiser;
GRANT UPDATE (kind, title, venue, starts_at, ends_at, service_day_at, time_zone, currency, fares,
    placement, policy, status, search_words, updated_at) ON show TO housefull_organiser;
