-- Progress of a worker's running tasks, in a table of its own so that their rows stay still; and now and then an event.
-- p_reports is a JSON array of {task_id, lease_id, percent, step, total_steps, message, preview_key}.
-- Answers the tasks that are not the caller's any more: nothing is stored of them.
CREATE FUNCTION unitask.report_progress(p_reports unitask.rows, p_event_seconds unitask.seconds DEFAULT 5) RETURNS uuid[]
LANGUAGE plpgsql AS $$
DECLARE
    v_kept uuid[];
BEGIN
    PERFORM unitask.require_own_location(t.project_id, r ->> 'preview_key')
    FROM jsonb_array_elements(p_reports) r JOIN tasks t ON t.id = (r ->> 'task_id')::uuid
    WHERE r ->> 'preview_key' IS NOT NULL;
    WITH report AS (
        SELECT * FROM jsonb_to_recordset(p_reports) AS r (
            task_id uuid, lease_id bigint, percent real, step unitask.count,
            total_steps unitask.count, message unitask.message, preview_key unitask.location)
    ),
    mine AS (
        -- The share lock keeps a cancel or a rescue from slipping in between this check and the write. In the order of
        -- heartbeat.sql.
        SELECT r.*, t.project_id, unitask.event_data(t) AS data
        FROM report r JOIN tasks t ON t.id = r.task_id AND t.lease_id = r.lease_id AND t.status = 'Processing'
        ORDER BY t.parent_task_id IS NOT NULL, NOT t.hosted, t.id FOR SHARE OF t
    ),
    stored AS (
        INSERT INTO task_progress AS p (task_id, lease_id, percent, step, total_steps, message, preview_key)
        SELECT task_id, lease_id, percent, step, total_steps, message, preview_key FROM mine
        ON CONFLICT (task_id) DO UPDATE
        SET lease_id = excluded.lease_id, percent = excluded.percent, step = excluded.step,
            total_steps = excluded.total_steps, message = excluded.message,
            preview_key = coalesce(excluded.preview_key, CASE WHEN p.lease_id = excluded.lease_id THEN p.preview_key END),
            updated_at = clock_timestamp()
        RETURNING p.*
    ),
    told AS (
        INSERT INTO task_events (project_id, task_id, kind, data)
        SELECT m.project_id, s.task_id, 'progress', m.data || jsonb_strip_nulls(jsonb_build_object(
            'percent', s.percent, 'step', s.step, 'total_steps', s.total_steps, 'message', s.message,
            'preview_key', s.preview_key))
        FROM stored s JOIN mine m USING (task_id) CROSS JOIN LATERAL (
            SELECT e.kind, e.created_at FROM task_events e WHERE e.task_id = s.task_id ORDER BY e.id DESC LIMIT 1) last
        WHERE last.kind <> 'progress' OR last.created_at < clock_timestamp() - make_interval(secs => p_event_seconds)
    )
    SELECT array_agg(task_id) INTO v_kept FROM stored;
    PERFORM unitask.report_parent(p.id, p_event_seconds)
    FROM (SELECT DISTINCT parent_task_id AS id FROM tasks WHERE id = ANY (v_kept) AND parent_task_id IS NOT NULL) p;
    RETURN ARRAY(SELECT (r ->> 'task_id')::uuid FROM jsonb_array_elements(p_reports) r
                 WHERE (r ->> 'task_id')::uuid <> ALL (coalesce(v_kept, '{}')));
END $$;
