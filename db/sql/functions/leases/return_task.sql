-- A worker hands back a task that it did not finish: claimable at once (drain), or in p_after seconds when there was no
-- room for it elsewhere. The attempt is not counted.
CREATE FUNCTION unitask.return_task(p_task_id unitask.given_id, p_lease_id unitask.lease_id, p_after unitask.seconds DEFAULT 0)
RETURNS text[]
LANGUAGE plpgsql AS $$
DECLARE
    v_task tasks := unitask.require_lease(p_task_id, p_lease_id);
BEGIN
    UPDATE tasks
    SET status = 'Pending', leased_until = NULL, run_after = clock_timestamp() + make_interval(secs => coalesce(p_after, 0)),
        attempt = greatest(0, attempt - CASE WHEN v_task.hosted AND EXISTS (
            SELECT FROM tasks c WHERE c.parent_task_id = v_task.id) THEN 0 ELSE 1 END)
    WHERE id = p_task_id;
    RETURN ARRAY[v_task.run_type];
END $$;
