-- Tell how far a parent is, as an event of its own: the mean of its children in percent, how many of them are done as
-- its step, the newest picture of one of them, and how long it will still take. At most once in so many seconds.
--
-- The time left: what the children that no sibling waits for will take (the film), and before it the others, of which as
-- many as run now run together. A child takes what its siblings of its type took, else what the last task of that type
-- did, and the more of it is done the more its own rate counts (as in eta.py).
CREATE FUNCTION unitask.report_parent(p_task_id uuid, p_event_seconds double precision) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_parent tasks;
    v_last record;
BEGIN
    SELECT e.kind, e.created_at INTO v_last FROM task_events e WHERE e.task_id = p_task_id ORDER BY e.id DESC LIMIT 1;
    IF v_last.kind = 'progress' AND v_last.created_at >= clock_timestamp() - make_interval(secs => p_event_seconds) THEN
        RETURN;
    END IF;
    -- Events of a task are read in the order of their ids, so whoever writes one holds its row. Who holds it now moves
    -- the parent or tells of it: there is nothing to wait for.
    SELECT * INTO v_parent FROM tasks WHERE id = p_task_id AND status IN ('Pending', 'Processing')
    FOR NO KEY UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    INSERT INTO task_events (project_id, task_id, kind, data)
    WITH child AS (
        SELECT c.id, c.task_type, c.run_type, c.status, coalesce(p.percent, 0) / 100 AS share, p.preview_key, p.updated_at,
               extract(epoch FROM clock_timestamp() - c.claimed_at) AS elapsed,
               extract(epoch FROM c.finished_at - c.claimed_at) AS took,
               NOT EXISTS (SELECT FROM task_dependencies d JOIN tasks s ON s.id = d.task_id
                           WHERE d.depends_on = c.id AND s.parent_task_id = p_task_id) AS is_last
        FROM tasks c LEFT JOIN task_progress p ON p.task_id = c.id AND p.lease_id = c.lease_id
        WHERE c.parent_task_id = p_task_id
    ),
    typical AS (
        SELECT k.task_type, coalesce(
            (SELECT avg(s.took) FROM child s WHERE s.task_type = k.task_type AND s.status = 'Complete'),
            (SELECT extract(epoch FROM r.finished_at - r.claimed_at) FROM (
                SELECT t.task_type, t.status, t.finished_at, t.claimed_at FROM tasks t
                WHERE t.run_type = k.run_type AND NOT t.hosted AND t.claimed_at IS NOT NULL
                ORDER BY t.claimed_at DESC LIMIT 200) r
             WHERE r.task_type = k.task_type AND r.status = 'Complete' LIMIT 1)) AS seconds
        FROM (SELECT DISTINCT task_type, run_type FROM child) k
    ),
    remaining AS (
        SELECT c.is_last, c.status, CASE c.status
            WHEN 'Pending' THEN t.seconds
            WHEN 'Processing' THEN CASE
                WHEN t.seconds IS NULL THEN CASE WHEN c.share >= 0.03 THEN c.elapsed * (1 - c.share) / c.share END
                WHEN c.share = 0 THEN greatest(0, t.seconds - c.elapsed)
                ELSE (1 - c.share) * ((1 - c.share) * t.seconds + c.elapsed) END
            ELSE 0 END AS seconds
        FROM child c LEFT JOIN typical t USING (task_type)
    ),
    -- Of what nobody knows yet the others' mean is taken, so that the film's part counts from the start.
    known AS (
        SELECT is_last, status, coalesce(seconds, avg(seconds) FILTER (WHERE status <> 'Complete') OVER ()) AS seconds
        FROM remaining
    )
    SELECT v_parent.project_id, v_parent.id, 'progress', unitask.event_data(v_parent) || jsonb_strip_nulls(
        jsonb_build_object(
            'percent', (SELECT round(avg(CASE status WHEN 'Complete' THEN 100 WHEN 'Processing' THEN 100 * share ELSE 0 END)
                                     ::numeric, 1) FROM child),
            'step', (SELECT count(*) FROM child WHERE status = 'Complete'),
            'total_steps', (SELECT count(*) FROM child),
            'preview_key', (SELECT preview_key FROM child WHERE preview_key IS NOT NULL ORDER BY updated_at DESC LIMIT 1),
            'remaining_seconds', (
                SELECT round((coalesce(sum(seconds) FILTER (WHERE NOT is_last), 0)
                              / greatest(1, count(*) FILTER (WHERE status = 'Processing' AND NOT is_last))
                              + coalesce(sum(seconds) FILTER (WHERE is_last), 0))::numeric, 1)
                FROM known HAVING count(*) = count(seconds))));
END $$;
