-- What the catalogue asks of Postgres. Instants go in as timestamptz, JSON as text, so that
-- nothing depends on the codecs of the caller's pool.

-- name: find_show
-- What an actor needs of a show; plan and route are usually in memory already.
SELECT plan_id, route_id, currency, fares::text AS fares, placement, policy::text AS policy, status
FROM show
WHERE show_id = $1;

-- name: renew_listings
-- Everything that is told about those of these shows ($1) whose row is another than the reader
-- knows ($2: its version, null for none); a draft is not told. Each transaction that changes a row
-- leaves its own number in xmin, so the number is a version that nobody can forget to raise.
SELECT w.show_id AS asked_id, s.xmin::text::bigint AS version, s.show_id, source_key, kind, title,
       venue, starts_at, ends_at, service_day_at, time_zone, plan_id, route_id, currency,
       fares::text AS fares, placement, policy::text AS policy, tenant_id, s.status, description,
       series_id, venue_id
FROM unnest($1::text[], $2::bigint[]) AS w(show_id, version)
    LEFT JOIN show s ON s.show_id = w.show_id AND s.status <> 'draft'
WHERE s.xmin::text::bigint IS DISTINCT FROM w.version;

-- name: find_placements
-- Which kind of actor owns each of these shows.
SELECT show_id, placement FROM show WHERE show_id = ANY ($1::text[]);

-- name: set_placement
-- Give a show to another kind of actor.
UPDATE show
SET placement = $2, updated_at = CASE WHEN placement = $2 THEN updated_at ELSE now() END
WHERE show_id = $1;

-- name: count_shows
-- How many shows there are, cancelled ones and drafts included.
SELECT count(*) FROM show;

-- name: load_layout
-- A plan without its labels.
SELECT layout FROM seating_plan WHERE plan_id = $1;

-- name: load_plan
-- A plan with its labels.
SELECT layout, labels FROM seating_plan WHERE plan_id = $1;

-- name: load_plan_document
-- The drawing of a plan as it was imported, and what was added to it.
SELECT document::text AS document, extras::text AS extras FROM seating_plan WHERE plan_id = $1;

-- name: load_route
-- The stops of a route.
SELECT stops::text AS stops FROM route WHERE route_id = $1;

-- name: list_shows
-- Shows on sale from a place in the order of their starts; the bound pair is exclusive.
SELECT show_id, kind, title, venue, starts_at, ends_at, time_zone, plan_id, route_id, currency,
       fares::text AS fares
FROM show
WHERE status = 'on_sale' AND (starts_at, show_id) > ($1, $2) AND starts_at < $3
ORDER BY starts_at, show_id
LIMIT $4;

-- name: list_shows_of_kind
-- The same for one kind, which may be rare: it has an index of its own.
SELECT show_id, kind, title, venue, starts_at, ends_at, time_zone, plan_id, route_id, currency,
       fares::text AS fares
FROM show
WHERE status = 'on_sale' AND (starts_at, show_id) > ($1, $2) AND starts_at < $3 AND kind = $5
ORDER BY starts_at, show_id
LIMIT $4;

-- name: list_soon_with_words
-- Those of the next 2,000 shows that have these words: enough for frequent words, and for those
-- the index of words would bring too many.
SELECT show_id, kind, title, venue, starts_at, ends_at, time_zone, plan_id, route_id, currency,
       fares::text AS fares
FROM (
    SELECT show_id, kind, title, venue, starts_at, ends_at, time_zone, plan_id, route_id, currency,
           fares, search
    FROM show
    WHERE status = 'on_sale' AND (starts_at, show_id) > ($1, $2) AND starts_at < $3
    ORDER BY starts_at, show_id
    LIMIT 2000
) AS soon
WHERE search @@ $5::text::tsquery
ORDER BY starts_at, show_id
LIMIT $4;

-- name: list_soon_of_kind_with_words
-- The same among the next 2,000 shows of one kind.
SELECT show_id, kind, title, venue, starts_at, ends_at, time_zone, plan_id, route_id, currency,
       fares::text AS fares
FROM (
    SELECT show_id, kind, title, venue, starts_at, ends_at, time_zone, plan_id, route_id, currency,
           fares, search
    FROM show
    WHERE status = 'on_sale' AND (starts_at, show_id) > ($1, $2) AND starts_at < $3 AND kind = $6
    ORDER BY starts_at, show_id
    LIMIT 2000
) AS soon
WHERE search @@ $5::text::tsquery
ORDER BY starts_at, show_id
LIMIT $4;

-- name: list_shows_with_words
-- All shows with these words, by the index of words.
SELECT show_id, kind, title, venue, starts_at, ends_at, time_zone, plan_id, route_id, currency,
       fares::text AS fares
