-- Imports of timetables as jobs: uploaded in pieces, taken by one worker at a time.

-- name: insert_import_job
-- A new job that waits for its archive; nothing when the id is taken.
INSERT INTO import_job (tenant_id, import_job_id, request_digest, account_id, file_name, parameters)
VALUES ($1, $2, $3, $4, $5, $6::text::jsonb)
ON CONFLICT (import_job_id) DO NOTHING
RETURNING *, parameters::text AS parameters_text, problems::text AS problems_text;

-- name: find_import_job
-- One job of a tenant.
SELECT *, parameters::text AS parameters_text, problems::text AS problems_text
FROM import_job WHERE tenant_id = $1 AND import_job_id = $2;

-- name: list_import_jobs
-- Jobs, the newest first.
SELECT *, parameters::text AS parameters_text, problems::text AS problems_text
FROM import_job
WHERE tenant_id = $1 AND (created_at_ms, import_job_id) < ($2, $3)
ORDER BY created_at_ms DESC, import_job_id DESC
LIMIT $4;

-- name: lock_uploading_job
-- A job whose archive is being uploaded; nobody starts it meanwhile.
UPDATE import_job SET updated_at_ms = house_now_ms()
WHERE tenant_id = $1 AND import_job_id = $2 AND state = 'uploading'
RETURNING import_job_id;

-- name: put_chunk
-- One piece of an archive; the same piece again replaces it.
INSERT INTO import_job_chunk AS known (import_job_id, number, content)
VALUES ($1, $2, $3)
ON CONFLICT (import_job_id, number) DO UPDATE SET content = excluded.content
WHERE known.content <> excluded.content;

-- name: drop_chunks_from
-- Forget the pieces of an upload that was broken off.
DELETE FROM import_job_chunk WHERE import_job_id = $1 AND number >= $2;

-- name: measure_chunks
-- How many pieces there are, and how long they are together.
SELECT count(*) AS chunk_count, coalesce(sum(octet_length(content)), 0)::bigint AS archive_bytes
FROM import_job_chunk WHERE import_job_id = $1;

-- name: queue_import_job
-- The archive is complete: whoever is free may take the job.
UPDATE import_job
SET state = 'queued', chunk_count = $4, archive_bytes = $5, version = version + 1,
    updated_at_ms = house_now_ms()
WHERE tenant_id = $1 AND import_job_id = $2 AND state = 'uploading'
    AND ($3::integer IS NULL OR version = $3)
RETURNING *, parameters::text AS parameters_text, problems::text AS problems_text;

-- name: read_chunk
-- One piece of an archive.
SELECT content FROM import_job_chunk WHERE import_job_id = $1 AND number = $2;

-- name: drop_chunks
-- A job that has ended needs its archive no more.
DELETE FROM import_job_chunk WHERE import_job_id = $1;

-- name: give_up_import_jobs
-- Jobs that brought down every worker that took them.
UPDATE import_job
SET state = 'failed', worker = NULL, lease_until_ms = NULL, finished_at_ms = house_now_ms(),
    failure = $2, version = version + 1, updated_at_ms = house_now_ms()
WHERE state = 'running' AND lease_until_ms < house_now_ms() AND attempt_count >= $1
RETURNING import_job_id;

-- name: claim_import_job
-- The oldest job that waits, or whose worker has not been heard of.
UPDATE import_job
SET state = 'running', worker = $1, lease_until_ms = house_now_ms() + $2,
    attempt_count = attempt_count + 1, stage = '', done_count = 0, total_count = 0,
    version = version + 1, updated_at_ms = house_now_ms()
WHERE import_job_id = (
    SELECT import_job_id FROM import_job
    WHERE state = 'queued' OR (state = 'running' AND lease_until_ms < house_now_ms())
    ORDER BY created_at_ms, import_job_id
    LIMIT 1
    FOR UPDATE SKIP LOCKED
)
RETURNING *, parameters::text AS parameters_text, problems::text AS problems_text;

-- name: report_import_job
-- How far a worker is; it keeps the job.
UPDATE import_job
SET lease_until_ms = house_now_ms() + $3, stage = $4, done_count = $5, total_count = $6,
    version = version + 1, updated_at_ms = house_now_ms()
WHERE import_job_id = $1 AND worker = $2 AND state = 'running'
RETURNING import_job_id;

-- name: end_import_job
-- What became of a job, said by the worker that has it.
UPDATE import_job
SET state = $3, worker = NULL, lease_until_ms = NULL, finished_at_ms = house_now_ms(),
    created_count = $4, updated_count = $5, unchanged_count = $6, problem_count = $7,
    problems = $8::text::jsonb, failure = $9, version = version + 1,
    updated_at_ms = house_now_ms()
WHERE import_job_id = $1 AND worker = $2 AND state = 'running'
RETURNING import_job_id;

-- name: cancel_import_job
-- Stop a job that has not ended. What it has imported stays.
UPDATE import_job
SET state = 'cancelled', worker = NULL, lease_until_ms = NULL, finished_at_ms = house_now_ms(),
    version = version + 1, updated_at_ms = house_now_ms()
WHERE tenant_id = $1 AND import_job_id = $2 AND state IN ('uploading', 'queued', 'running')
    AND ($3::integer IS NULL OR version = $3)
RETURNING *, parameters::text AS parameters_text, problems::text AS problems_text;

-- name: cancel_abandoned_uploads
-- Uploads that nobody has added to for so long.
UPDATE import_job
SET state = 'cancelled', finished_at_ms = house_now_ms(), failure = $2, version = version + 1,
    updated_at_ms = house_now_ms()
WHERE state = 'uploading' AND updated_at_ms < house_now_ms() - $1::bigint
RETURNING import_job_id;
