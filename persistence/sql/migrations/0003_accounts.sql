-- Accounts: who may enter, what they showed to get in, and what was done by those who administer.
--
-- Secrets that are shown to get in are stored as SHA-256 (refresh tokens, one-time tokens, API
-- keys: 256 random bits each) or as a slow hash made by the program (passwords). The private
-- parts of the signing keys are stored as they are, because tokens are made with them; only
-- housefull_accounts may read them. docs/decisions/0019-accounts-sessions-and-refresh-tokens.md
--
-- All instants are Unix milliseconds.

-- See 0001: another database of this server may be making the role at this moment.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'housefull_accounts') THEN
        BEGIN
            CREATE ROLE housefull_accounts NOLOGIN;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;
        END;
    END IF;
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO housefull_accounts', current_schema());
END
$$;

-- Whoever puts shows on sale. The first one owns what the command line imports.
CREATE TABLE tenant (
    tenant_id     text COLLATE "C" PRIMARY KEY
                  CHECK (tenant_id ~ '^tnt_[0-9a-hjkmnp-tv-z]{20}$'),
    name          text NOT NULL CHECK (char_length(name) BETWEEN 1 AND 200),
    created_at_ms bigint NOT NULL
);
INSERT INTO tenant (tenant_id, name, created_at_ms)
    VALUES ('tnt_00000000000000000000', 'House', house_now_ms());

CREATE TABLE account (
    account_id           text COLLATE "C" PRIMARY KEY
                         CHECK (account_id ~ '^acc_[0-9a-hjkmnp-tv-z]{20}$'),
    email                text NOT NULL CHECK (char_length(email) BETWEEN 1 AND 254),
    -- The length is bounded because an index entry must stay below 2,704 bytes.
    email_key            text COLLATE "C" NOT NULL UNIQUE CHECK (char_length(email_key) <= 500),
    email_verified_at_ms bigint,
    name                 text NOT NULL CHECK (char_length(name) <= 200),
    role                 text NOT NULL
                         CHECK (role IN ('customer', 'organiser', 'gate', 'box_office', 'admin')),
    tenant_id            text COLLATE "C" REFERENCES tenant,
    password_hash        text NOT NULL CHECK (char_length(password_hash) BETWEEN 1 AND 500),
    state                text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'disabled')),
    created_at_ms        bigint NOT NULL,
    CHECK ((role IN ('organiser', 'gate', 'box_office')) = (tenant_id IS NOT NULL))
);
COMMENT ON COLUMN account.email IS 'as it was typed; mail is sent there';
COMMENT ON COLUMN account.email_key IS 'what two spellings have in common; persistence/account_registry.py';
CREATE INDEX account_by_tenant ON account (tenant_id, account_id) WHERE tenant_id IS NOT NULL;

-- One login of one person on one device: the family of all refresh tokens that came from it.
CREATE TABLE login_session (
    session_id      text COLLATE "C" PRIMARY KEY
                    CHECK (session_id ~ '^ses_[0-9a-hjkmnp-tv-z]{20}$'),
    account_id      text COLLATE "C" NOT NULL REFERENCES account,
    label           text NOT NULL CHECK (char_length(label) <= 200),
    opened_at_ms    bigint NOT NULL,
    refreshed_at_ms bigint NOT NULL,
    expires_at_ms   bigint NOT NULL,
    ended_at_ms     bigint,
    end_reason      text CHECK (end_reason IN ('logout', 'reuse', 'password', 'role', 'disabled', 'excess')),
    CHECK ((ended_at_ms IS NULL) = (end_reason IS NULL))
) WITH (fillfactor = 80);
COMMENT ON COLUMN login_session.label IS 'what the account is told about it: the device';
COMMENT ON COLUMN login_session.expires_at_ms IS 'when its newest refresh token expires';
CREATE INDEX login_session_live ON login_session (account_id, refreshed_at_ms) WHERE ended_at_ms IS NULL;
CREATE INDEX login_session_by_end ON login_session (coalesce(ended_at_ms, expires_at_ms));