FROM show
WHERE status = 'on_sale' AND (starts_at, show_id) > ($1, $2) AND starts_at < $3
  AND search @@ $5::text::tsquery AND ($6::text IS NULL OR kind = $6)
ORDER BY starts_at, show_id
LIMIT $4;

-- name: list_rides
-- Runs that call at one stop and later at another, in the order of the departures there.
-- A missing stop is the run's own first or last one. First the routes that go this way, each
-- with the first pair of calls that does; then for each route the first few runs after the
-- bound, by an index alone; and only for those that are shown, the rest of what is told.
WITH boarding AS (
    SELECT stop_id FROM stop WHERE place_code = ANY ($5::text[]) OR name_key = $6
), alighting AS (
    SELECT stop_id FROM stop WHERE place_code = ANY ($7::text[]) OR name_key = $8
), ride AS (
    (SELECT DISTINCT ON (board.route_id)
            board.route_id, board.position AS from_leg, alight.position AS to_leg
     FROM route_stop AS board
     JOIN route_stop AS alight
       ON alight.route_id = board.route_id AND alight.position > board.position
     WHERE board.stop_id IN (SELECT stop_id FROM boarding)
       AND alight.stop_id IN (SELECT stop_id FROM alighting)
     ORDER BY board.route_id, board.position, alight.position)
    UNION ALL
    (SELECT board.route_id, min(board.position), route.leg_count
     FROM route_stop AS board
     JOIN route ON route.route_id = board.route_id AND board.position < route.leg_count
     WHERE $7::text[] IS NULL AND board.stop_id IN (SELECT stop_id FROM boarding)
     GROUP BY board.route_id, route.leg_count)
    UNION ALL
    (SELECT alight.route_id, 0, min(alight.position)
     FROM route_stop AS alight
     WHERE $5::text[] IS NULL AND alight.position > 0
       AND alight.stop_id IN (SELECT stop_id FROM alighting)
     GROUP BY alight.route_id)
), departure AS (
    SELECT ride.*, board.stop_code AS from_code, board.stop_id AS from_id, run.show_id,
           run.service_day_at, run.service_day_at + until.departure AS departs_at
    FROM ride
    JOIN route_stop AS board ON board.route_id = ride.route_id AND board.position = from_leg
    CROSS JOIN LATERAL make_interval(secs => board.departure_s) AS until (departure)
    CROSS JOIN LATERAL (
        SELECT show_id, service_day_at
        FROM show
        WHERE status = 'on_sale' AND route_id = ride.route_id
          AND (service_day_at, show_id) > ($1::timestamptz - until.departure, $2)
          AND service_day_at < $3::timestamptz - until.departure
          AND ($9::text IS NULL OR kind = $9)
          AND ($10::text IS NULL OR search @@ $10::text::tsquery)
        ORDER BY service_day_at, show_id
        LIMIT $4
    ) AS run
    ORDER BY departs_at, run.show_id
    LIMIT $4
)
SELECT show.show_id, kind, title, venue, starts_at, ends_at, time_zone, plan_id, show.route_id,
       currency, fares::text AS fares, from_leg, to_leg, from_code,
       from_place.name AS from_name, alight.stop_code AS to_code, to_place.name AS to_name,
       departs_at, departure.service_day_at + make_interval(secs => alight.arrival_s) AS arrives_at
FROM departure
JOIN show ON show.show_id = departure.show_id
JOIN route_stop AS alight ON alight.route_id = departure.route_id AND alight.position = to_leg
JOIN stop AS from_place ON from_place.stop_id = from_id
JOIN stop AS to_place ON to_place.stop_id = alight.stop_id
ORDER BY departs_at, show.show_id;

-- name: match_stops
-- Stops for a search box: names with these words, those that begin as typed first, and the
-- stop with exactly this code before all.
SELECT place_code, name
FROM stop
WHERE search @@ $1::text::tsquery OR place_code = $2
ORDER BY place_code = $2 DESC, starts_with(name_key, $3) DESC, name_key, name, place_code
LIMIT $4;

-- name: put_plan
-- Store a plan; one that is there keeps its seats and takes the newer drawing.
INSERT INTO seating_plan AS known
    (plan_id, name, seat_count, category_count, layout, labels, document, extras)
VALUES ($1, $2, $3, $4, $5, $6, $7::text::jsonb, $8::text::jsonb)
ON CONFLICT (plan_id) DO UPDATE
SET document = excluded.document, extras = excluded.extras
WHERE (known.document, known.extras) IS DISTINCT FROM (excluded.document, excluded.extras);

