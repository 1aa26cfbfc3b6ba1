-- What accounts, sessions, keys and the audit log ask of Postgres. Instants are Unix milliseconds.
--
-- Locks are taken in one order: account, session, refresh token; account, mailed token; account,
-- API key.

-- name: lock_account
-- Hold the row of an account until the transaction ends.
SELECT account_id, role, tenant_id, state, password_hash
FROM account
WHERE account_id = $1
FOR NO KEY UPDATE;

-- name: sign_up
-- A new account, unless the address is taken.
INSERT INTO account (account_id, email, email_key, email_verified_at_ms, name, role, tenant_id,
                     password_hash, created_at_ms)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
ON CONFLICT (email_key) DO NOTHING;

-- name: find_account
-- One account by its id.
SELECT account_id, email, email_verified_at_ms, name, role, tenant_id, password_hash, state,
       created_at_ms
FROM account
WHERE account_id = $1;

-- name: find_account_by_email
-- One account by its address.
SELECT account_id, email, email_verified_at_ms, name, role, tenant_id, password_hash, state,
       created_at_ms
FROM account
WHERE email_key = $1;

-- name: list_staff
-- Accounts of a tenant after a place in the order of their ids.
SELECT account_id, email, email_verified_at_ms, name, role, tenant_id, password_hash, state,
       created_at_ms
FROM account
WHERE tenant_id = $1 AND account_id > $2
ORDER BY account_id
LIMIT $3;

-- name: search_accounts
-- Accounts whose address begins with a text; nothing sorts after the last letter of Unicode.
SELECT account_id, email, email_verified_at_ms, name, role, tenant_id, password_hash, state,
       created_at_ms
FROM account
WHERE email_key >= $1 AND email_key < $1 || chr(1114111) AND email_key > $2
ORDER BY email_key
LIMIT $3;

-- name: find_contacts
-- Who some accounts are.
SELECT account_id, name, email FROM account WHERE account_id = ANY($1);

-- name: set_name
-- Another name.
UPDATE account SET name = $2 WHERE account_id = $1;

-- name: set_password_hash
-- Another password, or the same one with other costs.
UPDATE account SET password_hash = $2 WHERE account_id = $1;

-- name: set_role
-- Another role, or the same one at another tenant.
UPDATE account SET role = $2, tenant_id = $3 WHERE account_id = $1;

-- name: set_state
-- Disable an account, or let it in again.
UPDATE account SET state = $2 WHERE account_id = $1;

-- name: verify_email
-- The first time that an address was verified counts.
UPDATE account SET email_verified_at_ms = $2
WHERE account_id = $1 AND email_verified_at_ms IS NULL;

-- name: put_token
-- Remember a token that is about to be mailed.
INSERT INTO one_time_token (token_sha256, kind, account_id, expires_at_ms)
VALUES ($1, $2, $3, $4);

-- name: forget_excess_tokens
-- All but the tokens of one kind that live longest.
DELETE FROM one_time_token
WHERE token_sha256 IN (
    SELECT token_sha256 FROM one_time_token
    WHERE account_id = $1 AND kind = $2
    ORDER BY expires_at_ms DESC, token_sha256
    OFFSET $3
);

-- name: account_of_token
-- Whose account is to be held before a mailed token is used.
SELECT account_id FROM one_time_token WHERE token_sha256 = $1 AND kind = $2;

-- name: use_token
-- A mailed token works once.
DELETE FROM one_time_token
WHERE token_sha256 = $1 AND kind = $2 AND expires_at_ms > $3
RETURNING account_id;

-- name: forget_tokens
-- The mailed tokens of an account, of one kind or (null) of all.
DELETE FROM one_time_token WHERE account_id = $1 AND kind = coalesce($2, kind);

-- name: open_session
-- A new session and its first refresh token.
WITH opened AS (
    INSERT INTO login_session (session_id, account_id, label, opened_at_ms, refreshed_at_ms,
                               expires_at_ms)
    VALUES ($1, $2, $3, $4, $4, $5)
)
INSERT INTO refresh_token (token_sha256, session_id, expires_at_ms) VALUES ($6, $1, $5);

-- name: end_excess_sessions
-- All live sessions of an account but those that were used last.
SELECT end_login_session(excess.session_id, $3)
FROM (
    SELECT session_id FROM login_session
    WHERE account_id = $1 AND ended_at_ms IS NULL AND expires_at_ms > $4
    ORDER BY refreshed_at_ms DESC, session_id
    OFFSET $2
) AS excess;

-- name: rotate_refresh_token
-- Exchange a refresh token; what happened is the verdict.
SELECT verdict, session_id, account_id, role, tenant_id, sealed_successor, expires_at_ms
FROM rotate_refresh_token($1, $2, $3, $4, $5, $6, $7, $8);

