-- Cancel a task and everything below it that has not ended. Answers the ids that were cancelled.
-- A worker that holds one of them learns it with its next heartbeat or progress report.
CREATE FUNCTION unitask.cancel_task(p_task_id uuid, p_reason text) RETURNS uuid[]
LANGUAGE plpgsql AS $$
DECLARE
    v_cancelled uuid[];
    v_id uuid;
BEGIN
    PERFORM unitask.lock_family(p_task_id);
    WITH RECURSIVE tree AS (
        SELECT id, 0 AS depth FROM tasks WHERE id = p_task_id
        UNION ALL
        SELECT t.id, tree.depth + 1 FROM tree JOIN tasks t ON t.parent_task_id = tree.id
    ),
    open AS (
        -- From the top down, as lock_family.
        SELECT t.id, tree.depth FROM tree JOIN tasks t USING (id)
        WHERE t.status IN ('Pending', 'Processing') ORDER BY tree.depth, t.id FOR NO KEY UPDATE OF t
    ),
    done AS (
        UPDATE tasks t
        SET status = 'Cancelled', leased_until = NULL, finished_at = clock_timestamp(), error_kind = 'cancelled',
            error_message = p_reason
        FROM open WHERE t.id = open.id
        RETURNING t.id
    )
    SELECT array_agg(done.id ORDER BY open.depth DESC, done.id) INTO v_cancelled FROM done JOIN open USING (id);

    FOREACH v_id IN ARRAY coalesce(v_cancelled, '{}') LOOP
        PERFORM unitask.settle_credits(v_id, NULL);
        PERFORM unitask.settle_dependants(v_id);
    END LOOP;
    RETURN coalesce(v_cancelled, '{}');
END $$;
