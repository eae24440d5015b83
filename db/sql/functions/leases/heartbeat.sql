-- A worker says that it lives, and for which leases, and how far their tasks are (see report_progress.sql). Answers
-- which of them are still its own (a task that is missing was cancelled or given to another, and must be stopped), and
-- whether the worker is asked to end.
CREATE FUNCTION unitask.heartbeat(
    p_worker_id unitask.name, p_task_ids unitask.ids, p_lease_ids unitask.lease_ids, p_lease_seconds unitask.lease_seconds, p_models unitask.names,
    p_reports unitask.rows DEFAULT '[]', p_event_seconds unitask.seconds DEFAULT 5,
    OUT kept uuid[], OUT drain boolean
)
LANGUAGE plpgsql AS $$
BEGIN
    IF cardinality(p_task_ids) <> cardinality(p_lease_ids) THEN
        RAISE EXCEPTION '% tasks came with % leases', cardinality(p_task_ids), cardinality(p_lease_ids)
            USING ERRCODE = 'UT003';
    END IF;
    UPDATE workers w SET last_seen_at = clock_timestamp(), models = p_models
    WHERE w.id = p_worker_id RETURNING w.drain INTO drain;
    WITH mine AS (
        -- Parents before children, then by id, as every function that locks several tasks.
        SELECT t.id FROM unnest(p_task_ids, p_lease_ids) AS held(id, lease_id)
        JOIN tasks t ON t.id = held.id AND t.lease_id = held.lease_id AND t.status = 'Processing'
        LEFT JOIN task_types y ON y.name = t.task_type
        -- Whoever still reports a task when its deadline is long past has not ended it: let the rescue have it.
        WHERE t.hosted OR clock_timestamp() < t.claimed_at
            + make_interval(secs => coalesce(y.deadline_seconds, 3600) + p_lease_seconds)
        ORDER BY t.parent_task_id IS NOT NULL, NOT t.hosted, t.id FOR NO KEY UPDATE OF t
    ),
    extended AS (
        UPDATE tasks t
        SET leased_until = clock_timestamp() + make_interval(secs => p_lease_seconds)
        FROM mine WHERE t.id = mine.id
        RETURNING t.id
    )
    SELECT coalesce(array_agg(id), '{}') INTO kept FROM extended;
    -- A parent ends with its last child, while its host waits. The host is not to be stopped: it shows that end.
    SELECT kept || coalesce(array_agg(t.id), '{}') INTO kept
    FROM unnest(p_task_ids, p_lease_ids) AS held(id, lease_id)
    JOIN tasks t ON t.id = held.id AND t.lease_id = held.lease_id
    WHERE t.hosted AND t.status IN ('Complete', 'Failed', 'Cancelled');
    PERFORM unitask.report_progress(p_reports, p_event_seconds);
END $$;
