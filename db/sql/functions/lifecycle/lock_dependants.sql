-- Lock whatever waits for these tasks, or will fail because of them, in the order of the ids: transactions that settle
-- the same tasks at once take their locks alike.
CREATE FUNCTION unitask.lock_dependants(p_task_ids uuid[]) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_found uuid[];
    v_locked uuid[];
BEGIN
    LOOP
        v_found := ARRAY(
            WITH RECURSIVE waiting AS (
                SELECT id, status IN ('Failed', 'Cancelled') AS falls FROM tasks WHERE id = ANY (p_task_ids)
                UNION
                SELECT n.task_id, n.policy = 'fail' FROM waiting CROSS JOIN LATERAL (
                    SELECT d.task_id, d.policy FROM task_dependencies d
                    WHERE d.depends_on = waiting.id AND NOT d.settled
                      AND (SELECT w.status FROM tasks w WHERE w.id = d.task_id) = 'Pending'
                    -- Keeps the lookup by index: a join would read the whole table at every step.
                    OFFSET 0
                ) n WHERE waiting.falls OR waiting.id = ANY (p_task_ids)
            )
            SELECT DISTINCT id FROM waiting EXCEPT SELECT unnest(p_task_ids) ORDER BY id);
        -- Once more under the locks: somebody may have created a task that waits for one of these meanwhile.
        EXIT WHEN v_found = '{}' OR v_found = v_locked;
        PERFORM FROM tasks WHERE id = ANY (v_found) ORDER BY id FOR NO KEY UPDATE;
        v_locked := v_found;
    END LOOP;
END $$;