-- name: revoke_session
-- End one login; or give an API key another session, so that its access tokens end.
WITH ended AS (
    SELECT end_login_session(session_id, 'logout') AS was_alive
    FROM login_session
    WHERE session_id = $1 AND account_id = coalesce($2, account_id)
), replaced AS (
    UPDATE api_key SET session_id = $3
    WHERE session_id = $1 AND account_id = coalesce($2, account_id)
    RETURNING account_id
), revoked AS (
    INSERT INTO revoked_session (session_id, account_id)
    SELECT $1, account_id FROM replaced
    ON CONFLICT DO NOTHING
)
SELECT EXISTS (SELECT FROM ended WHERE was_alive) OR EXISTS (SELECT FROM replaced);

-- name: end_all_sessions
-- End every login of an account, and count them.
WITH ended AS (
    UPDATE login_session SET ended_at_ms = house_now_ms(), end_reason = $2
    WHERE account_id = $1 AND ended_at_ms IS NULL
    RETURNING session_id
), revoked AS (
    INSERT INTO revoked_session (session_id, account_id)
    SELECT session_id, $1 FROM ended
    ON CONFLICT DO NOTHING
)
SELECT count(*) FROM ended;

-- name: list_sessions
-- The live sessions of an account, the last used first.
SELECT session_id, label, opened_at_ms, refreshed_at_ms, expires_at_ms
FROM login_session
WHERE account_id = $1 AND ended_at_ms IS NULL AND expires_at_ms > $2
ORDER BY refreshed_at_ms DESC, session_id
LIMIT $3;

-- name: revoked_since
-- What was revoked since a cursor. The cursor is the oldest transaction that was still running:
-- whatever we cannot see now has this place or a later one. A cursor that is ahead of the server
-- comes from a database that this one replaced, so it starts again.
WITH here AS (
    SELECT pg_snapshot_xmin(pg_current_snapshot()) AS oldest
), since AS (
    SELECT CASE WHEN $1::text::xid8 > oldest THEN '0'::xid8 ELSE $1::text::xid8 END AS first
    FROM here
)
SELECT oldest::text::bigint AS cursor,
       ARRAY(SELECT r.session_id FROM revoked_session r
             WHERE r.xid >= first AND r.revoked_at_ms > house_now_ms() - $2::bigint) AS session_ids
FROM here, since;

-- name: live_key_ids
-- The keys of an account whose access tokens may be alive.
SELECT key_id FROM api_key WHERE account_id = $1 AND revoked_at_ms IS NULL ORDER BY key_id;

-- name: replace_key_sessions
-- Give keys other sessions, so that their access tokens end and the keys stay.
WITH old AS MATERIALIZED (
    SELECT key_id, account_id, session_id FROM api_key
    WHERE key_id = ANY($1)
    ORDER BY key_id
    FOR UPDATE
), replaced AS (
    UPDATE api_key k SET session_id = fresh.session_id
    FROM old, unnest($1::text[], $2::text[]) AS fresh (key_id, session_id)
    WHERE k.key_id = old.key_id AND fresh.key_id = old.key_id
)
INSERT INTO revoked_session (session_id, account_id)
SELECT session_id, account_id FROM old
ON CONFLICT DO NOTHING;

-- name: count_working_keys
-- How many keys of an account work.
SELECT count(*) FROM api_key
WHERE account_id = $1 AND revoked_at_ms IS NULL AND coalesce(expires_at_ms > $2, true);

-- name: create_api_key
-- A new key.
INSERT INTO api_key (key_id, account_id, name, role, key_sha256, session_id, created_at_ms,
                     expires_at_ms)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8);

-- name: list_api_keys
-- Keys of an account after a place in the order of their ids.
SELECT key_id, name, role, created_at_ms, expires_at_ms, last_used_at_ms, revoked_at_ms
FROM api_key
WHERE account_id = $1 AND key_id > $2
ORDER BY key_id
LIMIT $3;

-- name: revoke_api_key
-- Stop a key and its access tokens.
WITH stopped AS (
    UPDATE api_key SET revoked_at_ms = house_now_ms()
    WHERE key_id = $1 AND account_id = coalesce($2, account_id) AND revoked_at_ms IS NULL
    RETURNING session_id, account_id
), revoked AS (
    INSERT INTO revoked_session (session_id, account_id)
    SELECT session_id, account_id FROM stopped
    ON CONFLICT DO NOTHING
)
SELECT EXISTS (SELECT FROM stopped);

-- name: revoke_all_keys
-- Stop every key of an account, after its sessions were replaced.
UPDATE api_key SET revoked_at_ms = house_now_ms()
WHERE account_id = $1 AND revoked_at_ms IS NULL;

-- name: use_api_key
-- Who a key lets in. The account is locked before the key is read: without that, a key that just
-- got another session could be let in as what its account was before.
WITH holder AS MATERIALIZED (
    SELECT a.account_id, a.role, a.tenant_id
    FROM account a JOIN api_key k ON k.account_id = a.account_id
    WHERE k.key_sha256 = $1 AND a.state = 'active'
    FOR SHARE OF a
)
UPDATE api_key k SET last_used_at_ms = $2
FROM holder
WHERE k.key_sha256 = $1 AND k.revoked_at_ms IS NULL AND coalesce(k.expires_at_ms > $2, true)
RETURNING k.key_id, k.account_id, k.role, k.session_id, holder.role AS account_role,
          holder.tenant_id;

