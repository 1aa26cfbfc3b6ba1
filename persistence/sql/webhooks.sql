-- What providers told us.

-- name: receive_webhooks
-- Write notices down and wake their payments; of each, in order, whether it is new.
SELECT * FROM receive_webhooks($1::text::jsonb, $2::bytea[]);

-- name: take_webhooks
-- Take notices that nobody has worked on, the oldest first.
SELECT * FROM take_webhooks($1, $2) ORDER BY received_at_ms;

-- name: finish_webhook
-- A notice needs no more work.
SELECT finish_webhook($1, $2);

-- name: count_unprocessed_webhooks
-- How many notices wait, and since when the oldest does.
SELECT count(*) AS waiting_count, min(received_at_ms) AS oldest_at_ms
FROM webhook_inbox WHERE processed_at_ms IS NULL;
