-- Payments: what customers give for their holds, what goes back to them, and the books about it.
--
-- A payment lives in the database of its show, and its row is the arbiter: append_batch makes the
-- booking and marks the payment as used in one transaction, so there is no booking without its
-- money and no money without an owner. The application reads these tables and changes them only
-- through the functions below; what they may not do either is refused by triggers: a payment
-- never goes back, and every change of money leaves an entry in the ledger, whoever makes it.
--
-- Errors besides those of 0002:
--   HF003  a payment or a refund went backwards, or changed what never changes
--   HF006  a payment to book with is not there, or cannot be used any more
--   HF007  an entry of the ledger was to be changed
--   HF008  all refunds of a payment together would be more than was captured
--
-- All instants are Unix milliseconds, all amounts minor units of their currency.

CREATE FUNCTION is_payment_id(p_payment text) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN p_payment ~ '^pay_[0-9a-hjkmnp-tv-z]{32}$';

-- Columns that change often are in no index, so that most changes touch no index either; what the
-- indexes need to know of the state are the two generated columns, which seldom change.
CREATE TABLE payment (
    payment_id             text COLLATE "C" PRIMARY KEY CHECK (is_payment_id(payment_id)),
    show_id                text COLLATE "C" NOT NULL,
    hold_id                text COLLATE "C" NOT NULL,
    customer_id            text COLLATE "C" NOT NULL,
    provider               text NOT NULL CHECK (char_length(provider) BETWEEN 1 AND 40),
    capture_mode           text NOT NULL CHECK (capture_mode IN ('manual', 'automatic')),
    amount_minor           bigint NOT NULL CHECK (amount_minor > 0),
    currency               char(3) NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    paid_currency          char(3) CHECK (paid_currency ~ '^[A-Z]{3}$'),
    hold_minor             bigint NOT NULL CHECK (hold_minor >= 0),
    accepts_equivalent     boolean NOT NULL,
    price                  jsonb NOT NULL,
    promo_tenant_id        text COLLATE "C",
    promo_code_key         text COLLATE "C",
    created_at_ms          bigint NOT NULL,
    hold_expires_at_ms     bigint NOT NULL,
    state                  text NOT NULL DEFAULT 'created' CHECK (state IN ('created', 'open',
                           'failed', 'authorised', 'captured', 'booked', 'settled', 'void_due',
                           'voided', 'refund_due', 'refunded')),
    state_at_ms            bigint NOT NULL,
    is_alive               boolean NOT NULL GENERATED ALWAYS AS
                           (state NOT IN ('voided', 'refund_due', 'refunded')) STORED,
    is_unfinished          boolean NOT NULL GENERATED ALWAYS AS
                           (state NOT IN ('settled', 'voided', 'refunded')) STORED,
    claim                  text NOT NULL DEFAULT 'first' CHECK (claim IN
                           ('first', 'again', 'held_again', 'give_back', 'given_up')),
    booking_hold_id        text COLLATE "C",
    booked_at_ms           bigint,
    provider_ref           text COLLATE "C" CHECK (char_length(provider_ref) BETWEEN 1 AND 255),
    charge_ref             text COLLATE "C" CHECK (char_length(charge_ref) BETWEEN 1 AND 255),
    is_noticed             boolean NOT NULL DEFAULT false,
    seen_at_ms             bigint,
    is_uncollectable       boolean NOT NULL DEFAULT false,
    captured_minor         bigint NOT NULL DEFAULT 0 CHECK (captured_minor >= 0),
    refunded_minor         bigint NOT NULL DEFAULT 0,
    kept_minor             bigint CHECK (kept_minor >= 0),
    cancelled_at_ms        bigint,
    refund_terms           text CHECK (refund_terms IN ('policy', 'full', 'none')),
    version                integer NOT NULL DEFAULT 0,
    due_at_ms              bigint,
    attempt_count          integer NOT NULL DEFAULT 0 CHECK (attempt_count >= 0),
    lease_owner            text,
    lease_until_ms         bigint,
    last_error             text CHECK (char_length(last_error) <= 1000),
    CHECK (substr(payment_id, 5, 16) = substr(show_id, 5)),
    CHECK (substr(hold_id, 5, 16) = substr(show_id, 5)),
    CHECK (refunded_minor BETWEEN 0 AND captured_minor),
    CHECK ((booked_at_ms IS NOT NULL)
        = (state IN ('booked', 'settled') OR cancelled_at_ms IS NOT NULL)),
    CHECK (booked_at_ms IS NULL OR booking_hold_id IS NOT NULL),
    CHECK ((cancelled_at_ms IS NULL) = (refund_terms IS NULL)),
    CHECK ((lease_owner IS NULL) = (lease_until_ms IS NULL)),
    CHECK ((promo_tenant_id IS NULL) = (promo_code_key IS NULL))
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);
COMMENT ON COLUMN payment.price IS 'the lines that add up to the amount, as the customer agreed';
COMMENT ON COLUMN payment.version IS 'counts all changes, leases too: what is compared on saving';
COMMENT ON COLUMN payment.kept_minor IS
    'what stays with the house of a booking that was cancelled; NULL until it is reckoned';
