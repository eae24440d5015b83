-- Lock a task and all its ancestors, from the root down.
--
-- Every function that ends a task takes its locks in this order, so that two members of one tree that end at once
-- wait for each other instead of dead-locking (cancel walks down, settlement walks up).
--
-- No sequential scans, as in cancel_trees.
CREATE FUNCTION unitask.lock_family(p_task_id uuid) RETURNS void
LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    v_family uuid[] := '{}';
    v_id uuid := p_task_id;
BEGIN
    WHILE v_id IS NOT NULL LOOP
        v_family := v_id || v_family;
        -- parent_task_id never changes, so reading it before the lock is safe.
        SELECT parent_task_id INTO v_id FROM tasks WHERE id = v_id;
    END LOOP;
    FOREACH v_id IN ARRAY v_family LOOP
        PERFORM FROM tasks WHERE id = v_id FOR NO KEY UPDATE;
    END LOOP;
END $$;
