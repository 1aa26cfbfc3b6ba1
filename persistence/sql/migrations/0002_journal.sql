-- The journal, the claims and the state of every show: written by its owner and by nobody else.
--
-- One call of append_batch is one statement and one transaction. It is the only way in: the
-- application's role may call it but cannot change a row of these tables itself, so neither a
-- bug nor an injected statement can rewrite what was sold.
--
-- Its errors:
--   HF001  a hold to change is not in the state that its owner believes
--   HF002  a claim overlaps another one, or a claim to give back is not there
--   HF003  an epoch or a sequence number went backwards
--   HF004  a newer epoch owns a show; DETAIL lists the shows that the caller has lost
--   HF005  more was sold of the show than its plan has now (activate_show)
-- The first three mean that the owner's memory is wrong. Whatever is raised, nothing is written.
--
-- All instants are Unix milliseconds by this server's clock (house_now_ms).

CREATE FUNCTION house_now_ms() RETURNS bigint LANGUAGE sql VOLATILE PARALLEL SAFE
    RETURN (extract(epoch FROM clock_timestamp()) * 1000)::bigint;

-- Who may write a show. One row a show, made when it is activated for the first time.
CREATE TABLE show_owner (
    show_id       text COLLATE "C" PRIMARY KEY,
    epoch         bigint NOT NULL,
    seq           bigint NOT NULL DEFAULT 0,
    projected_seq bigint NOT NULL DEFAULT 0,
    owner         text NOT NULL,
    leg_count     integer NOT NULL CHECK (leg_count BETWEEN 1 AND 255),
    seat_count    integer NOT NULL CHECK (seat_count BETWEEN 0 AND 200000),
    activated_at  timestamptz NOT NULL DEFAULT now(),
    CHECK (projected_seq <= seq)
) WITH (fillfactor = 50);
COMMENT ON COLUMN show_owner.projected_seq IS
    'table hold tells of the batches up to this one; later ones only made holds, see every_hold';

CREATE FUNCTION show_owner_only_rises() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.epoch < OLD.epoch OR NEW.seq NOT IN (OLD.seq, OLD.seq + 1)
        OR NEW.projected_seq < OLD.projected_seq
        OR NEW.leg_count <> OLD.leg_count OR NEW.seat_count < OLD.seat_count THEN
        RAISE EXCEPTION 'show_owner: epoch, seq and seats only rise, legs stay'
            USING ERRCODE = 'HF003', DETAIL = OLD.show_id;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER show_owner_only_rises BEFORE UPDATE ON show_owner
    FOR EACH ROW EXECUTE FUNCTION show_owner_only_rises();

-- General admission: the capacity of every tier, so that the database can refuse to oversell it.
CREATE TABLE admission_tier (
    show_id    text COLLATE "C" NOT NULL REFERENCES show_owner,
    tier_index integer NOT NULL CHECK (tier_index >= 0),
    capacity   integer NOT NULL CHECK (capacity >= 0),
    PRIMARY KEY (show_id, tier_index)
);
CREATE TABLE admission_claim (
    show_id    text COLLATE "C" NOT NULL,
    tier_index integer NOT NULL,
    leg        integer NOT NULL,
    admitted   integer NOT NULL CHECK (admitted >= 0),
    PRIMARY KEY (show_id, tier_index, leg),
    FOREIGN KEY (show_id, tier_index) REFERENCES admission_tier
) WITH (fillfactor = 50);

CREATE FUNCTION admission_claim_within_capacity() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.admitted > (SELECT capacity FROM admission_tier t
                       WHERE t.show_id = NEW.show_id AND t.tier_index = NEW.tier_index)
        OR NEW.leg >= (SELECT leg_count FROM show_owner o WHERE o.show_id = NEW.show_id) THEN
        RAISE EXCEPTION 'tier % is oversold on leg %, or there is no such leg',
            NEW.tier_index, NEW.leg USING ERRCODE = 'HF002', DETAIL = NEW.show_id;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER admission_claim_within_capacity BEFORE INSERT OR UPDATE ON admission_claim
    FOR EACH ROW EXECUTE FUNCTION admission_claim_within_capacity();