COMMENT ON COLUMN payment.paid_currency IS 'what the provider took instead of what was agreed';
COMMENT ON COLUMN payment.due_at_ms IS 'when the payment worker has something to do; NULL: nothing';
CREATE UNIQUE INDEX payment_alive_of_hold ON payment (hold_id) WHERE is_alive;
CREATE UNIQUE INDEX payment_by_provider_ref ON payment (provider, provider_ref)
    WHERE provider_ref IS NOT NULL;
CREATE INDEX payment_by_hold ON payment (hold_id, created_at_ms);
CREATE INDEX payment_by_customer ON payment (customer_id, created_at_ms, payment_id);
CREATE INDEX payment_due ON payment (due_at_ms) WHERE due_at_ms IS NOT NULL;
CREATE INDEX payment_unfinished ON payment (created_at_ms) WHERE is_unfinished;

-- Which payments a show has, as holds_from and holds_to say it of holds.
CREATE FUNCTION payments_from(p_show_id text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN 'pay_' || substr(p_show_id, 5);
CREATE FUNCTION payments_to(p_show_id text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN 'pay_' || substr(p_show_id, 5) || '~';

CREATE TABLE refund (
    refund_id         text COLLATE "C" PRIMARY KEY
                      CHECK (refund_id ~ '^rfd_[0-9a-hjkmnp-tv-z]{32}[0-9]{2}$'),
    payment_id        text COLLATE "C" NOT NULL REFERENCES payment,
    number            integer NOT NULL CHECK (number BETWEEN 1 AND 99),
    amount_minor      bigint NOT NULL CHECK (amount_minor > 0),
    reason            text NOT NULL CHECK (reason IN
                      ('cancelled', 'not_booked', 'excess', 'foreign', 'granted', 'forgone')),
    state             text NOT NULL
                      CHECK (state IN ('due', 'requested', 'succeeded', 'failed')),
    created_at_ms     bigint NOT NULL,
    first_asked_at_ms bigint,
    refund_ref        text COLLATE "C" CHECK (char_length(refund_ref) BETWEEN 1 AND 255),
    CHECK (refund_id = 'rfd_' || substr(payment_id, 5) || lpad(number::text, 2, '0'))
) WITH (fillfactor = 80);
CREATE INDEX refund_by_payment ON refund (payment_id, number);
CREATE UNIQUE INDEX refund_by_ref ON refund (payment_id, refund_ref) WHERE refund_ref IS NOT NULL;

-- The ledger: what happened to the money of a show, in order, without gaps, for ever.
--   captured   the provider took it for us
--   booked     a booking was made for it
--   cancelled  that booking was undone
--   kept       this much of a cancelled booking stays with the house
--   refunded   it went back
--   returned   a refund failed after all and the money is here again
CREATE TABLE ledger_entry (
    show_id      text COLLATE "C" NOT NULL,
    number       bigint NOT NULL,
    kind         text NOT NULL CHECK (kind IN
                 ('captured', 'booked', 'cancelled', 'kept', 'refunded', 'returned')),
    amount_minor bigint NOT NULL CHECK (amount_minor > 0),
    currency     char(3) NOT NULL,
    payment_id   text COLLATE "C" NOT NULL,
    refund_id    text COLLATE "C",
    at_ms        bigint NOT NULL,
    PRIMARY KEY (show_id, number),
    CHECK ((refund_id IS NOT NULL) = (kind IN ('refunded', 'returned')))
);
CREATE TABLE ledger_end (
    show_id text COLLATE "C" PRIMARY KEY,
    number  bigint NOT NULL
) WITH (fillfactor = 50);

CREATE FUNCTION ledger_entry_stays() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'ledger_entry: what is written stays' USING ERRCODE = 'HF007';
END $$;
CREATE TRIGGER ledger_entry_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_entry
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_entry_stays();

-- Whoever writes an entry holds the end of its show's ledger until he commits: no gaps, and
-- an order that readers see as it was. Rows of payment are locked before it, never after it.
CREATE FUNCTION write_entry(
    p_show_id text, p_kind text, p_amount_minor bigint, p_currency text, p_payment_id text,
    p_refund_id text
) RETURNS void LANGUAGE sql AS $$
    WITH entry AS (
        INSERT INTO ledger_end AS e (show_id, number) VALUES (p_show_id, 1)
            ON CONFLICT (show_id) DO UPDATE SET number = e.number + 1
            RETURNING number
    )
    INSERT INTO ledger_entry
        (show_id, number, kind, amount_minor, currency, payment_id, refund_id, at_ms)
        SELECT p_show_id, number, p_kind, p_amount_minor, p_currency, p_payment_id, p_refund_id,
            house_now_ms()
        FROM entry
$$;

CREATE FUNCTION payment_only_moves_forward() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.payment_id, NEW.show_id, NEW.hold_id, NEW.customer_id, NEW.provider, NEW.amount_minor,
            NEW.currency, NEW.price)
        IS DISTINCT FROM (OLD.payment_id, OLD.show_id, OLD.hold_id, OLD.customer_id, OLD.provider,
            OLD.amount_minor, OLD.currency, OLD.price)
        OR NEW.version <= OLD.version OR NEW.captured_minor < OLD.captured_minor
        OR NEW.kept_minor IS DISTINCT FROM coalesce(OLD.kept_minor, NEW.kept_minor)
        OR (OLD.provider_ref IS NOT NULL AND NEW.provider_ref IS DISTINCT FROM OLD.provider_ref)
        OR (OLD.booked_at_ms IS NOT NULL AND
            (NEW.booked_at_ms, NEW.booking_hold_id)
                IS DISTINCT FROM (OLD.booked_at_ms, OLD.booking_hold_id))
        OR (OLD.cancelled_at_ms IS NOT NULL AND
            (NEW.cancelled_at_ms, NEW.refund_terms)
                IS DISTINCT FROM (OLD.cancelled_at_ms, OLD.refund_terms))
        OR (NEW.state <> OLD.state AND NOT may_follow(OLD.state, NEW.state,
            NEW.cancelled_at_ms IS NOT NULL))
    THEN
        RAISE EXCEPTION 'payment: % cannot become % in this way', OLD.state, NEW.state
            USING ERRCODE = 'HF003', DETAIL = OLD.payment_id;
    END IF;
    RETURN NEW;
END $$;

-- What is booked is given up only when its booking was cancelled. Money that comes in spite of all
-- is paid back, also after the end.
CREATE FUNCTION may_follow(p_before text, p_after text, p_is_cancelled boolean) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN CASE p_before
    WHEN 'created' THEN p_after NOT IN ('created', 'booked', 'settled')
    WHEN 'open' THEN p_after NOT IN ('created', 'booked', 'settled')
    WHEN 'failed' THEN p_after NOT IN ('created', 'open', 'booked', 'settled')
    WHEN 'authorised' THEN p_after NOT IN ('created', 'open', 'failed', 'authorised', 'settled')
    WHEN 'captured' THEN p_after IN ('settled', 'refund_due', 'refunded')
    WHEN 'booked' THEN p_after = 'settled' OR p_is_cancelled AND p_after = 'voided'
    WHEN 'void_due' THEN p_after IN ('voided', 'refund_due', 'refunded')
    WHEN 'voided' THEN p_after IN ('refund_due', 'refunded')
    WHEN 'refund_due' THEN p_after = 'refunded'
    WHEN 'refunded' THEN p_after = 'refund_due'
    ELSE false END;
CREATE TRIGGER payment_only_moves_forward BEFORE UPDATE ON payment
    FOR EACH ROW EXECUTE FUNCTION payment_only_moves_forward();

CREATE FUNCTION payment_is_in_the_ledger() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    v_paid char(3) := coalesce(NEW.paid_currency, NEW.currency);
BEGIN
    IF NEW.captured_minor > OLD.captured_minor THEN
        PERFORM write_entry(NEW.show_id, 'captured', NEW.captured_minor - OLD.captured_minor,
            v_paid, NEW.payment_id, NULL);
    END IF;
    IF NEW.booked_at_ms IS NOT NULL AND OLD.booked_at_ms IS NULL THEN
        PERFORM write_entry(NEW.show_id, 'booked', NEW.amount_minor, NEW.currency,
            NEW.payment_id, NULL);
    END IF;
    IF NEW.cancelled_at_ms IS NOT NULL AND OLD.cancelled_at_ms IS NULL THEN
        PERFORM write_entry(NEW.show_id, 'cancelled', NEW.amount_minor, NEW.currency,
            NEW.payment_id, NULL);
    END IF;
    IF NEW.kept_minor > 0 AND OLD.kept_minor IS NULL THEN
        PERFORM write_entry(NEW.show_id, 'kept', NEW.kept_minor, NEW.currency, NEW.payment_id,
            NULL);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER payment_is_in_the_ledger AFTER UPDATE ON payment
    FOR EACH ROW WHEN (NEW.captured_minor <> OLD.captured_minor
        OR NEW.kept_minor IS DISTINCT FROM OLD.kept_minor
        OR NEW.booked_at_ms IS DISTINCT FROM OLD.booked_at_ms
        OR NEW.cancelled_at_ms IS DISTINCT FROM OLD.cancelled_at_ms)
    EXECUTE FUNCTION payment_is_in_the_ledger();

CREATE FUNCTION refund_only_moves_forward() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.refund_id, NEW.payment_id, NEW.amount_minor, NEW.reason, NEW.created_at_ms)
        IS DISTINCT FROM
        (OLD.refund_id, OLD.payment_id, OLD.amount_minor, OLD.reason, OLD.created_at_ms)
        OR (OLD.first_asked_at_ms IS NOT NULL
            AND NEW.first_asked_at_ms IS DISTINCT FROM OLD.first_asked_at_ms)
        OR (OLD.refund_ref IS NOT NULL AND NEW.refund_ref IS DISTINCT FROM OLD.refund_ref)
        OR (NEW.state <> OLD.state AND NOT CASE OLD.state
            WHEN 'due' THEN true
            WHEN 'requested' THEN true
            WHEN 'succeeded' THEN NEW.state = 'failed'
            ELSE false END)
    THEN
        RAISE EXCEPTION 'refund: % cannot become % in this way', OLD.state, NEW.state
            USING ERRCODE = 'HF003', DETAIL = OLD.refund_id;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER refund_only_moves_forward BEFORE UPDATE ON refund
    FOR EACH ROW EXECUTE FUNCTION refund_only_moves_forward();