-- Used tokens stay until they would have expired, so that a stolen one is noticed.
CREATE TABLE refresh_token (
    token_sha256     bytea PRIMARY KEY CHECK (octet_length(token_sha256) = 32),
    session_id       text COLLATE "C" NOT NULL REFERENCES login_session ON DELETE CASCADE,
    expires_at_ms    bigint NOT NULL,
    used_at_ms       bigint,
    used_by_sha256   bytea CHECK (octet_length(used_by_sha256) = 32),
    successor_sha256 bytea CHECK (octet_length(successor_sha256) = 32),
    sealed_successor bytea CHECK (octet_length(sealed_successor) = 32),
    CHECK ((used_at_ms IS NULL) = (successor_sha256 IS NULL))
) WITH (fillfactor = 80);
COMMENT ON COLUMN refresh_token.used_by_sha256 IS 'what the client said about itself; null: nothing';
COMMENT ON COLUMN refresh_token.sealed_successor IS
    'opens only with this very token (persistence/refresh_tokens.py); null when no repetition may have it';
CREATE INDEX refresh_token_by_session ON refresh_token (session_id);
CREATE INDEX refresh_token_by_expiry ON refresh_token (expires_at_ms);
CREATE INDEX refresh_token_sealed ON refresh_token (session_id) WHERE sealed_successor IS NOT NULL;

-- What is mailed to somebody to prove that the address is theirs. Gone once it was used.
CREATE TABLE one_time_token (
    token_sha256  bytea PRIMARY KEY CHECK (octet_length(token_sha256) = 32),
    kind          text NOT NULL CHECK (kind IN ('verify_email', 'reset_password')),
    account_id    text COLLATE "C" NOT NULL REFERENCES account,
    expires_at_ms bigint NOT NULL
);
CREATE INDEX one_time_token_by_account ON one_time_token (account_id, kind, expires_at_ms);
CREATE INDEX one_time_token_by_expiry ON one_time_token (expires_at_ms);

-- Keys of machines. The session is what their access tokens name, so that these can be revoked.
CREATE TABLE api_key (
    key_id          text COLLATE "C" PRIMARY KEY CHECK (key_id ~ '^key_[0-9a-hjkmnp-tv-z]{20}$'),
    account_id      text COLLATE "C" NOT NULL REFERENCES account,
    name            text NOT NULL CHECK (char_length(name) BETWEEN 1 AND 100),
    role            text NOT NULL
                    CHECK (role IN ('customer', 'organiser', 'gate', 'box_office', 'admin')),
    key_sha256      bytea NOT NULL UNIQUE CHECK (octet_length(key_sha256) = 32),
    session_id      text COLLATE "C" NOT NULL UNIQUE
                    CHECK (session_id ~ '^ses_[0-9a-hjkmnp-tv-z]{20}$'),
    created_at_ms   bigint NOT NULL,
    expires_at_ms   bigint,
    last_used_at_ms bigint,
    revoked_at_ms   bigint
) WITH (fillfactor = 80);
CREATE INDEX api_key_by_account ON api_key (account_id, key_id);
CREATE INDEX api_key_by_end ON api_key (least(revoked_at_ms, expires_at_ms))
    WHERE revoked_at_ms IS NOT NULL OR expires_at_ms IS NOT NULL;

-- What access tokens are signed with. A key is published before it signs, and verifies until the
-- last token that it signed is over.
CREATE TABLE signing_key (
    kid                  text COLLATE "C" PRIMARY KEY CHECK (kid ~ '^[A-Za-z0-9_-]{1,64}$'),
    private_pem          text NOT NULL CHECK (char_length(private_pem) BETWEEN 1 AND 2000),
    public_raw           bytea NOT NULL CHECK (octet_length(public_raw) = 32),
    created_at_ms        bigint NOT NULL,
    signs_from_at_ms     bigint NOT NULL,
    verifies_until_at_ms bigint
);
-- A view asks for its owner's rights, so whoever may read it needs none on the table.
CREATE VIEW signing_key_public AS
    SELECT kid, public_raw, signs_from_at_ms, verifies_until_at_ms
    FROM signing_key
    WHERE coalesce(verifies_until_at_ms > house_now_ms(), true);