-- Which legs of which seats are held, booked or blocked: one bit a seat and leg, the first leg
-- first, the seats in their order, a block of seats in a row
-- (docs/decisions/0017-claims-are-blocks-of-bits.md). A row is made by a block's first claim.
-- The rule that no two claims overlap is enforced by claim_places, the only writer.
CREATE TABLE seat_claim (
    show_id text COLLATE "C" NOT NULL,
    block   integer NOT NULL CHECK (block >= 0),
    taken   bit varying(1024) NOT NULL,
    PRIMARY KEY (show_id, block)
) WITH (fillfactor = 25, autovacuum_vacuum_scale_factor = 0.02);

-- How many seats share a block: as many as have room for all their legs.
CREATE FUNCTION claim_block_seats(p_leg_count integer) RETURNS integer
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN 1024 / p_leg_count;

CREATE TABLE seat_block (
    show_id    text COLLATE "C" NOT NULL,
    seat_index integer NOT NULL,
    reason     text NOT NULL,
    PRIMARY KEY (show_id, seat_index)
);

-- Seats that only holds through a channel may claim, on every leg on which nobody has them. This
-- is no claim: what a channel has of a seat is what seat_claim leaves free.
CREATE TABLE channel_seat (
    show_id    text COLLATE "C" NOT NULL REFERENCES show_owner,
    seat_index integer NOT NULL CHECK (seat_index >= 0),
    channel_id text COLLATE "C" NOT NULL CHECK (channel_id <> ''),
    PRIMARY KEY (show_id, seat_index)
);
CREATE INDEX channel_seat_by_channel ON channel_seat (channel_id, show_id);

-- Shows that do not take place. A row stays for ever.
CREATE TABLE cancelled_show (
    show_id text COLLATE "C" PRIMARY KEY REFERENCES show_owner,
    reason  text NOT NULL,
    at_ms   bigint NOT NULL
);

-- A hold's id begins with its show's, so all holds of a show are one range of the primary key
-- (holds_from, holds_to) and need no index of their own on the hottest table.
CREATE TABLE hold (
    hold_id        text COLLATE "C" PRIMARY KEY,
    show_id        text COLLATE "C" NOT NULL,
    customer_id    text COLLATE "C" NOT NULL,
    from_leg       integer NOT NULL,
    to_leg         integer NOT NULL,
    seats          integer[] NOT NULL,  -- empty for general admission only
    seat_minor     bigint[] NOT NULL,
    admissions     jsonb NOT NULL,
    arrangement    text NOT NULL,
    held_at_ms     bigint NOT NULL,
    expires_at_ms  bigint NOT NULL,
    deadline_at_ms bigint NOT NULL,
    ended_at_ms    bigint,
    state          text NOT NULL CHECK (state IN ('held', 'released', 'expired', 'confirmed')),
    request_digest text NOT NULL,
    seq            bigint NOT NULL,
    CHECK (0 <= from_leg AND from_leg < to_leg),
    CHECK (cardinality(seats) = cardinality(seat_minor)),
    CHECK (cardinality(seats) > 0 OR admissions <> '[]'),
    CHECK ((state = 'held') = (ended_at_ms IS NULL))
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02);
COMMENT ON COLUMN hold.expires_at_ms IS 'the first deadline, as the customer was told at first';
COMMENT ON COLUMN hold.deadline_at_ms IS 'the deadline now, extensions included';
COMMENT ON COLUMN hold.admissions IS '[[tier_index, count, amount of one in minor units], ...]';
CREATE INDEX hold_due ON hold (deadline_at_ms) WHERE state = 'held';
CREATE INDEX hold_live_by_customer ON hold (customer_id) WHERE state = 'held';