-- name: lock_signing_keys
-- One process at a time adds keys.
SELECT pg_advisory_xact_lock($1);

-- name: some_key_is_alive
-- Whether a key is there that has not stopped verifying.
SELECT EXISTS (SELECT FROM signing_key_public);

-- name: add_signing_key
-- Publish a key.
INSERT INTO signing_key (kid, private_pem, public_raw, created_at_ms, signs_from_at_ms,
                         verifies_until_at_ms)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (kid) DO NOTHING;

-- name: retire_signing_key
-- Let a key verify until then and no longer.
UPDATE signing_key SET verifies_until_at_ms = least(verifies_until_at_ms, $2) WHERE kid = $1;

-- name: list_signing_keys
-- The keys that are alive, with their private parts.
SELECT k.kid, k.private_pem, k.public_raw, k.created_at_ms, k.signs_from_at_ms,
       k.verifies_until_at_ms
FROM signing_key k JOIN signing_key_public alive ON alive.kid = k.kid
ORDER BY k.signs_from_at_ms, k.kid;

-- name: list_public_keys
-- The public parts of the keys that are alive.
SELECT kid, public_raw, signs_from_at_ms, verifies_until_at_ms
FROM signing_key_public
ORDER BY signs_from_at_ms, kid;

-- name: create_tenant
-- A new tenant.
INSERT INTO tenant (tenant_id, name, created_at_ms) VALUES ($1, $2, house_now_ms());

-- name: find_tenant
-- One tenant by its id.
SELECT tenant_id, name, created_at_ms FROM tenant WHERE tenant_id = $1;

-- name: list_tenants
-- Tenants after a place in the order of their ids.
SELECT tenant_id, name, created_at_ms FROM tenant WHERE tenant_id > $1 ORDER BY tenant_id LIMIT $2;

-- name: append_audit
-- Add an entry to the audit log.
INSERT INTO audit_entry (at_ms, account_id, tenant_id, action, object_id, before, after, request_id)
VALUES ($1, $2, $3, $4, $5, $6::text::jsonb, $7::text::jsonb, $8);

-- name: list_whole_audit
-- Entries before a place in the log, the newest first.
SELECT entry_id, at_ms, account_id, tenant_id, action, object_id, before::text AS before,
       after::text AS after, request_id
FROM audit_entry
WHERE entry_id < $1
ORDER BY entry_id DESC
LIMIT $2;

-- name: list_audit
-- The same for one tenant.
SELECT entry_id, at_ms, account_id, tenant_id, action, object_id, before::text AS before,
       after::text AS after, request_id
FROM audit_entry
WHERE entry_id < $1 AND tenant_id = $3
ORDER BY entry_id DESC
LIMIT $2;

-- name: may_purge
-- One process at a time tidies up; false when another one does. It waits for nobody once it holds
-- a row that others may wait for, so it is part of no deadlock.
SELECT pg_try_advisory_xact_lock($1);

-- name: purge_tokens
-- Mailed tokens that have expired.
DELETE FROM one_time_token
WHERE token_sha256 IN (SELECT token_sha256 FROM one_time_token WHERE expires_at_ms <= $1 LIMIT $2);

-- name: purge_revocations
-- Revoked sessions whose access tokens are over by themselves.
DELETE FROM revoked_session
WHERE session_id IN (SELECT session_id FROM revoked_session WHERE revoked_at_ms <= $1 LIMIT $2);

-- name: purge_refresh_tokens
-- Refresh tokens that have expired, used or not.
DELETE FROM refresh_token
WHERE token_sha256 IN (
    SELECT token_sha256 FROM refresh_token
    WHERE expires_at_ms <= $1
    LIMIT $2
    FOR UPDATE SKIP LOCKED
);

-- name: purge_seals
-- Successors that no repetition may have any more.
UPDATE refresh_token SET sealed_successor = NULL
WHERE token_sha256 IN (
    SELECT token_sha256 FROM refresh_token
    WHERE sealed_successor IS NOT NULL AND used_at_ms <= $1
    LIMIT $2
    FOR UPDATE SKIP LOCKED
);

-- name: purge_sessions
-- Sessions that ended or expired some time ago, and their tokens with them.
DELETE FROM login_session
WHERE session_id IN (
    SELECT session_id FROM login_session
    WHERE coalesce(ended_at_ms, expires_at_ms) <= $1
    LIMIT $2
    FOR UPDATE SKIP LOCKED
);

-- name: purge_api_keys
-- API keys that ended some time ago.
DELETE FROM api_key
WHERE key_id IN (
    SELECT key_id FROM api_key
    WHERE (revoked_at_ms IS NOT NULL OR expires_at_ms IS NOT NULL)
        AND least(revoked_at_ms, expires_at_ms) <= $1
    LIMIT $2
    FOR UPDATE SKIP LOCKED
);

-- name: purge_signing_keys
-- Keys that verify nothing any more, private parts included.
DELETE FROM signing_key
WHERE kid IN (
    SELECT kid FROM signing_key
    WHERE verifies_until_at_ms <= $1
    LIMIT $2
    FOR UPDATE SKIP LOCKED
);