-- A refund that succeeds, or fails after that, changes its payment and the ledger with it.
CREATE FUNCTION refund_is_in_the_ledger() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    v_was  boolean := TG_OP = 'UPDATE' AND OLD.state = 'succeeded';
    v_sign integer := CASE WHEN NEW.state = 'succeeded' THEN 1 ELSE -1 END;
    v_payment payment;
BEGIN
    IF v_was = (NEW.state = 'succeeded') THEN
        RETURN NULL;
    END IF;
    UPDATE payment SET refunded_minor = refunded_minor + v_sign * NEW.amount_minor,
            version = version + 1
        WHERE payment_id = NEW.payment_id RETURNING * INTO v_payment;
    PERFORM write_entry(v_payment.show_id,
        CASE WHEN v_sign > 0 THEN 'refunded' ELSE 'returned' END, NEW.amount_minor,
        coalesce(v_payment.paid_currency, v_payment.currency), NEW.payment_id, NEW.refund_id);
    RETURN NULL;
END $$;
CREATE TRIGGER refund_is_in_the_ledger AFTER INSERT OR UPDATE ON refund
    FOR EACH ROW WHEN (NEW.state IN ('succeeded', 'failed'))
    EXECUTE FUNCTION refund_is_in_the_ledger();

-- Start a payment, or find the one that was started by the same request.
-- verdict: begun, repeated, other_content (the id was used for something else), hold_has_payment.
CREATE FUNCTION begin_payment(p_new jsonb, OUT verdict text, OUT payment_id text)
LANGUAGE plpgsql SECURITY DEFINER AS $$
#variable_conflict use_column
DECLARE
    v_new   payment := jsonb_populate_record(NULL::payment, p_new);
    v_known payment;
