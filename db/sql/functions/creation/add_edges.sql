-- Insert the dependency edges of newly created tasks, and settle at once those whose dependency has ended.
CREATE FUNCTION unitask.add_edges(p_rows jsonb, p_ids uuid[], p_new boolean[]) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_edges jsonb;
    v_missing uuid;
BEGIN
    SELECT jsonb_agg(jsonb_build_object(
        'task_id', p_ids[r.index + 1],
        'depends_on', coalesce((d.value ->> 'task_id')::uuid, p_ids[(d.value ->> 'index')::integer + 1]),
        'policy', coalesce(d.value ->> 'policy', 'fail')))
    INTO v_edges
    FROM unitask.task_rows(p_rows) r CROSS JOIN LATERAL jsonb_array_elements(r.depends_on) d
    WHERE r.depends_on <> '[]' AND p_new[r.index + 1];
    IF v_edges IS NULL THEN
        RETURN;
    END IF;

    -- A dependency that ends at this moment either has ended before this lock and is seen so below, or waits for
    -- our commit and then finds our edges (tests/races: edge against the end of its parent). In id order, so that
    -- two creators cannot dead-lock.
    PERFORM FROM tasks t
    WHERE t.id IN (SELECT e.depends_on FROM jsonb_to_recordset(v_edges) AS e(depends_on uuid))
    ORDER BY t.id FOR SHARE;

    -- Deleted since the request was checked: without its edge the task would not wait at all.
    SELECT e.depends_on INTO v_missing FROM jsonb_to_recordset(v_edges) AS e(depends_on uuid)
    WHERE NOT EXISTS (SELECT FROM tasks t WHERE t.id = e.depends_on) LIMIT 1;
    IF v_missing IS NOT NULL THEN
        RAISE EXCEPTION 'there is no task %', v_missing USING ERRCODE = 'UT002';
    END IF;

    INSERT INTO task_dependencies (task_id, depends_on, policy, settled)
    SELECT e.task_id, e.depends_on, e.policy,
           t.status = 'Complete' OR t.status IN ('Failed', 'Cancelled') AND e.policy = 'run_anyway'
    FROM jsonb_to_recordset(v_edges) AS e(task_id uuid, depends_on uuid, policy text)
    JOIN tasks t ON t.id = e.depends_on
    ON CONFLICT DO NOTHING;

    UPDATE tasks t SET deps_pending = e.pending
    FROM (SELECT task_id, count(*) AS pending FROM task_dependencies
          WHERE task_id = ANY (p_ids) AND NOT settled GROUP BY task_id) e
    WHERE t.id = e.task_id AND t.deps_pending <> e.pending;

    PERFORM unitask.settle_dependants(ARRAY(
        SELECT DISTINCT d.depends_on FROM task_dependencies d JOIN tasks t ON t.id = d.depends_on
        WHERE d.task_id = ANY (p_ids) AND NOT d.settled AND t.status IN ('Failed', 'Cancelled')));
END $$;
