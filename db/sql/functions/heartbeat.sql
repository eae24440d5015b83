-- A worker says that it lives, and for which leases. Answers those that are still its own; a task that is missing in
-- the answer was cancelled or given to another, and must be stopped.
CREATE FUNCTION unitask.heartbeat(
    p_worker_id text, p_task_ids uuid[], p_lease_ids bigint[], p_lease_seconds double precision, p_models text[]
) RETURNS TABLE (task_id uuid)
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE workers SET last_seen_at = clock_timestamp(), models = p_models WHERE id = p_worker_id;
    RETURN QUERY
        WITH mine AS (
            -- In id order, as every function that locks several tasks.
            SELECT t.id FROM unnest(p_task_ids, p_lease_ids) AS held(id, lease_id)
            JOIN tasks t ON t.id = held.id AND t.lease_id = held.lease_id AND t.status = 'Processing'
            ORDER BY t.id FOR NO KEY UPDATE OF t
        )
        UPDATE tasks t
        SET leased_until = clock_timestamp() + make_interval(secs => p_lease_seconds)
        FROM mine WHERE t.id = mine.id
        RETURNING t.id;
END $$;
