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
    IF v_new <> '{}' THEN
        WITH news AS (
            SELECT w.payment_id, w.tells
            FROM jsonb_to_recordset(p_notices)
                AS w(provider text, event_key text, payment_id text, tells text)
            WHERE w.provider || ' ' || w.event_key = ANY (v_new)
        ), woken AS (
            SELECT p.payment_id FROM payment p
            WHERE p.payment_id IN (SELECT n.payment_id FROM news n)
            ORDER BY p.payment_id FOR UPDATE
        )
        UPDATE payment p SET is_noticed = true, version = p.version + 1,
            due_at_ms = CASE p.state WHEN 'created' THEN p.due_at_ms
                ELSE least(p.due_at_ms, v_now_ms) END
        FROM woken w
        WHERE p.payment_id = w.payment_id AND EXISTS (SELECT FROM news n
            WHERE n.payment_id = p.payment_id AND NOT is_known(p, n.tells, v_now_ms));
    END IF;
    RETURN QUERY SELECT w.provider || ' ' || w.event_key = ANY (v_new)
            AND row_number() OVER (PARTITION BY w.provider, w.event_key ORDER BY w.n) = 1
        FROM jsonb_to_recordset(p_notices) AS w(n integer, provider text, event_key text)
        ORDER BY w.n;
END $$;

-- Whether a payment can learn nothing from a notice that tells this.
CREATE FUNCTION is_known(p payment, p_tells text, p_now_ms bigint) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN CASE p_tells
    WHEN 'authorised' THEN (p).state IN ('authorised', 'captured', 'booked', 'settled')
    -- A booking's money is captured next, and what the provider answers then is as new.
    WHEN 'captured' THEN
        (p).state IN ('captured', 'settled') AND (p).captured_minor >= (p).amount_minor
        OR (p).state = 'booked' AND (p).cancelled_at_ms IS NULL AND (p).due_at_ms <= p_now_ms
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