BEGIN
    INSERT INTO payment AS p (payment_id, show_id, hold_id, customer_id, provider, capture_mode,
            amount_minor, currency, hold_minor, accepts_equivalent, price, promo_tenant_id,
            promo_code_key, created_at_ms, hold_expires_at_ms, state_at_ms, due_at_ms)
        VALUES (v_new.payment_id, v_new.show_id, v_new.hold_id, v_new.customer_id, v_new.provider,
            v_new.capture_mode, v_new.amount_minor, v_new.currency, v_new.hold_minor,
            v_new.accepts_equivalent, v_new.price, v_new.promo_tenant_id, v_new.promo_code_key,
            v_new.created_at_ms, v_new.hold_expires_at_ms,
            greatest(v_new.state_at_ms, v_new.created_at_ms), v_new.due_at_ms)
        ON CONFLICT DO NOTHING RETURNING p.* INTO v_known;
    IF FOUND THEN
        verdict := 'begun';
    ELSE
        SELECT p.* INTO v_known FROM payment p WHERE p.payment_id = v_new.payment_id;
        IF FOUND THEN
            verdict := CASE WHEN
                (v_known.hold_id, v_known.customer_id, v_known.provider, v_known.capture_mode,
                    v_known.amount_minor, v_known.currency, v_known.hold_minor,
                    v_known.accepts_equivalent,
                    v_known.price, v_known.promo_tenant_id, v_known.promo_code_key)
                IS NOT DISTINCT FROM
                (v_new.hold_id, v_new.customer_id, v_new.provider, v_new.capture_mode,
                    v_new.amount_minor, v_new.currency, v_new.hold_minor,
                    v_new.accepts_equivalent,
                    v_new.price, v_new.promo_tenant_id, v_new.promo_code_key)
                THEN 'repeated' ELSE 'other_content' END;
        ELSE
            verdict := 'hold_has_payment';
            SELECT p.* INTO v_known FROM payment p
                WHERE p.hold_id = v_new.hold_id AND p.is_alive;
        END IF;
    END IF;
    payment_id := v_known.payment_id;
END $$;

-- Take the payments that have been due for longest. Nobody else gets them until the lease is over;
-- whoever had them before cannot save them any more.
CREATE FUNCTION lease_payments(p_owner text, p_limit integer, p_lease_ms bigint)
RETURNS SETOF payment LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    v_now_ms bigint := house_now_ms();
BEGIN
    RETURN QUERY
        UPDATE payment p SET lease_owner = p_owner, lease_until_ms = v_now_ms + p_lease_ms,
            version = p.version + 1
        FROM (SELECT d.payment_id FROM payment d
              WHERE d.due_at_ms <= v_now_ms
                  AND (d.lease_until_ms IS NULL OR d.lease_until_ms < v_now_ms)
              ORDER BY d.due_at_ms LIMIT p_limit FOR UPDATE SKIP LOCKED) due
        WHERE p.payment_id = due.payment_id
        RETURNING p.*;
END $$;

-- Change a payment and its refunds, when the payment is still as its changer knows it; NULL when it
-- is not. Nothing becomes booked here, and nothing becomes settled that was not booked:
-- append_batch does that. p_refunds: the ones that are new or have changed.
CREATE FUNCTION save_checkout(
    p_payment_id text, p_version integer, p_state_before text, p_after jsonb, p_refunds jsonb,
    p_keeps_lease boolean
) RETURNS integer LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    v_after    payment := jsonb_populate_record(NULL::payment, p_after);
    v_captured bigint;
    v_version  integer;
    v_promises boolean;
