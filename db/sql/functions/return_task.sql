-- A worker hands back a task that it did not finish (drain): claimable at once, and the attempt is not counted.
CREATE FUNCTION unitask.return_task(p_task_id uuid, p_lease_id bigint) RETURNS text[]
LANGUAGE plpgsql AS $$
DECLARE
    v_task tasks := unitask.require_lease(p_task_id, p_lease_id);
BEGIN
    UPDATE tasks
    SET status = 'Pending', leased_until = NULL, run_after = clock_timestamp(),
        attempt = greatest(0, attempt - CASE WHEN v_task.hosted AND EXISTS (
            SELECT FROM tasks c WHERE c.parent_task_id = v_task.id) THEN 0 ELSE 1 END)
    WHERE id = p_task_id;
    RETURN ARRAY[v_task.run_type];
END $$;