-- Sessions whose access tokens must not be accepted, although they are not over yet.
CREATE TABLE revoked_session (
    session_id    text COLLATE "C" PRIMARY KEY,
    account_id    text COLLATE "C" NOT NULL,
    revoked_at_ms bigint NOT NULL DEFAULT house_now_ms(),
    xid           xid8 NOT NULL DEFAULT pg_current_xact_id()
);
COMMENT ON COLUMN revoked_session.xid IS 'what commits later has a later place, whatever its clock said';
CREATE INDEX revoked_session_by_xid ON revoked_session (xid);
CREATE INDEX revoked_session_by_time ON revoked_session (revoked_at_ms);

-- Every administrative change, for ever. No foreign keys: what it tells must not depend on what
-- is there later.
CREATE TABLE audit_entry (
    entry_id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at_ms        bigint NOT NULL,
    account_id   text COLLATE "C",
    tenant_id    text COLLATE "C",
    action       text NOT NULL CHECK (char_length(action) BETWEEN 1 AND 100),
    object_id    text NOT NULL CHECK (char_length(object_id) <= 200),
    before       jsonb,
    after        jsonb,
    request_id   text CHECK (char_length(request_id) <= 200)
);
COMMENT ON COLUMN audit_entry.account_id IS 'who did it; null: the command line';
COMMENT ON COLUMN audit_entry.tenant_id IS 'whose it is; null: the whole house''s';
CREATE INDEX audit_entry_by_tenant ON audit_entry (tenant_id, entry_id);

-- The rights below forbid it already; this also stops the owner, and whoever gets more rights.
CREATE FUNCTION audit_entry_only_grows() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'audit_entry: an entry is never changed or removed' USING ERRCODE = 'HF010';
END $$;
CREATE TRIGGER audit_entry_only_grows BEFORE UPDATE OR DELETE ON audit_entry
    FOR EACH ROW EXECUTE FUNCTION audit_entry_only_grows();
CREATE TRIGGER audit_entry_is_not_emptied BEFORE TRUNCATE ON audit_entry
    FOR EACH STATEMENT EXECUTE FUNCTION audit_entry_only_grows();

-- End one session, its access tokens included. False when it had ended before.
CREATE FUNCTION end_login_session(p_session_id text, p_reason text) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    v_account_id text;
BEGIN
    UPDATE login_session s SET ended_at_ms = house_now_ms(), end_reason = p_reason
        WHERE s.session_id = p_session_id AND s.ended_at_ms IS NULL
        RETURNING s.account_id INTO v_account_id;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    INSERT INTO revoked_session (session_id, account_id) VALUES (p_session_id, v_account_id)
        ON CONFLICT DO NOTHING;
    RETURN true;
END $$;