CREATE FUNCTION holds_from(p_show_id text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN 'hld_' || substr(p_show_id, 5);
CREATE FUNCTION holds_to(p_show_id text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN 'hld_' || substr(p_show_id, 5) || '~';

CREATE TABLE booking (
    hold_id         text COLLATE "C" PRIMARY KEY REFERENCES hold,
    booking_id      text COLLATE "C" NOT NULL UNIQUE,
    show_id         text COLLATE "C" NOT NULL,
    customer_id     text COLLATE "C" NOT NULL,
    payment         text NOT NULL,
    amount_minor    bigint NOT NULL CHECK (amount_minor >= 0),
    confirmed_at_ms bigint NOT NULL,
    cancelled_at_ms bigint,
    seq             bigint NOT NULL
);
CREATE INDEX booking_by_customer ON booking (customer_id, confirmed_at_ms, booking_id);

-- What happened, in order, for ever. One row a batch; seq has no gaps.
CREATE TABLE journal (
    show_id text COLLATE "C" NOT NULL,
    seq     bigint NOT NULL,
    epoch   bigint NOT NULL,
    at      timestamptz NOT NULL DEFAULT now(),
    events  json NOT NULL,  -- as it was sent: nothing here looks into it
    PRIMARY KEY (show_id, seq)
);

-- Holds that only the journal tells of. A batch that does nothing but make holds writes its claims
-- and its journal row; the rows of its holds are made from the journal when somebody needs them or
-- nobody is in a hurry (docs/decisions/0024-rows-of-new-holds-are-written-later.md).
CREATE VIEW unprojected_hold AS
    SELECT e.hold_id, j.show_id, e.customer_id, e.from_leg, e.to_leg, e.seats, e.seat_minor,
        e.admissions, e.arrangement, e.held_at_ms, e.expires_at_ms,
        e.expires_at_ms AS deadline_at_ms, NULL::bigint AS ended_at_ms, 'held' AS state,
        e.request_digest, j.seq
    FROM show_owner o
        JOIN journal j ON j.show_id = o.show_id AND j.seq > o.projected_seq
        CROSS JOIN LATERAL (
            SELECT position('"holds_forgotten"' IN j.events::text) > 0 AS forgets) has
        CROSS JOIN LATERAL ROWS FROM (json_to_recordset(j.events) AS (
            kind text, hold_id text, customer_id text, from_leg integer, to_leg integer,
            seats integer[], seat_minor bigint[], admissions jsonb, arrangement text,
            held_at_ms bigint, expires_at_ms bigint, request_digest text)) WITH ORDINALITY
            AS e(kind, hold_id, customer_id, from_leg, to_leg, seats, seat_minor, admissions,
                arrangement, held_at_ms, expires_at_ms, request_digest, n)
    WHERE o.projected_seq < o.seq AND e.kind IN ('seats_held', 'held_from_channel')
        -- Made, ended and forgotten in one batch: the same id may be there once more.
        AND NOT (has.forgets AND EXISTS (
            SELECT FROM ROWS FROM (json_to_recordset(j.events) AS (kind text, hold_ids jsonb))
                WITH ORDINALITY AS f(kind, hold_ids, n)
            WHERE f.kind = 'holds_forgotten' AND f.n > e.n AND f.hold_ids ? e.hold_id));

CREATE VIEW every_hold AS SELECT * FROM hold UNION ALL SELECT * FROM unprojected_hold;

-- Make the rows of the holds that these batches of a show made, the ones up to p_seq.
CREATE FUNCTION project_holds(p_show_id text, p_seq bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    -- Whoever comes second waits here and finds nothing left to do.
    PERFORM FROM show_owner WHERE show_id = p_show_id AND projected_seq < p_seq FOR UPDATE;
    IF FOUND THEN
        INSERT INTO hold SELECT * FROM unprojected_hold
            WHERE show_id = p_show_id AND seq <= p_seq;
        UPDATE show_owner SET projected_seq = p_seq WHERE show_id = p_show_id;
    END IF;
END $$;

-- What the rest of the world learns, written with the fact itself. (show_id, seq, n) is gap-free.
CREATE TABLE outbox (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    show_id text COLLATE "C" NOT NULL,
    seq     bigint NOT NULL,
    n       integer NOT NULL,
    topic   text NOT NULL,
    payload jsonb NOT NULL,
    xid     xid8 NOT NULL DEFAULT pg_current_xact_id(),
    sent_at timestamptz,
    UNIQUE (show_id, seq, n)
);
COMMENT ON COLUMN outbox.xid IS 'a relay reads only below the oldest running transaction';
CREATE INDEX outbox_unsent ON outbox (id) WHERE sent_at IS NULL;

-- Take the next epoch, and take over what the plan is now. Whoever held the show before cannot
-- write any more once this commits, and waits for no one: it is a single row.
CREATE FUNCTION activate_show(
    p_show_id text, p_owner text, p_leg_count integer, p_seat_count integer,
    p_capacities integer[], OUT epoch bigint, OUT seq bigint
) LANGUAGE plpgsql SECURITY DEFINER AS $$
#variable_conflict use_column
DECLARE
    v_seat_count integer;
BEGIN
    INSERT INTO show_owner AS o (show_id, epoch, owner, leg_count, seat_count)
        VALUES (p_show_id, 1, p_owner, p_leg_count, p_seat_count)
        ON CONFLICT (show_id) DO UPDATE SET epoch = o.epoch + 1, owner = EXCLUDED.owner,
            leg_count = EXCLUDED.leg_count,
            seat_count = greatest(o.seat_count, EXCLUDED.seat_count), activated_at = now()
        RETURNING o.epoch, o.seq, o.seat_count
        INTO activate_show.epoch, activate_show.seq, v_seat_count;
    IF v_seat_count > p_seat_count THEN
        RAISE EXCEPTION 'the plan has % seats, and the show had %', p_seat_count, v_seat_count
            USING ERRCODE = 'HF005', DETAIL = p_show_id;
    END IF;
    INSERT INTO admission_tier AS t (show_id, tier_index, capacity)
        SELECT p_show_id, w.n - 1, w.capacity
        FROM unnest(p_capacities) WITH ORDINALITY AS w(capacity, n)
        ON CONFLICT (show_id, tier_index) DO UPDATE SET capacity = EXCLUDED.capacity
            WHERE t.capacity <> EXCLUDED.capacity;
    -- The row of show_owner is ours: nobody sells anything while this looks.
    IF EXISTS (SELECT FROM admission_tier t LEFT JOIN admission_claim c USING (show_id, tier_index)
               WHERE t.show_id = p_show_id AND (t.tier_index >= cardinality(p_capacities)
                   OR c.admitted > t.capacity)) THEN
        RAISE EXCEPTION 'the plan has fewer tiers, or fewer places in a tier, than were sold'
            USING ERRCODE = 'HF005', DETAIL = p_show_id;
    END IF;
END $$;

CREATE FUNCTION refuse(p_code text, p_what text, p_asked bigint, p_done bigint) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%: % of %', p_what, p_done, p_asked USING ERRCODE = p_code;
END $$;

-- Every bit of a block of seats with this many legs.
CREATE FUNCTION whole_claim_block(p_leg_count integer) RETURNS bit varying
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN repeat('1', claim_block_seats(p_leg_count) * p_leg_count)::varbit;

-- The legs [from, to) of one seat within its block.
CREATE FUNCTION claim_mask(
    p_whole bit varying, p_leg_count integer, p_block_seats integer,
    p_seat_index integer, p_from integer, p_to integer
) RETURNS bit varying LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (p_whole << (length(p_whole) - (p_to - p_from)))
        >> ((p_seat_index % p_block_seats) * p_leg_count + p_from);

-- Unnumbered places: p_places is [{show_id, from_leg, to_leg, admissions}, ...].
CREATE FUNCTION change_admissions(p_places jsonb, p_sign integer) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF p_sign > 0 THEN
        -- A row is made by the first place sold on a leg; the check on the sum follows.
        INSERT INTO admission_claim (show_id, tier_index, leg, admitted)
            SELECT DISTINCT p.show_id, (a.value ->> 0)::integer, l.leg, 0
            FROM jsonb_to_recordset(p_places)
                    AS p(show_id text, from_leg integer, to_leg integer, admissions jsonb),
                jsonb_array_elements(p.admissions) AS a(value),
                generate_series(p.from_leg, p.to_leg - 1) AS l(leg)
            ON CONFLICT DO NOTHING;
    END IF;
    UPDATE admission_claim c SET admitted = c.admitted + p_sign * w.admitted
    FROM (SELECT p.show_id, (a.value ->> 0)::integer AS tier_index, l.leg,
              sum((a.value ->> 1)::integer) AS admitted
          FROM jsonb_to_recordset(p_places)
                  AS p(show_id text, from_leg integer, to_leg integer, admissions jsonb),
              jsonb_array_elements(p.admissions) AS a(value),
              generate_series(p.from_leg, p.to_leg - 1) AS l(leg)
          GROUP BY 1, 2, 3) w
    WHERE c.show_id = w.show_id AND c.tier_index = w.tier_index AND c.leg = w.leg;
END $$;

-- Holds that were stored before and stay: new deadlines, new bookings.
CREATE FUNCTION keep_holds(p_rows jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_done bigint;
BEGIN
    IF p_rows -> 'extended' <> '[]' THEN
        UPDATE hold h SET deadline_at_ms = w.deadline_at_ms
        FROM jsonb_to_recordset(p_rows -> 'extended')
            AS w(show_id text, hold_id text, deadline_at_ms bigint)
        WHERE h.hold_id = w.hold_id AND h.show_id = w.show_id AND h.state = 'held';
        GET DIAGNOSTICS v_done = ROW_COUNT;
        IF v_done <> jsonb_array_length(p_rows -> 'extended') THEN
            PERFORM refuse('HF001', 'holds to extend are not held',
                jsonb_array_length(p_rows -> 'extended'), v_done);
        END IF;
    END IF;
    IF p_rows -> 'confirmed' <> '[]' THEN
        UPDATE hold h SET state = 'confirmed', ended_at_ms = w.at_ms
        FROM jsonb_to_recordset(p_rows -> 'confirmed')
            AS w(show_id text, hold_id text, at_ms bigint)
        WHERE h.hold_id = w.hold_id AND h.show_id = w.show_id AND h.state = 'held';
        GET DIAGNOSTICS v_done = ROW_COUNT;
        IF v_done <> jsonb_array_length(p_rows -> 'confirmed') THEN
            PERFORM refuse('HF001', 'holds to confirm are not held',
                jsonb_array_length(p_rows -> 'confirmed'), v_done);
        END IF;
        INSERT INTO booking (hold_id, booking_id, show_id, customer_id, payment, amount_minor,
                confirmed_at_ms, seq)
            SELECT hold_id, booking_id, show_id, customer_id, payment, amount_minor, at_ms, seq
            FROM jsonb_to_recordset(p_rows -> 'confirmed') AS w(hold_id text, booking_id text,
                show_id text, customer_id text, payment text, amount_minor bigint, at_ms bigint,
                seq bigint);
    END IF;
END $$;

-- Places that come back: ended holds, cancelled bookings, unblocked seats. Which seats and legs
-- come back is read from the stored rows; the caller cannot name others.
CREATE FUNCTION free_places(p_rows jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_given      bigint := jsonb_array_length(p_rows -> 'ended')
        + jsonb_array_length(p_rows -> 'cancelled') + jsonb_array_length(p_rows -> 'unblocked');
    v_found      bigint;
    v_asked      bigint;
    v_done       bigint;
    v_admissions jsonb;
BEGIN
    WITH ended AS (
        UPDATE hold h SET state = w.state, ended_at_ms = w.at_ms
        FROM jsonb_to_recordset(p_rows -> 'ended')
            AS w(show_id text, hold_id text, state text, at_ms bigint)
        WHERE h.hold_id = w.hold_id AND h.show_id = w.show_id AND h.state = 'held'
        RETURNING h.show_id, h.seats, h.from_leg, h.to_leg, h.admissions
    ), cancelled AS (
        UPDATE booking b SET cancelled_at_ms = w.at_ms
        FROM jsonb_to_recordset(p_rows -> 'cancelled')
                AS w(show_id text, hold_id text, at_ms bigint)
            JOIN hold h USING (hold_id)
        WHERE b.hold_id = w.hold_id AND b.show_id = w.show_id AND b.cancelled_at_ms IS NULL
        RETURNING h.show_id, h.seats, h.from_leg, h.to_leg, h.admissions
    ), unblocked AS (
        DELETE FROM seat_block k
        USING jsonb_to_recordset(p_rows -> 'unblocked') AS w(show_id text, seat_index integer)
        WHERE k.show_id = w.show_id AND k.seat_index = w.seat_index
        RETURNING k.show_id, k.seat_index
    ), freed AS MATERIALIZED (
        SELECT * FROM ended UNION ALL SELECT * FROM cancelled
        UNION ALL
        SELECT u.show_id, ARRAY[u.seat_index], 0, o.leg_count, '[]'
        FROM unblocked u JOIN show_owner o USING (show_id)
    ), shape AS MATERIALIZED (
        SELECT o.show_id, o.leg_count, claim_block_seats(o.leg_count) AS block_seats,
            whole_claim_block(o.leg_count) AS whole
        FROM (SELECT DISTINCT show_id FROM freed) f JOIN show_owner o USING (show_id)
    ), block AS MATERIALIZED (
        SELECT o.show_id, s.seat_index / o.block_seats AS block,
            bit_or(claim_mask(o.whole, o.leg_count, o.block_seats, s.seat_index, f.from_leg,
                f.to_leg)) AS mask,
            sum(f.to_leg - f.from_leg) AS leg_count
        FROM freed f JOIN shape o USING (show_id), unnest(f.seats) AS s(seat_index)
        GROUP BY 1, 2
    ), done AS (
        UPDATE seat_claim c SET taken = c.taken & ~b.mask FROM block b
        WHERE c.show_id = b.show_id AND c.block = b.block AND (c.taken & b.mask) = b.mask
            AND bit_count(b.mask) = b.leg_count
        RETURNING 1
    )
    SELECT (SELECT count(*) FROM freed), (SELECT count(*) FROM block), (SELECT count(*) FROM done),
        (SELECT jsonb_agg(jsonb_build_object('show_id', f.show_id, 'from_leg', f.from_leg,
            'to_leg', f.to_leg, 'admissions', f.admissions))
         FROM freed f WHERE f.admissions <> '[]')
    INTO v_found, v_asked, v_done, v_admissions;
    IF v_found <> v_given THEN
        PERFORM refuse('HF001', 'holds, bookings or blocks to end are not there', v_given, v_found);
    END IF;
    IF v_done <> v_asked THEN
        PERFORM refuse('HF002', 'seats to give back are not claimed', v_asked, v_done);
    END IF;
    IF v_admissions IS NOT NULL THEN
        PERFORM change_admissions(v_admissions, -1);
    END IF;
END $$;

-- Ended holds that nobody asks about any more. They may have ended in this very batch.
CREATE FUNCTION forget_holds(p_rows jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_done bigint;
BEGIN
    DELETE FROM hold h
    USING jsonb_to_recordset(p_rows -> 'forgotten') AS w(show_id text, hold_id text)
    WHERE h.hold_id = w.hold_id AND h.show_id = w.show_id
        AND h.state IN ('released', 'expired');
    GET DIAGNOSTICS v_done = ROW_COUNT;
    IF v_done <> jsonb_array_length(p_rows -> 'forgotten') THEN
        PERFORM refuse('HF001', 'holds to forget have not ended',
            jsonb_array_length(p_rows -> 'forgotten'), v_done);
    END IF;
END $$;

-- Places that are taken, by new holds and blocked seats.
-- p_leg_counts, p_seat_counts: one entry a show, in the order of p_show_ids.
-- p_claims: for each block of seats of each show that is touched, the bits to take.
CREATE TYPE block_claims AS (
    show_number integer[],        -- which of the batch's shows, from 1
    block       integer[],
    mask        bit varying[],    -- all claims of this batch in this block together
    leg_count   integer[]         -- how many legs these claims are, counted one by one
);

CREATE FUNCTION claim_places(
    p_show_ids text[], p_leg_counts integer[], p_seat_counts integer[], p_claims block_claims
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_asked    bigint;
    v_done     bigint;
    v_is_right boolean;
BEGIN
    WITH asked AS MATERIALIZED (
        SELECT w.*, claim_block_seats(p_leg_counts[w.show_number]) AS block_seats
        FROM unnest(p_claims.show_number, p_claims.block, p_claims.mask, p_claims.leg_count)
            AS w(show_number, block, mask, leg_count)
    ), done AS (
        INSERT INTO seat_claim AS c (show_id, block, taken)
            SELECT p_show_ids[show_number], block, mask FROM asked
            ON CONFLICT (show_id, block) DO UPDATE SET taken = c.taken | EXCLUDED.taken
                WHERE bit_count(c.taken & EXCLUDED.taken) = 0
            RETURNING 1
    )
    -- Two claims that overlap have fewer bits together than apart. Nothing may be claimed beyond
    -- the last seat: what is left of the mask behind the bits of the seats that are there.
    SELECT count(*), (SELECT count(*) FROM done),
        coalesce(bool_and(bit_count(mask) = leg_count
            AND length(mask) = block_seats * p_leg_counts[show_number]
            AND bit_count(mask << least(length(mask), p_leg_counts[show_number]
                * greatest(0, p_seat_counts[show_number] - block * block_seats))) = 0), true)
    INTO v_asked, v_done, v_is_right FROM asked;
    IF v_done <> v_asked OR NOT v_is_right THEN
        PERFORM refuse('HF002', 'claims overlap, or name what does not exist', v_asked, v_done);
    END IF;
END $$;

-- What became of new holds within their own batch: a later deadline, an end, a booking.
CREATE FUNCTION settle_new_holds(p_rows jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_done bigint;
BEGIN
    UPDATE hold h SET deadline_at_ms = w.deadline_at_ms, state = w.state,
        ended_at_ms = w.ended_at_ms
    FROM jsonb_to_recordset(p_rows -> 'settled') AS w(hold_id text, deadline_at_ms bigint,
        state text, ended_at_ms bigint)
    WHERE h.hold_id = w.hold_id AND h.state = 'held';
    GET DIAGNOSTICS v_done = ROW_COUNT;
    IF v_done <> jsonb_array_length(p_rows -> 'settled') THEN
        PERFORM refuse('HF001', 'new holds to settle are not there',
            jsonb_array_length(p_rows -> 'settled'), v_done);
    END IF;
    INSERT INTO booking (hold_id, booking_id, show_id, customer_id, payment, amount_minor,
            confirmed_at_ms, cancelled_at_ms, seq)
        SELECT hold_id, booking_id, show_id, customer_id, payment, amount_minor, at_ms,
            cancelled_at_ms, seq
        FROM jsonb_to_recordset(p_rows -> 'booked') AS w(hold_id text, booking_id text,
            show_id text, customer_id text, payment text, amount_minor bigint, at_ms bigint,
            cancelled_at_ms bigint, seq bigint);
END $$;

-- What an organiser changed: seats of channels, a show that does not take place.
CREATE FUNCTION change_sales(p_rows jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_asked bigint := jsonb_array_length(p_rows -> 'deallocated');
    v_done  bigint;
BEGIN
    DELETE FROM channel_seat s
    USING jsonb_to_recordset(p_rows -> 'deallocated')
        AS w(show_id text, seat_index integer, channel_id text)
    WHERE s.show_id = w.show_id AND s.seat_index = w.seat_index AND s.channel_id = w.channel_id;
    GET DIAGNOSTICS v_done = ROW_COUNT;
    IF v_done <> v_asked THEN
        PERFORM refuse('HF001', 'seats to take from a channel are not its own', v_asked, v_done);
    END IF;
    -- A seat that has a channel already is a duplicate key: the batch is refused.
    INSERT INTO channel_seat (show_id, seat_index, channel_id)
        SELECT w.show_id, w.seat_index, w.channel_id
        FROM jsonb_to_recordset(p_rows -> 'allocated')
            AS w(show_id text, seat_index integer, channel_id text)
            JOIN show_owner o ON o.show_id = w.show_id AND w.seat_index < o.seat_count;
    GET DIAGNOSTICS v_done = ROW_COUNT;
    v_asked := jsonb_array_length(p_rows -> 'allocated');
    IF v_done <> v_asked THEN
        PERFORM refuse('HF002', 'seats for a channel do not exist', v_asked, v_done);
    END IF;
    INSERT INTO cancelled_show (show_id, reason, at_ms)
        SELECT show_id, reason, at_ms
        FROM jsonb_to_recordset(p_rows -> 'show_cancelled')
            AS w(show_id text, reason text, at_ms bigint);
END $$;

-- Make one batch durable: of one show, or of many that share a database.
--
-- p_show_ids, p_epochs, p_seqs, p_events: one entry a show; the events go to the journal.
-- p_claims: the places of new holds and blocked seats.
-- p_changed: the shows in whose part something becomes of a hold; it needs the rows of all.
-- p_rows: every other effect on the state tables, by section (persistence/projection.py); NULL
-- for the batch of a crowd, which only makes holds.
-- A batch is written whole or not at all: when one of its shows is lost or wrong, the caller
-- sends the others again without it.
CREATE FUNCTION append_batch(
    p_show_ids text[], p_epochs bigint[], p_seqs bigint[], p_events json[],
    p_claims block_claims, p_changed text[], p_rows jsonb
) RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    v_owned       text[];
    v_leg_counts  integer[];
    v_seat_counts integer[];
BEGIN
    IF cardinality(p_show_ids) > 1 THEN
        -- Two owners of overlapping pools must take their rows in one order.
        PERFORM 1 FROM show_owner WHERE show_id = ANY (p_show_ids) ORDER BY show_id FOR UPDATE;
    END IF;
    WITH fenced AS (
        UPDATE show_owner o SET seq = w.seq
        FROM unnest(p_show_ids, p_epochs, p_seqs) WITH ORDINALITY AS w(show_id, epoch, seq, n)
        WHERE o.show_id = w.show_id AND o.epoch = w.epoch AND o.seq = w.seq - 1
        RETURNING o.show_id, o.leg_count, o.seat_count, w.n
    )
    SELECT array_agg(show_id), array_agg(leg_count ORDER BY n), array_agg(seat_count ORDER BY n)
    INTO v_owned, v_leg_counts, v_seat_counts FROM fenced;
    IF v_owned IS NULL OR cardinality(v_owned) < cardinality(p_show_ids) THEN
        RAISE EXCEPTION 'a newer epoch owns the show' USING ERRCODE = 'HF004',
            DETAIL = (SELECT string_agg(w.show_id, ' ') FROM unnest(p_show_ids) AS w(show_id)
                      WHERE w.show_id <> ALL (coalesce(v_owned, '{}')));
    END IF;
    IF p_rows IS NOT NULL THEN
        PERFORM project_holds(w.show_id, w.seq - 1)
            FROM unnest(p_show_ids, p_seqs) AS w(show_id, seq) WHERE w.show_id = ANY (p_changed);
        PERFORM keep_holds(p_rows);
        IF p_rows -> 'ended' <> '[]' OR p_rows -> 'cancelled' <> '[]'
            OR p_rows -> 'unblocked' <> '[]'
        THEN
            PERFORM free_places(p_rows);
        END IF;
        PERFORM forget_holds(p_rows);
    END IF;
    IF cardinality(p_claims.block) > 0 THEN
        PERFORM claim_places(p_show_ids, v_leg_counts, v_seat_counts, p_claims);
    END IF;
    INSERT INTO journal (show_id, seq, epoch, events)
        SELECT * FROM unnest(p_show_ids, p_seqs, p_epochs, p_events);
    IF p_rows IS NULL THEN
        RETURN;
    END IF;
    PERFORM project_holds(w.show_id, w.seq)
        FROM unnest(p_show_ids, p_seqs) AS w(show_id, seq) WHERE w.show_id = ANY (p_changed);
    PERFORM settle_new_holds(p_rows);
    IF p_rows -> 'admitted' <> '[]' THEN
        PERFORM change_admissions(p_rows -> 'admitted', 1);
    END IF;
    INSERT INTO seat_block (show_id, seat_index, reason)
        SELECT show_id, seat_index, reason FROM jsonb_to_recordset(p_rows -> 'blocked')
            AS w(show_id text, seat_index integer, reason text);
    IF p_rows -> 'allocated' <> '[]' OR p_rows -> 'deallocated' <> '[]'
        OR p_rows -> 'show_cancelled' <> '[]'
    THEN
        PERFORM change_sales(p_rows);
    END IF;
    INSERT INTO outbox (show_id, seq, n, topic, payload)
        SELECT show_id, seq, n, topic, payload FROM jsonb_to_recordset(p_rows -> 'outbox')
            AS w(show_id text, seq bigint, n integer, topic text, payload jsonb);
END $$;

-- The application reads everything and changes nothing but through these two functions.
DO $$
DECLARE
    v_function regprocedure;
BEGIN
    FOR v_function IN
        SELECT p.oid::regprocedure FROM pg_catalog.pg_proc p
        WHERE p.pronamespace = current_schema()::regnamespace
            AND p.proname IN ('activate_show', 'append_batch', 'project_holds', 'keep_holds',
                'free_places', 'forget_holds', 'claim_places', 'settle_new_holds',
                'change_admissions', 'change_sales',
                'refuse')
    LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', v_function);
    END LOOP;
    -- These two run with our rights, so what they name must be ours, whatever path the caller has
    -- set. Temporary tables would come first if they were not named; so they are, as the last.
    FOR v_function IN
        SELECT p.oid::regprocedure FROM pg_catalog.pg_proc p
        WHERE p.pronamespace = current_schema()::regnamespace AND p.prosecdef
    LOOP
        EXECUTE format('ALTER FUNCTION %s SET search_path = %I, pg_temp', v_function,
            current_schema());
    END LOOP;
END $$;
GRANT EXECUTE ON FUNCTION activate_show, append_batch, project_holds TO housefull_application;
GRANT SELECT ON show_owner, admission_tier, admission_claim, seat_claim, seat_block, hold, booking,
    journal, outbox, every_hold, channel_seat, cancelled_show TO housefull_application;
GRANT SELECT ON channel_seat, cancelled_show TO housefull_organiser;
