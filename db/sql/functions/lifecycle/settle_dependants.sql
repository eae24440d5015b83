-- A task has ended: tell those that depend on it, and its parent, and whoever ends because of that.
-- Answers the run types in which something became claimable, for the wake-up after the commit.
--
-- The caller holds the locks of the task's family (lock_family).
CREATE FUNCTION unitask.settle_dependants(p_task_id uuid) RETURNS text[]
LANGUAGE plpgsql AS $$
DECLARE
    v_ended uuid[] := ARRAY[p_task_id];
    v_task tasks;
    v_edge record;
    v_ready text[] := '{}';
BEGIN
    WHILE v_ended <> '{}' LOOP
        SELECT * INTO v_task FROM tasks WHERE id = v_ended[1];
        v_ended := v_ended[2:];

        FOR v_edge IN
            -- In id order: two tasks that end at once and share dependants take their locks alike.
            SELECT t.id, t.run_type, d.policy, t.deps_pending
            FROM task_dependencies d JOIN tasks t ON t.id = d.task_id
            WHERE d.depends_on = v_task.id AND NOT d.settled AND t.status = 'Pending'
            ORDER BY t.id FOR NO KEY UPDATE OF t
        LOOP
            IF v_task.status = 'Complete' OR v_edge.policy = 'run_anyway' THEN
                UPDATE task_dependencies SET settled = true
                WHERE task_id = v_edge.id AND depends_on = v_task.id;
                UPDATE tasks SET deps_pending = deps_pending - 1 WHERE id = v_edge.id;
                IF v_edge.deps_pending = 1 THEN
                    v_ready := v_ready || v_edge.run_type;
                END IF;
            ELSE
                UPDATE tasks
                SET status = 'Failed', finished_at = clock_timestamp(), error_kind = 'dependency',
                    error_message = unitask.failure_cause(v_task)
                WHERE id = v_edge.id;
                PERFORM unitask.settle_credits(v_edge.id, NULL);
                v_ended := v_ended || v_edge.id;
            END IF;
        END LOOP;

        IF v_task.parent_task_id IS NOT NULL AND unitask.settle_parent(v_task.parent_task_id) THEN
            v_ended := v_ended || v_task.parent_task_id;
        END IF;
    END LOOP;
    RETURN ARRAY(SELECT DISTINCT unnest(v_ready));
END $$;