-- Exchange a refresh token for its successor: exactly one of any number of callers does, and a
-- token that is shown again ends its family, unless it is a repetition (see 0019).
--
-- Whoever changes something of a family holds the row of its session first. Each statement here
-- has its own snapshot, so what is read after that lock is what the last holder left.
CREATE FUNCTION rotate_refresh_token(
    p_token bytea, p_successor bytea, p_sealed bytea, p_client bytea, p_now_ms bigint,
    p_token_life_ms bigint, p_session_life_ms bigint, p_grace_ms bigint,
    OUT verdict text, OUT session_id text, OUT account_id text, OUT role text,
    OUT tenant_id text, OUT sealed_successor bytea, OUT expires_at_ms bigint
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_session login_session;
    v_token refresh_token;
    v_account account;
    v_is_live boolean;
    v_expires_at_ms bigint;
BEGIN
    verdict := 'unknown';
    SELECT t.* INTO v_token FROM refresh_token t WHERE t.token_sha256 = p_token;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    SELECT s.* INTO v_session FROM login_session s
        WHERE s.session_id = v_token.session_id FOR UPDATE;
    SELECT t.* INTO v_token FROM refresh_token t WHERE t.token_sha256 = p_token;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    SELECT a.* INTO v_account FROM account a WHERE a.account_id = v_session.account_id;
    v_is_live := v_session.ended_at_ms IS NULL AND v_account.state = 'active';
    IF v_token.used_at_ms IS NOT NULL THEN
        SELECT t.expires_at_ms INTO v_expires_at_ms FROM refresh_token t
            WHERE t.token_sha256 = v_token.successor_sha256 AND t.used_at_ms IS NULL;
        IF NOT FOUND OR v_token.used_by_sha256 IS DISTINCT FROM p_client OR p_client IS NULL
            OR v_token.sealed_successor IS NULL
            OR p_now_ms - v_token.used_at_ms >= p_grace_ms THEN
            PERFORM end_login_session(v_session.session_id, 'reuse');
            verdict := 'reused';
            RETURN;
        ELSIF NOT v_is_live THEN
            verdict := 'ended';
            RETURN;
        END IF;
        verdict := 'repeated';
        sealed_successor := v_token.sealed_successor;
    ELSIF NOT v_is_live THEN
        verdict := 'ended';
        RETURN;
    ELSIF v_token.expires_at_ms <= p_now_ms THEN
        verdict := 'expired';
        RETURN;
    ELSE
        verdict := 'rotated';
        v_expires_at_ms := least(p_now_ms + p_token_life_ms,
            v_session.opened_at_ms + p_session_life_ms);
        INSERT INTO refresh_token (token_sha256, session_id, expires_at_ms)
            VALUES (p_successor, v_session.session_id, v_expires_at_ms);
        -- This token was the successor of another one, which cannot be repeated any more.
        UPDATE refresh_token t SET sealed_successor = NULL
            WHERE t.session_id = v_session.session_id AND t.sealed_successor IS NOT NULL;
        UPDATE refresh_token t SET used_at_ms = p_now_ms, used_by_sha256 = p_client,
                successor_sha256 = p_successor,
                sealed_successor = CASE WHEN p_client IS NULL THEN NULL ELSE p_sealed END
            WHERE t.token_sha256 = p_token;
        UPDATE login_session s
            SET refreshed_at_ms = p_now_ms, expires_at_ms = v_expires_at_ms
            WHERE s.session_id = v_session.session_id;
    END IF;
    session_id := v_session.session_id;
    account_id := v_account.account_id;
    role := v_account.role;
    tenant_id := v_account.tenant_id;
    expires_at_ms := v_expires_at_ms;
END $$;

GRANT SELECT ON tenant, account, login_session, refresh_token, one_time_token, api_key,
    signing_key, signing_key_public, revoked_session, audit_entry TO housefull_accounts;
GRANT INSERT ON tenant, account, login_session, refresh_token, one_time_token, api_key,
    signing_key, revoked_session, audit_entry TO housefull_accounts;
GRANT UPDATE (email_verified_at_ms, name, role, tenant_id, password_hash, state) ON account
    TO housefull_accounts;
GRANT UPDATE (refreshed_at_ms, expires_at_ms, ended_at_ms, end_reason) ON login_session
    TO housefull_accounts;
GRANT UPDATE (used_at_ms, used_by_sha256, successor_sha256, sealed_successor) ON refresh_token
    TO housefull_accounts;
GRANT UPDATE (session_id, last_used_at_ms, revoked_at_ms) ON api_key TO housefull_accounts;
GRANT UPDATE (verifies_until_at_ms) ON signing_key TO housefull_accounts;
-- Accounts, tenants and audit entries are not in this list.
GRANT DELETE ON login_session, refresh_token, one_time_token, api_key, signing_key,
    revoked_session TO housefull_accounts;

GRANT SELECT ON tenant, signing_key_public, revoked_session
    TO housefull_application, housefull_organiser;
-- An organiser's every change leaves an entry, written in the transaction that makes it; and an
-- attendee list says who comes.
GRANT SELECT, INSERT ON audit_entry TO housefull_organiser;
GRANT SELECT (account_id, email, name) ON account TO housefull_organiser;
