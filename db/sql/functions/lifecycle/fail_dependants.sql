-- Fail all that cannot run any more because of these tasks, which have ended; answers what failed, with its credits
-- settled. The caller holds the locks (lock_dependants).
CREATE FUNCTION unitask.fail_dependants(p_task_ids uuid[]) RETURNS uuid[]
LANGUAGE plpgsql AS $$
DECLARE
    v_cause tasks;
    v_falling uuid[];
    v_failed uuid[] := '{}';
BEGIN
    -- One cause after the other: what has failed for the first is not looked at again for the next.
    FOR v_cause IN
        SELECT t.* FROM unnest(p_task_ids) WITH ORDINALITY e(id, place) JOIN tasks t USING (id)
        WHERE t.status IN ('Failed', 'Cancelled') AND EXISTS (
            SELECT FROM task_dependencies d
            WHERE d.depends_on = t.id AND d.policy = 'fail' AND NOT d.settled
              -- By the id: a join may read all that is pending by an index, once for every row.
              AND (SELECT w.status FROM tasks w WHERE w.id = d.task_id) = 'Pending')
        ORDER BY e.place
    LOOP
        v_falling := ARRAY(
            WITH RECURSIVE falling AS (
                SELECT v_cause.id
                UNION
                SELECT n.task_id FROM falling CROSS JOIN LATERAL (
                    SELECT d.task_id FROM task_dependencies d
                    WHERE d.depends_on = falling.id AND d.policy = 'fail' AND NOT d.settled
                      AND (SELECT w.status FROM tasks w WHERE w.id = d.task_id) = 'Pending'
                    OFFSET 0  -- as in lock_dependants
                ) n
            )
            SELECT id FROM falling WHERE id <> v_cause.id);
        UPDATE tasks
        SET status = 'Failed', finished_at = clock_timestamp(), error_kind = 'dependency',
            error_message = unitask.failure_cause(v_cause)
        WHERE id = ANY (v_falling);
        v_failed := v_failed || v_falling;
    END LOOP;
    PERFORM unitask.settle_credits(v_failed, NULL);
    RETURN v_failed;
END $$;
