-- Lock a task's family and refuse whoever does not hold the task's newest lease.
CREATE FUNCTION unitask.require_lease(p_task_id uuid, p_lease_id bigint) RETURNS tasks
LANGUAGE plpgsql AS $$
DECLARE
    v_task tasks;
BEGIN
    PERFORM unitask.lock_family(p_task_id);
    SELECT * INTO v_task FROM tasks WHERE id = p_task_id;
    IF v_task.id IS NULL THEN
        RAISE EXCEPTION 'there is no task %', p_task_id USING ERRCODE = 'UT002';
    END IF;
    IF v_task.status <> 'Processing' OR v_task.lease_id IS DISTINCT FROM p_lease_id THEN
        RAISE EXCEPTION 'lease % of task % is over: the task is % under lease %',
            p_lease_id, p_task_id, v_task.status, v_task.lease_id USING ERRCODE = 'UT001';
    END IF;
    RETURN v_task;
END $$;
