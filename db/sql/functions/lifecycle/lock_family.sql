-- Lock a task and all its ancestors, from the root down.
--
-- Every function that ends a task takes its locks in this order, so that two members of one tree that end at once
-- wait for each other instead of dead-locking (cancel walks down, settlement walks up).
CREATE FUNCTION unitask.lock_family(p_task_id uuid) RETURNS void
LANGUAGE sql AS $$
    WITH RECURSIVE family AS (
        -- parent_task_id never changes, so reading it before the lock is safe.
        SELECT id, parent_task_id, 0 AS depth FROM tasks WHERE id = p_task_id
        UNION ALL
        SELECT t.id, t.parent_task_id, f.depth + 1 FROM family f JOIN tasks t ON t.id = f.parent_task_id
    ),
    locked AS (
        SELECT t.id FROM family f JOIN tasks t USING (id) ORDER BY f.depth DESC FOR NO KEY UPDATE OF t
    )
    SELECT FROM locked
$$;
