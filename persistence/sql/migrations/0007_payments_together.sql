-- Payments of a crowd: what many tell at once is written down at once.
--
-- A payment costs one commit for each thing that happens to it, and so does every notice of a
-- provider. Shared by all that come in the meantime, a commit costs each of them little.

-- Write down what providers tell, and wake the payments that are here; which of the notices are
-- new. p_bodies are in the order of p_notices.
--
-- A notice that names a payment of this database is done with that: it is a reason to look, and
-- now somebody will. The others wait in the inbox for who finds out what they are about.
--
-- Two kinds of payments are not woken. Of one that is being made its provider is being asked now,
-- and whoever does that goes on with it, or is found dead when its time is over (due_at_ms); that
-- there is news is noted. And a notice may tell of no more than the row has already, or is about
-- to ask: tells is the state that such a notice can be about ('authorised', 'captured'), NULL for
-- everything else.
--
-- All rows of the inbox are locked before the first one of a payment, and both in order.
CREATE FUNCTION receive_webhooks(p_notices jsonb, p_bodies bytea[]) RETURNS SETOF boolean
LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    v_now_ms bigint := house_now_ms();
    v_new    text[];
    v_news   jsonb;
    v_named  text[];
    v_woken  text[];
BEGIN
    WITH told AS (
        INSERT INTO webhook_inbox AS i (provider, event_key, kind, provider_ref, payment_id,
                is_live, sent_at_ms, body, received_at_ms, processed_at_ms)
            SELECT w.provider, w.event_key, w.kind, w.provider_ref, w.payment_id, w.is_live,
                w.sent_at_ms, p_bodies[w.n], v_now_ms, CASE WHEN EXISTS
                    (SELECT FROM payment p WHERE p.payment_id = w.payment_id) THEN v_now_ms END
            FROM jsonb_to_recordset(p_notices) AS w(n integer, provider text, event_key text,
                kind text, provider_ref text, payment_id text, is_live boolean,
                sent_at_ms bigint)
            ORDER BY w.provider, w.event_key, w.n
            ON CONFLICT (provider, event_key) DO NOTHING
            RETURNING i.provider, i.event_key
    )
    SELECT coalesce(array_agg(provider || ' ' || event_key), '{}') INTO v_new FROM told;
    SELECT jsonb_agg(w.value), array_agg(DISTINCT w.value ->> 'payment_id')
        INTO v_news, v_named FROM jsonb_array_elements(p_notices) AS w(value)
        WHERE w.value ->> 'payment_id' IS NOT NULL
            AND (w.value ->> 'provider') || ' ' || (w.value ->> 'event_key') = ANY (v_new);
    IF v_named IS NOT NULL THEN
        SELECT array_agg(p.payment_id) INTO v_woken
            FROM (SELECT d.* FROM payment d WHERE d.payment_id = ANY (v_named)
                  ORDER BY d.payment_id FOR UPDATE) p
            WHERE EXISTS (SELECT FROM jsonb_to_recordset(v_news) AS n(payment_id text, tells text)
                WHERE n.payment_id = p.payment_id AND NOT is_known(p.state, p.captured_minor,
                    p.amount_minor, p.cancelled_at_ms, p.due_at_ms, n.tells, v_now_ms));
        UPDATE payment p SET is_noticed = true, version = p.version + 1,
            due_at_ms = CASE p.state WHEN 'created' THEN p.due_at_ms
                ELSE least(p.due_at_ms, v_now_ms) END
            WHERE p.payment_id = ANY (v_woken);
    END IF;
    RETURN QUERY SELECT w.provider || ' ' || w.event_key = ANY (v_new)
            AND row_number() OVER (PARTITION BY w.provider, w.event_key ORDER BY w.n) = 1
        FROM jsonb_to_recordset(p_notices) AS w(n integer, provider text, event_key text)
        ORDER BY w.n;
END $$;

-- Whether a payment can learn nothing from a notice that tells this.
CREATE FUNCTION is_known(
    p_state text, p_captured_minor bigint, p_amount_minor bigint, p_cancelled_at_ms bigint,
    p_due_at_ms bigint, p_tells text, p_now_ms bigint
) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN CASE p_tells
    WHEN 'authorised' THEN p_state IN ('authorised', 'captured', 'booked', 'settled')
    -- A booking's money is captured next, and what the provider answers then is as new.
    WHEN 'captured' THEN
        (p_state IN ('captured', 'settled') AND p_captured_minor >= p_amount_minor)
        OR (p_state = 'booked' AND p_cancelled_at_ms IS NULL
            AND coalesce(p_due_at_ms <= p_now_ms, false))
    ELSE false END;