BEGIN
    IF v_after.state <> p_state_before AND (v_after.state = 'booked'
        OR (v_after.state = 'settled' AND p_state_before <> 'booked')) THEN
        RAISE EXCEPTION 'payment: % cannot become % without a booking', p_state_before,
            v_after.state USING ERRCODE = 'HF003', DETAIL = p_payment_id;
    END IF;
    UPDATE payment p SET state = v_after.state, state_at_ms = v_after.state_at_ms,
        hold_expires_at_ms = v_after.hold_expires_at_ms, claim = v_after.claim,
        booking_hold_id = v_after.booking_hold_id, provider_ref = v_after.provider_ref,
        charge_ref = coalesce(v_after.charge_ref, p.charge_ref),
        is_noticed = v_after.is_noticed, seen_at_ms = v_after.seen_at_ms,
        is_uncollectable = v_after.is_uncollectable, captured_minor = v_after.captured_minor,
        kept_minor = v_after.kept_minor, paid_currency = v_after.paid_currency,
        due_at_ms = v_after.due_at_ms, attempt_count = v_after.attempt_count,
        last_error = v_after.last_error, version = p.version + 1,
        lease_owner = CASE WHEN p_keeps_lease THEN p.lease_owner END,
        lease_until_ms = CASE WHEN p_keeps_lease THEN p.lease_until_ms END
    WHERE p.payment_id = p_payment_id AND p.version = p_version AND p.state = p_state_before
    RETURNING p.version, p.captured_minor INTO v_version, v_captured;
    IF v_version IS NULL OR p_refunds = '[]' THEN
        RETURN v_version;
    END IF;
    v_promises := EXISTS (SELECT FROM jsonb_populate_recordset(NULL::refund, p_refunds) w
        WHERE w.state = 'due'
            AND NOT EXISTS (SELECT FROM refund k WHERE k.refund_id = w.refund_id));
    INSERT INTO refund AS r (refund_id, payment_id, number, amount_minor, reason, state,
            created_at_ms, first_asked_at_ms, refund_ref)
        SELECT w.refund_id, p_payment_id, w.number, w.amount_minor, w.reason, w.state,
            w.created_at_ms, w.first_asked_at_ms, w.refund_ref
        FROM jsonb_populate_recordset(NULL::refund, p_refunds) w ORDER BY w.number
        ON CONFLICT (refund_id) DO UPDATE SET state = EXCLUDED.state,
            amount_minor = EXCLUDED.amount_minor, reason = EXCLUDED.reason,
            first_asked_at_ms = EXCLUDED.first_asked_at_ms, refund_ref = EXCLUDED.refund_ref;
    -- What somebody else paid back at the provider is a fact, whatever was promised before.
    IF v_promises AND v_captured < (SELECT sum(amount_minor) FROM refund
            WHERE payment_id = p_payment_id AND state <> 'failed') THEN
        RAISE EXCEPTION 'refund: all together are more than was captured'
            USING ERRCODE = 'HF008', DETAIL = p_payment_id;
    END IF;
    RETURN (SELECT version FROM payment WHERE payment_id = p_payment_id);
END $$;

-- What staff has asked to be paid back, and under which key: asked twice, it is paid back once.
CREATE TABLE refund_request (
    payment_id   text COLLATE "C" NOT NULL REFERENCES payment,
    request_key  text COLLATE "C" NOT NULL CHECK (char_length(request_key) BETWEEN 1 AND 255),
    digest       text NOT NULL CHECK (char_length(digest) BETWEEN 1 AND 100),
    refund_id    text COLLATE "C" NOT NULL UNIQUE REFERENCES refund,
    note         text NOT NULL CHECK (char_length(note) BETWEEN 1 AND 200),
    requested_by text NOT NULL CHECK (char_length(requested_by) BETWEEN 1 AND 100),
    at_ms        bigint NOT NULL,
    PRIMARY KEY (payment_id, request_key)
);

-- Write down a refund that staff asks for, with the request; NULL when the payment has moved.
CREATE FUNCTION grant_refund(
    p_payment_id text, p_version integer, p_state text, p_after jsonb, p_refunds jsonb,
    p_request jsonb
) RETURNS integer LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    v_version integer :=
        save_checkout(p_payment_id, p_version, p_state, p_after, p_refunds, true);
BEGIN
    IF v_version IS NOT NULL THEN
        INSERT INTO refund_request
                (payment_id, request_key, digest, refund_id, note, requested_by, at_ms)
            SELECT p_payment_id, w.request_key, w.digest, w.refund_id, w.note, w.requested_by,
                house_now_ms()
            FROM jsonb_populate_record(NULL::refund_request, p_request) w;
    END IF;
    RETURN v_version;
END $$;

