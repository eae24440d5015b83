-- A person has looked at the provider for the jobs of a task whose outcome was unknown, and settles its hold: captured
-- as a completion would if the provider took them, released if not. Answers how many jobs that were.
CREATE FUNCTION unitask.settle_unknown_job(p_task_id uuid, p_paid boolean) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    v_task tasks;
    v_jobs integer;
BEGIN
    PERFORM unitask.lock_family(p_task_id);
    SELECT * INTO v_task FROM tasks WHERE id = p_task_id AND status IN ('Failed', 'Cancelled');
    -- Lost: it was paid for, and its result cannot be had. A retry submits anew after either.
    UPDATE provider_jobs
    SET state = CASE WHEN p_paid THEN 'lost' ELSE 'failed' END, error = 'settled by a person after: ' || error
    WHERE task_id = v_task.id AND life = v_task.retries AND state = 'unknown';
    GET DIAGNOSTICS v_jobs = ROW_COUNT;
    IF v_jobs = 0 THEN
        RAISE EXCEPTION 'task % has ended with no job whose outcome is unknown', p_task_id USING ERRCODE = 'UT003';
    END IF;
    PERFORM unitask.settle_credits(ARRAY[p_task_id], CASE WHEN p_paid THEN coalesce(unitask.cost_of(v_task), 0) END);
    RETURN v_jobs;
END $$;