-- name: put_routes
-- Store routes; those that are there are left alone and not returned.
INSERT INTO route (route_id, name, leg_count, stops)
SELECT route_id, name, leg_count, stops::jsonb
FROM unnest($1::text[], $2::text[], $3::integer[], $4::text[])
     AS offered (route_id, name, leg_count, stops)
ORDER BY route_id
ON CONFLICT (route_id) DO NOTHING
RETURNING route_id;

-- name: put_stops
-- Store the places that routes call at.
INSERT INTO stop (place_code, name, name_key)
SELECT place_code, name, name_key
FROM unnest($1::text[], $2::text[], $3::text[]) AS offered (place_code, name, name_key)
ORDER BY place_code, name
ON CONFLICT (place_code, name) DO NOTHING;

-- name: put_route_stops
-- Store the calls of routes that are new; their places are there already.
INSERT INTO route_stop (route_id, position, stop_id, stop_code, arrival_s, departure_s)
SELECT offered.route_id, offered.position, stop.stop_id, offered.stop_code, offered.arrival_s,
       offered.departure_s
FROM unnest($1::text[], $2::integer[], $3::text[], $4::text[], $5::text[], $6::integer[],
            $7::integer[])
     AS offered (route_id, position, place_code, name, stop_code, arrival_s, departure_s)
JOIN stop ON stop.place_code = offered.place_code AND stop.name = offered.name;

-- name: count_categories
-- What the fares of a show must fit on the side of its plan.
SELECT plan_id, category_count FROM seating_plan WHERE plan_id = ANY ($1::text[]);

-- name: count_legs
-- What the fares of a show must fit on the side of its route.
SELECT route_id, leg_count FROM route WHERE route_id = ANY ($1::text[]);

-- name: put_shows
-- Store shows. One that is there keeps its tenant, its plan, its route, its placement and its
-- status, and what only its organiser says of it; the rest is renewed when something differs.
-- Only changed rows are returned.
INSERT INTO show AS known
    (show_id, source_key, kind, title, venue, starts_at, ends_at, service_day_at, time_zone,
     plan_id, route_id, currency, fares, placement, policy, search_words, tenant_id, status,
     description, series_id, venue_id)
SELECT show_id, source_key, kind, title, venue, starts_at, ends_at, service_day_at, time_zone,
       plan_id, route_id, currency, fares::jsonb, placement, policy::jsonb, search_words,
       tenant_id, status, description, series_id, venue_id
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::timestamptz[],
            $7::timestamptz[], $8::timestamptz[], $9::text[], $10::text[], $11::text[],
            $12::text[], $13::text[], $14::text[], $15::text[], $16::text[], $17::text[],
            $18::text[], $19::text[], $20::text[], $21::text[])
     AS offered (show_id, source_key, kind, title, venue, starts_at, ends_at, service_day_at,
                 time_zone, plan_id, route_id, currency, fares, placement, policy, search_words,
                 tenant_id, status, description, series_id, venue_id)
ORDER BY show_id
ON CONFLICT (show_id) DO UPDATE
SET kind = excluded.kind, title = excluded.title, venue = excluded.venue,
    starts_at = excluded.starts_at, ends_at = excluded.ends_at,
    service_day_at = excluded.service_day_at, time_zone = excluded.time_zone,
    currency = excluded.currency, fares = excluded.fares, policy = excluded.policy,
    search_words = excluded.search_words, updated_at = now(), version = known.version + 1
WHERE known.tenant_id = excluded.tenant_id
  AND known.plan_id = excluded.plan_id AND known.route_id IS NOT DISTINCT FROM excluded.route_id
  AND (known.kind, known.title, known.venue, known.starts_at, known.ends_at,
       known.service_day_at, known.time_zone, known.currency, known.fares, known.policy,
       known.search_words)
      IS DISTINCT FROM
      (excluded.kind, excluded.title, excluded.venue, excluded.starts_at, excluded.ends_at,
       excluded.service_day_at, excluded.time_zone, excluded.currency, excluded.fares,
       excluded.policy, excluded.search_words)
RETURNING show_id, created_at = updated_at AS is_new;

-- name: list_known_references
-- Which of these tenants, series and venues are there, each with its tenant.
SELECT tenant_id AS reference_id, tenant_id FROM tenant WHERE tenant_id = ANY ($1::text[])
UNION ALL
SELECT series_id, tenant_id FROM series WHERE series_id = ANY ($1::text[])
UNION ALL
SELECT venue_id, tenant_id FROM venue WHERE venue_id = ANY ($1::text[]);

-- name: find_content_of_shows
-- What shows are made of, to say why they were not changed.
SELECT show_id, source_key, plan_id, route_id, tenant_id FROM show WHERE show_id = ANY ($1::text[]);