-- Something was heard of a payment: look at it now. Whoever has it leased notices, because what he
-- wants to save is not the newest any more.
CREATE FUNCTION wake_payment(p_payment_id text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    UPDATE payment p SET due_at_ms = least(p.due_at_ms, house_now_ms()), is_noticed = true,
            version = p.version + 1
        WHERE p.payment_id = p_payment_id;
    RETURN FOUND;
END $$;

-- What somebody has to look at. One open alarm for one thing; seen again, it counts.
CREATE TABLE payment_alarm (
    alarm_id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind           text NOT NULL CHECK (char_length(kind) BETWEEN 1 AND 60),
    subject        text COLLATE "C" NOT NULL CHECK (char_length(subject) BETWEEN 1 AND 300),
    show_id        text COLLATE "C",
    detail         text NOT NULL CHECK (char_length(detail) <= 1000),
    seen_count     integer NOT NULL DEFAULT 1,
    raised_at_ms   bigint NOT NULL,
    seen_at_ms     bigint NOT NULL,
    resolved_at_ms bigint,
    resolved_by    text
) WITH (fillfactor = 80);
COMMENT ON COLUMN payment_alarm.subject IS 'a payment id; of what is not ours, provider:reference';
CREATE UNIQUE INDEX payment_alarm_open ON payment_alarm (subject, kind)
    WHERE resolved_at_ms IS NULL;

CREATE FUNCTION raise_alarm(p_kind text, p_subject text, p_show_id text, p_detail text)
RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    v_seen_count integer;
BEGIN
    INSERT INTO payment_alarm AS a (kind, subject, show_id, detail, raised_at_ms, seen_at_ms)
        VALUES (p_kind, p_subject, p_show_id, p_detail, house_now_ms(), house_now_ms())
        ON CONFLICT (subject, kind) WHERE resolved_at_ms IS NULL DO UPDATE
            SET detail = EXCLUDED.detail, seen_count = a.seen_count + 1,
                seen_at_ms = EXCLUDED.seen_at_ms
        RETURNING seen_count INTO v_seen_count;
    RETURN v_seen_count = 1;
END $$;

CREATE FUNCTION resolve_alarm(p_alarm_id bigint, p_resolved_by text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    UPDATE payment_alarm SET resolved_at_ms = house_now_ms(), resolved_by = p_resolved_by
        WHERE alarm_id = p_alarm_id AND resolved_at_ms IS NULL;
    RETURN FOUND;
END $$;

-- What providers told us. Rows stay for ever: a captured notice of a provider that does not sign
-- the time can be played again after years, and must find that it was here before.
CREATE TABLE webhook_inbox (
    provider        text COLLATE "C" NOT NULL CHECK (char_length(provider) BETWEEN 1 AND 40),
    event_key       text COLLATE "C" NOT NULL CHECK (char_length(event_key) BETWEEN 1 AND 255),
    kind            text NOT NULL CHECK (char_length(kind) BETWEEN 1 AND 100),
    provider_ref    text COLLATE "C",
    payment_id      text COLLATE "C",
    is_live         boolean NOT NULL,
    sent_at_ms      bigint,
    body            bytea NOT NULL CHECK (octet_length(body) <= 262144),
    received_at_ms  bigint NOT NULL,
    processed_at_ms bigint,
    lease_until_ms  bigint,
    attempts        integer NOT NULL DEFAULT 0,
    PRIMARY KEY (provider, event_key)
) WITH (fillfactor = 80);
CREATE INDEX webhook_inbox_unprocessed ON webhook_inbox (received_at_ms)
    WHERE processed_at_ms IS NULL;

CREATE FUNCTION receive_webhook(
    p_provider text, p_event_key text, p_kind text, p_provider_ref text, p_payment_id text,
    p_is_live boolean, p_sent_at_ms bigint, p_body bytea
) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO webhook_inbox (provider, event_key, kind, provider_ref, payment_id, is_live,
            sent_at_ms, body, received_at_ms)
        VALUES (p_provider, p_event_key, p_kind, p_provider_ref, p_payment_id, p_is_live,
            p_sent_at_ms, p_body, house_now_ms())
        ON CONFLICT (provider, event_key) DO NOTHING;
    RETURN FOUND;
END $$;

CREATE FUNCTION take_webhooks(p_limit integer, p_lease_ms bigint) RETURNS SETOF webhook_inbox
LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    v_now_ms bigint := house_now_ms();
BEGIN
    RETURN QUERY
        UPDATE webhook_inbox w SET lease_until_ms = v_now_ms + p_lease_ms,
            attempts = w.attempts + 1
        FROM (SELECT d.provider, d.event_key FROM webhook_inbox d
              WHERE d.processed_at_ms IS NULL
                  AND (d.lease_until_ms IS NULL OR d.lease_until_ms < v_now_ms)
              ORDER BY d.received_at_ms LIMIT p_limit FOR UPDATE SKIP LOCKED) waiting
        WHERE w.provider = waiting.provider AND w.event_key = waiting.event_key
        RETURNING w.*;
END $$;

CREATE FUNCTION finish_webhook(p_provider text, p_event_key text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    UPDATE webhook_inbox SET processed_at_ms = house_now_ms(), lease_until_ms = NULL
        WHERE provider = p_provider AND event_key = p_event_key AND processed_at_ms IS NULL;
    RETURN FOUND;
END $$;

-- A cancelled show: all its bookings are to be cancelled and their money given back. Started by
-- append_batch with the cancellation itself; it goes through the bookings by their holds.
CREATE TABLE refund_job (
    show_id        text COLLATE "C" PRIMARY KEY,
    state          text NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'done')),
    total_count    integer NOT NULL CHECK (total_count >= 0),
    done_count     integer NOT NULL DEFAULT 0,
    after_hold_id  text COLLATE "C" NOT NULL,
    requested_by   text NOT NULL DEFAULT '' CHECK (char_length(requested_by) <= 100),
    lease_owner    text,
    lease_until_ms bigint,
    attempts       integer NOT NULL DEFAULT 0,
    last_error     text CHECK (char_length(last_error) <= 1000),
    created_at_ms  bigint NOT NULL,
    updated_at_ms  bigint NOT NULL,
    finished_at_ms bigint,
    CHECK (done_count BETWEEN 0 AND total_count),
    CHECK ((state = 'done') = (finished_at_ms IS NOT NULL)),
    CHECK ((lease_owner IS NULL) = (lease_until_ms IS NULL))
) WITH (fillfactor = 50);
CREATE INDEX refund_job_running ON refund_job (created_at_ms) WHERE state = 'running';

CREATE FUNCTION lease_refund_job(p_owner text, p_lease_ms bigint) RETURNS SETOF refund_job
LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    v_now_ms bigint := house_now_ms();
BEGIN
    RETURN QUERY
        UPDATE refund_job j SET lease_owner = p_owner, lease_until_ms = v_now_ms + p_lease_ms,
            attempts = j.attempts + 1, updated_at_ms = v_now_ms
        WHERE j.show_id = (SELECT d.show_id FROM refund_job d WHERE d.state = 'running'
                AND (d.lease_until_ms IS NULL OR d.lease_until_ms < v_now_ms)
            ORDER BY d.created_at_ms LIMIT 1 FOR UPDATE SKIP LOCKED)
        RETURNING j.*;
END $$;

-- How far the worker that has the job is; false when it is another one's by now.
CREATE FUNCTION advance_refund_job(
    p_show_id text, p_owner text, p_from_hold_id text, p_to_hold_id text, p_done integer,
    p_is_over boolean, p_lease_ms bigint, p_error text
) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    v_now_ms bigint := house_now_ms();
BEGIN
    UPDATE refund_job SET after_hold_id = p_to_hold_id,
        done_count = CASE WHEN p_is_over THEN total_count
            ELSE least(total_count, done_count + p_done) END,
        state = CASE WHEN p_is_over THEN 'done' ELSE 'running' END,
        finished_at_ms = CASE WHEN p_is_over THEN v_now_ms END,
        lease_owner = CASE WHEN NOT p_is_over AND p_lease_ms > 0 THEN p_owner END,
        lease_until_ms = CASE WHEN NOT p_is_over AND p_lease_ms > 0 THEN v_now_ms + p_lease_ms END,
        last_error = p_error, updated_at_ms = v_now_ms
    WHERE show_id = p_show_id AND lease_owner = p_owner AND after_hold_id = p_from_hold_id
        AND state = 'running';
    RETURN FOUND;
END $$;

CREATE FUNCTION name_refund_requester(p_show_id text, p_requested_by text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    UPDATE refund_job SET requested_by = p_requested_by
        WHERE show_id = p_show_id AND requested_by IN ('', p_requested_by);
    RETURN FOUND;
END $$;

-- Uses of promo codes: only in the first database, because a code is good for shows of all.
CREATE TABLE promo_use_count (
    tenant_id text COLLATE "C" NOT NULL,
    code_key  text COLLATE "C" NOT NULL,
    use_count integer NOT NULL DEFAULT 0 CHECK (use_count >= 0),
    PRIMARY KEY (tenant_id, code_key)
) WITH (fillfactor = 50);
CREATE TABLE promo_use (
    payment_id  text COLLATE "C" PRIMARY KEY,
    tenant_id   text COLLATE "C" NOT NULL,
    code_key    text COLLATE "C" NOT NULL CHECK (char_length(code_key) BETWEEN 1 AND 40),
    customer_id text COLLATE "C" NOT NULL,
    is_kept     boolean NOT NULL DEFAULT false,
    at_ms       bigint NOT NULL,
    FOREIGN KEY (tenant_id, code_key) REFERENCES promo_use_count
);
CREATE INDEX promo_use_by_customer ON promo_use (tenant_id, code_key, customer_id);
CREATE INDEX promo_use_open ON promo_use (at_ms) WHERE NOT is_kept;

-- Count a use, unless the code was used often enough. Whoever counts holds the code's row.
-- verdict: taken, repeated, other_content, used_up, used_by_customer.
CREATE FUNCTION take_promo_use(
    p_tenant_id text, p_code_key text, p_payment_id text, p_customer_id text,
    p_uses_max integer, p_uses_per_customer_max integer
) RETURNS text LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    v_known     promo_use;
    v_use_count integer;
BEGIN
    INSERT INTO promo_use_count (tenant_id, code_key) VALUES (p_tenant_id, p_code_key)
        ON CONFLICT DO NOTHING;
    SELECT use_count INTO v_use_count FROM promo_use_count
        WHERE tenant_id = p_tenant_id AND code_key = p_code_key FOR UPDATE;
    SELECT * INTO v_known FROM promo_use WHERE payment_id = p_payment_id;
    IF FOUND THEN
        RETURN CASE WHEN (v_known.tenant_id, v_known.code_key, v_known.customer_id)
            = (p_tenant_id, p_code_key, p_customer_id) THEN 'repeated' ELSE 'other_content' END;
    END IF;
    IF v_use_count >= p_uses_max THEN
        RETURN 'used_up';
    END IF;
    IF p_uses_per_customer_max <= (SELECT count(*) FROM promo_use WHERE tenant_id = p_tenant_id
            AND code_key = p_code_key AND customer_id = p_customer_id) THEN
        RETURN 'used_by_customer';
    END IF;
    INSERT INTO promo_use (payment_id, tenant_id, code_key, customer_id, at_ms)
        VALUES (p_payment_id, p_tenant_id, p_code_key, p_customer_id, house_now_ms());
    UPDATE promo_use_count SET use_count = use_count + 1
        WHERE tenant_id = p_tenant_id AND code_key = p_code_key;
    RETURN 'taken';
END $$;

-- The checkout ended without a booking: the use does not count. One that was kept stays.
CREATE FUNCTION give_promo_use_back(p_payment_id text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    v_use promo_use;
BEGIN
    PERFORM FROM promo_use_count c JOIN promo_use u USING (tenant_id, code_key)
        WHERE u.payment_id = p_payment_id FOR UPDATE OF c;
    DELETE FROM promo_use WHERE payment_id = p_payment_id AND NOT is_kept RETURNING * INTO v_use;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    UPDATE promo_use_count SET use_count = use_count - 1
        WHERE tenant_id = v_use.tenant_id AND code_key = v_use.code_key;
    RETURN true;
END $$;

CREATE FUNCTION keep_promo_use(p_payment_id text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    UPDATE promo_use SET is_kept = true WHERE payment_id = p_payment_id;
    RETURN FOUND;
END $$;

-- What a show's prices have besides its fares, and what is given back when: first database only.
CREATE TABLE show_terms (
    show_id       text COLLATE "C" PRIMARY KEY REFERENCES show,
    price_terms   jsonb NOT NULL CHECK (jsonb_typeof(price_terms) = 'object'),
    refund_policy jsonb NOT NULL CHECK (jsonb_typeof(refund_policy) = 'object'),
    version       integer NOT NULL DEFAULT 1,
    updated_at_ms bigint NOT NULL DEFAULT house_now_ms()
);

-- The money of one batch: payments that bookings are made with, and of bookings that are undone;
-- the job of a show that is cancelled. Called when the rows of the bookings are there.
CREATE FUNCTION settle_payments(p_rows jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_used      jsonb;
    v_cancelled jsonb;
    v_done      bigint;
BEGIN
    SELECT jsonb_agg(w.value) INTO v_used
        FROM jsonb_array_elements((p_rows -> 'confirmed') || (p_rows -> 'booked')) AS w(value)
        WHERE is_payment_id(w.value ->> 'payment');
    SELECT jsonb_agg(w.value || jsonb_build_object('payment', b.payment)) INTO v_cancelled
        FROM jsonb_array_elements(p_rows -> 'cancelled') AS w(value)
            JOIN booking b ON b.hold_id = w.value ->> 'hold_id'
        WHERE is_payment_id(b.payment);
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

CREATE FUNCTION start_refund_jobs(p_cancelled jsonb) RETURNS void LANGUAGE sql AS $$
    INSERT INTO refund_job (show_id, state, total_count, after_hold_id, created_at_ms,
            updated_at_ms, finished_at_ms)
        SELECT w.show_id, CASE WHEN b.total > 0 THEN 'running' ELSE 'done' END, b.total,
            holds_from(w.show_id), w.at_ms, w.at_ms, CASE WHEN b.total = 0 THEN w.at_ms END
        FROM jsonb_to_recordset(p_cancelled) AS w(show_id text, at_ms bigint)
            CROSS JOIN LATERAL (SELECT count(*)::integer AS total FROM booking
                WHERE hold_id BETWEEN holds_from(w.show_id) AND holds_to(w.show_id)
                    AND cancelled_at_ms IS NULL) b
$$;

-- As in 0002, and with the money. The batch of a crowd (p_rows is NULL) ends before all that.
CREATE OR REPLACE FUNCTION append_batch(
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
    FOR v_function IN
        SELECT p.oid::regprocedure FROM pg_catalog.pg_proc p
        WHERE p.pronamespace = current_schema()::regnamespace
            AND p.proname IN ('begin_payment', 'lease_payments', 'save_checkout', 'wake_payment',
                'grant_refund',
                'raise_alarm', 'resolve_alarm', 'receive_webhook',
                'take_webhooks', 'finish_webhook', 'lease_refund_job', 'advance_refund_job',
                'name_refund_requester', 'take_promo_use', 'give_promo_use_back',
                'keep_promo_use', 'write_entry', 'settle_payments', 'start_refund_jobs')
    LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', v_function);
    END LOOP;
    -- As in 0002; append_batch was made anew and has lost what was set there.
    FOR v_function IN
        SELECT p.oid::regprocedure FROM pg_catalog.pg_proc p
        WHERE p.pronamespace = current_schema()::regnamespace AND p.prosecdef
    LOOP
        EXECUTE format('ALTER FUNCTION %s SET search_path = %I, pg_temp', v_function,
            current_schema());
    END LOOP;
END $$;
GRANT EXECUTE ON FUNCTION begin_payment, lease_payments, save_checkout, wake_payment, grant_refund,
    raise_alarm, resolve_alarm, receive_webhook, take_webhooks, finish_webhook,
    lease_refund_job, advance_refund_job, name_refund_requester, take_promo_use,
    give_promo_use_back, keep_promo_use TO housefull_application;
GRANT SELECT ON payment, refund, refund_request, ledger_entry, payment_alarm, webhook_inbox,
    refund_job, promo_use, promo_use_count, show_terms TO housefull_application;
-- Who checks out shows a code to the application that sells.
GRANT SELECT ON promo_code TO housefull_application;
-- An organiser sees the money of its shows and says what they cost; he moves none of it.
GRANT SELECT ON payment, refund, refund_request, ledger_entry, payment_alarm, refund_job,
    promo_use, promo_use_count, show_terms TO housefull_organiser;
GRANT INSERT ON show_terms TO housefull_organiser;
GRANT UPDATE (price_terms, refund_policy, version, updated_at_ms) ON show_terms
    TO housefull_organiser;
