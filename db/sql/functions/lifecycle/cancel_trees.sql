-- Cancel tasks and everything below them that has not ended. Answers the ids that were cancelled.
-- Without sequential scans: here every row is looked up by an index. What Postgres knows of a table when it plans may be
-- of a time when that was small, or of an average parent, and it would then read the whole table for every row.
CREATE FUNCTION unitask.cancel_trees(p_task_ids uuid[], p_reason text) RETURNS uuid[]
LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    v_open uuid[];
BEGIN
    PERFORM unitask.lock_family(id) FROM unnest(p_task_ids) id;
    v_open := ARRAY(
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
        )
        -- From the top down, as lock_family.
        SELECT t.id FROM places JOIN tasks t USING (id)
        WHERE t.status IN ('Pending', 'Processing') ORDER BY places.depth, t.id FOR NO KEY UPDATE OF t);
    UPDATE tasks
    SET status = 'Cancelled', leased_until = NULL, finished_at = clock_timestamp(), error_kind = 'cancelled',
        error_message = p_reason
    WHERE id = ANY (v_open);
    -- The last first: a parent ends after what is below it.
    v_open := ARRAY(SELECT id FROM unnest(v_open) WITH ORDINALITY o(id, place) ORDER BY place DESC);
    PERFORM unitask.settle_credits(v_open, NULL);
    PERFORM unitask.settle_dependants(v_open);
    RETURN v_open;
END $$;
