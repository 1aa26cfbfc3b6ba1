-- What was done show by show is done for all shows of a batch at once: a batch of a pool is of many
-- shows, with one hold in each (docs/decisions/0035-rows-of-a-busy-pool.md).

-- The rule is as it was. A row of this table is changed for every show of every batch, so it is
-- looked at without calling a function.
DROP TRIGGER show_owner_only_rises ON show_owner;
CREATE TRIGGER show_owner_only_rises BEFORE UPDATE ON show_owner FOR EACH ROW
    WHEN (NEW.epoch < OLD.epoch OR NEW.seq NOT IN (OLD.seq, OLD.seq + 1)
        OR NEW.projected_seq < OLD.projected_seq
        OR NEW.leg_count <> OLD.leg_count OR NEW.seat_count < OLD.seat_count)
    EXECUTE FUNCTION show_owner_only_rises();

-- As in 0002, but a batch is searched once, and not once for every hold in it (OFFSET 0).
CREATE OR REPLACE VIEW unprojected_hold AS
    SELECT e.hold_id, j.show_id, e.customer_id, e.from_leg, e.to_leg, e.seats, e.seat_minor,
        e.admissions, e.arrangement, e.held_at_ms, e.expires_at_ms,
        e.expires_at_ms AS deadline_at_ms, NULL::bigint AS ended_at_ms, 'held' AS state,
        e.request_digest, j.seq
    FROM show_owner o
        JOIN journal j ON j.show_id = o.show_id AND j.seq > o.projected_seq
        CROSS JOIN LATERAL (
            SELECT position('"holds_forgotten"' IN j.events::text) > 0 AS forgets OFFSET 0) has
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

-- Make the rows of the holds that the batches of these shows made, of each up to the one named.
CREATE FUNCTION project_holds(p_show_ids text[], p_seqs bigint[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    v_show_ids text[];
    v_seqs     bigint[];
BEGIN
    -- Whoever comes second waits here and finds nothing left to do.
    SELECT array_agg(show_id), array_agg(seq) INTO v_show_ids, v_seqs FROM (
        SELECT o.show_id, w.seq
        FROM unnest(p_show_ids, p_seqs) AS w(show_id, seq) JOIN show_owner o USING (show_id)
        WHERE o.projected_seq < w.seq
        ORDER BY o.show_id FOR UPDATE OF o
    ) behind;
    IF v_show_ids IS NOT NULL THEN
        INSERT INTO hold SELECT h.*
            FROM unnest(v_show_ids, v_seqs) AS w(show_id, seq)
                JOIN unprojected_hold h ON h.show_id = w.show_id AND h.seq <= w.seq;
        UPDATE show_owner o SET projected_seq = w.seq
            FROM unnest(v_show_ids, v_seqs) AS w(show_id, seq) WHERE o.show_id = w.show_id;
    END IF;
END $$;
DROP FUNCTION project_holds(text, bigint);

-- As in 0005, with its shows all at once.
CREATE OR REPLACE FUNCTION append_batch(
    p_show_ids text[], p_epochs bigint[], p_seqs bigint[], p_events json[],
    p_claims block_claims, p_changed text[], p_rows jsonb
) RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    v_owned       text[];
    v_leg_counts  integer[];
    v_seat_counts integer[];
    v_changed     text[];
    v_seqs_before bigint[];
    v_seqs        bigint[];
BEGIN
    -- Whoever takes the rows of several shows takes them in one order, or two wait for each other:
    -- owners of overlapping pools, a batch and whoever makes the rows of holds.
    WITH fenced AS (
        UPDATE show_owner o SET seq = w.seq
        FROM (SELECT * FROM unnest(p_show_ids, p_epochs, p_seqs) WITH ORDINALITY
                AS u(show_id, epoch, seq, n) ORDER BY show_id COLLATE "C") w
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
        SELECT array_agg(w.show_id), array_agg(w.seq - 1), array_agg(w.seq)
        INTO v_changed, v_seqs_before, v_seqs
        FROM unnest(p_show_ids, p_seqs) AS w(show_id, seq) WHERE w.show_id = ANY (p_changed);
        PERFORM project_holds(v_changed, v_seqs_before);
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
    PERFORM project_holds(v_changed, v_seqs);
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
    IF p_rows -> 'confirmed' <> '[]' OR p_rows -> 'booked' <> '[]' OR p_rows -> 'cancelled' <> '[]'
    THEN
        PERFORM settle_payments(p_rows);
    END IF;
    IF p_rows -> 'show_cancelled' <> '[]' THEN
        PERFORM start_refund_jobs(p_rows -> 'show_cancelled');
    END IF;
    INSERT INTO outbox (show_id, seq, n, topic, payload)
        SELECT show_id, seq, n, topic, payload FROM jsonb_to_recordset(p_rows -> 'outbox')
            AS w(show_id text, seq bigint, n integer, topic text, payload jsonb);
END $$;

DO $$
DECLARE
    v_function regprocedure;
BEGIN
    REVOKE ALL ON FUNCTION project_holds FROM PUBLIC;
    -- As in 0002; both have lost, or never had, what was set there.
    FOR v_function IN
        SELECT p.oid::regprocedure FROM pg_catalog.pg_proc p
        WHERE p.pronamespace = current_schema()::regnamespace AND p.prosecdef
            AND p.proname IN ('append_batch', 'project_holds')
    LOOP
        EXECUTE format('ALTER FUNCTION %s SET search_path = %I, pg_temp', v_function,
            current_schema());
    END LOOP;
END $$;
GRANT EXECUTE ON FUNCTION project_holds TO housefull_application;
