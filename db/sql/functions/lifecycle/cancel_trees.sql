-- Cancel tasks and everything below them that has not ended. Answers the ids that were cancelled.
CREATE FUNCTION unitask.cancel_trees(p_task_ids uuid[], p_reason text) RETURNS uuid[]
LANGUAGE plpgsql AS $$
DECLARE
    v_cancelled uuid[];
BEGIN
    PERFORM unitask.lock_family(id) FROM unnest(p_task_ids) id;
    WITH RECURSIVE tree AS (
        SELECT id, 0 AS depth FROM tasks WHERE id = ANY (p_task_ids)
        UNION ALL
        SELECT t.id, tree.depth + 1 FROM tree CROSS JOIN LATERAL (
            SELECT id FROM tasks WHERE parent_task_id = tree.id OFFSET 0  -- by its index, as in lock_dependants
        ) t
    ),
    places AS (
        -- One that is named itself and lies below another that is named is there twice.
        SELECT id, max(depth) AS depth FROM tree GROUP BY id
    ),
    open AS (
        -- From the top down, as lock_family.
        SELECT t.id, places.depth FROM places JOIN tasks t USING (id)
        WHERE t.status IN ('Pending', 'Processing') ORDER BY places.depth, t.id FOR NO KEY UPDATE OF t
    ),
    done AS (
        UPDATE tasks t
        SET status = 'Cancelled', leased_until = NULL, finished_at = clock_timestamp(), error_kind = 'cancelled',
            error_message = p_reason
        FROM open WHERE t.id = open.id
        RETURNING t.id
    )
    SELECT array_agg(done.id ORDER BY open.depth DESC, done.id) INTO v_cancelled FROM done JOIN open USING (id);
    v_cancelled := coalesce(v_cancelled, '{}');
    PERFORM unitask.settle_credits(v_cancelled, NULL);
    PERFORM unitask.settle_dependants(v_cancelled);
    RETURN v_cancelled;
END $$;
