-- Tasks have ended: tell those that depend on them, and their parents, and whoever ends because of that.
-- Answers the run types in which something became claimable, for the wake-up after the commit.
--
-- The caller holds the locks of the tasks' families (lock_family). What ends together is settled together, so that the
-- cost grows with the number of tasks: a row of the database that is changed a thousand times in one transaction, or a
-- list that is copied at every step, would make it grow with the square.
-- No sequential scans, as in cancel_trees.
CREATE FUNCTION unitask.settle_dependants(p_task_ids uuid[]) RETURNS text[]
LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    v_ended uuid[] := p_task_ids;
    v_parents uuid[];
    v_ready text[] := '{}';
BEGIN
    WHILE v_ended <> '{}' LOOP
        PERFORM unitask.lock_dependants(v_ended);
        v_ended := v_ended || unitask.fail_dependants(v_ended);
        WITH settled AS (
            UPDATE task_dependencies d SET settled = true
            WHERE d.depends_on = ANY (v_ended) AND NOT d.settled
              AND (d.policy = 'run_anyway' OR (SELECT s.status FROM tasks s WHERE s.id = d.depends_on) = 'Complete')
              AND (SELECT w.status FROM tasks w WHERE w.id = d.task_id) = 'Pending'
            RETURNING d.task_id
        ),
        moved AS (
            UPDATE tasks t SET deps_pending = t.deps_pending - e.edges
            FROM (SELECT task_id, count(*) AS edges FROM settled GROUP BY task_id) e WHERE t.id = e.task_id
            RETURNING t.run_type, t.deps_pending
        )
        SELECT v_ready || ARRAY(SELECT DISTINCT run_type FROM moved WHERE deps_pending = 0) INTO v_ready;

        v_parents := ARRAY(
            SELECT DISTINCT parent_task_id FROM tasks
            WHERE id = ANY (v_ended) AND parent_task_id IS NOT NULL ORDER BY parent_task_id);
        v_ended := ARRAY(SELECT p FROM unnest(v_parents) p WHERE unitask.settle_parent(p));
    END LOOP;
    RETURN ARRAY(SELECT DISTINCT unnest(v_ready));
END $$;
