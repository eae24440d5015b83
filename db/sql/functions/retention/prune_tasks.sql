-- One step of pruning: delete up to p_limit trees of tasks that ended longer than p_age ago; answers how many tasks went.
--
-- Generations keep what they need (file, facts, how they were made), and the ledger keeps every amount, with the type and
-- the id of the task that it was for. A placeholder that nothing will fill any more goes with its task.
CREATE FUNCTION unitask.prune_tasks(p_age interval, p_limit integer) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    v_tree uuid[];
BEGIN
    -- The tops first, as lock_family; one that somebody is retrying at this moment is left for another time.
    v_tree := unitask.tree_of(ARRAY(
        SELECT id FROM tasks WHERE id IN (SELECT unitask.prunable_tasks(p_age, p_limit)) FOR UPDATE SKIP LOCKED));
    PERFORM FROM tasks WHERE id = ANY (v_tree) ORDER BY id FOR UPDATE;
    -- Asked again under the locks: a task may have been created meanwhile that waits for one of them.
    v_tree := unitask.tree_of(ARRAY(SELECT unitask.prunable_tasks(p_age, p_limit, v_tree)));

    UPDATE credit_ledger l
    SET details = l.details || jsonb_build_object('task_id', t.id, 'task_type', t.task_type)
    FROM tasks t WHERE t.id = l.task_id AND t.id = ANY (v_tree);
    DELETE FROM generations g
    WHERE g.task_id = ANY (v_tree) AND g.location IS NULL
      AND NOT EXISTS (SELECT FROM generations c WHERE c.parent_generation_id = g.id);
    DELETE FROM provider_jobs WHERE task_id = ANY (v_tree) AND ended_at IS NOT NULL;
    DELETE FROM tasks WHERE id = ANY (v_tree);
    RETURN cardinality(v_tree);
END $$;