-- End what earlier incarnations of a payment actor have leased: they are dead, or replaced. Their
-- payments get a new version, so nothing that such a one still saves is saved. Owners are named
-- by their actor and, behind a slash, their incarnation.
CREATE FUNCTION end_leases(p_actor text, p_owner text) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    v_count integer;
BEGIN
    UPDATE payment p SET lease_owner = NULL, lease_until_ms = NULL, version = p.version + 1
        FROM (SELECT d.payment_id FROM payment d
              WHERE d.due_at_ms IS NOT NULL AND d.lease_owner <> p_owner
                  AND split_part(d.lease_owner, '/', 1) = p_actor
              ORDER BY d.payment_id FOR UPDATE) w
        WHERE p.payment_id = w.payment_id;
    GET DIAGNOSTICS v_count = ROW_COUNT;
    RETURN v_count;
END $$;

-- As in 0005; but the bookings of a batch that cancels none are not looked for, and those of one
-- that does are looked up one by one. Planned while there were few of them, that went through all.
CREATE OR REPLACE FUNCTION settle_payments(p_rows jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_used      jsonb;
    v_cancelled jsonb;
    v_done      bigint;
BEGIN
    SELECT jsonb_agg(w.value) INTO v_used
        FROM jsonb_array_elements((p_rows -> 'confirmed') || (p_rows -> 'booked')) AS w(value)
        WHERE is_payment_id(w.value ->> 'payment');
    IF p_rows -> 'cancelled' <> '[]' THEN
        SELECT jsonb_agg(w.value || jsonb_build_object('payment', b.payment)) INTO v_cancelled
            FROM jsonb_array_elements(p_rows -> 'cancelled') AS w(value)
                CROSS JOIN LATERAL (SELECT payment FROM booking
                    WHERE hold_id = w.value ->> 'hold_id' OFFSET 0) b
            WHERE is_payment_id(b.payment);
    END IF;
    IF v_used IS NULL AND v_cancelled IS NULL THEN
        RETURN;
    END IF;
    -- All rows before the first entry of the ledger, and in one order.
    PERFORM FROM payment WHERE payment_id IN (SELECT w.payment
        FROM jsonb_to_recordset(coalesce(v_used, '[]') || coalesce(v_cancelled, '[]'))
            AS w(payment text)) ORDER BY payment_id FOR UPDATE;
    IF v_used IS NOT NULL THEN
        UPDATE payment p
        SET state = CASE p.state WHEN 'authorised' THEN 'booked' ELSE 'settled' END,
            state_at_ms = w.at_ms, attempt_count = 0, booking_hold_id = w.hold_id,
            booked_at_ms = w.at_ms, cancelled_at_ms = w.cancelled_at_ms,
            refund_terms = CASE WHEN w.cancelled_at_ms IS NOT NULL
                THEN coalesce(w.refund, 'policy') END,
            due_at_ms = coalesce(w.cancelled_at_ms, w.at_ms), version = p.version + 1
        FROM jsonb_to_recordset(v_used) AS w(payment text, show_id text, customer_id text,
            hold_id text, at_ms bigint, cancelled_at_ms bigint, refund text)
        WHERE p.payment_id = w.payment AND p.show_id = w.show_id
            AND p.customer_id = w.customer_id AND (p.state = 'authorised'
                OR p.state = 'captured'
                    AND p.captured_minor - p.refunded_minor >= p.amount_minor);
        GET DIAGNOSTICS v_done = ROW_COUNT;
        IF v_done <> jsonb_array_length(v_used) THEN
            PERFORM refuse('HF006',
                'payments to book with are not there, or cannot be used any more',
                jsonb_array_length(v_used), v_done);
        END IF;
    END IF;
    IF v_cancelled IS NOT NULL THEN
        UPDATE payment p SET cancelled_at_ms = w.at_ms,
            refund_terms = coalesce(w.refund, 'policy'), attempt_count = 0,
            due_at_ms = w.at_ms, version = p.version + 1
        FROM jsonb_to_recordset(v_cancelled)
            AS w(payment text, hold_id text, at_ms bigint, refund text)
        WHERE p.payment_id = w.payment AND p.booking_hold_id = w.hold_id
            AND p.booked_at_ms IS NOT NULL AND p.cancelled_at_ms IS NULL;
        GET DIAGNOSTICS v_done = ROW_COUNT;
        IF v_done <> jsonb_array_length(v_cancelled) THEN
            PERFORM refuse('HF006', 'payments of cancelled bookings are not there',
                jsonb_array_length(v_cancelled), v_done);
        END IF;
    END IF;
END $$;

REVOKE ALL ON FUNCTION receive_webhooks, end_leases FROM PUBLIC;
DO $$
DECLARE
    v_function regprocedure;
BEGIN
    -- As in 0002.
    FOR v_function IN
        SELECT p.oid::regprocedure FROM pg_catalog.pg_proc p
        WHERE p.pronamespace = current_schema()::regnamespace AND p.prosecdef
    LOOP
        EXECUTE format('ALTER FUNCTION %s SET search_path = %I, pg_temp', v_function,
            current_schema());
    END LOOP;
END $$;
GRANT EXECUTE ON FUNCTION receive_webhooks, end_leases TO housefull_application;
