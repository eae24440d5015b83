-- Bring back the task that a flow run of Prefect's shows, since that run was asked to try again. Answers the task as it
-- is now, and whether it has been at work for a while already; nothing if the run shows no task.
CREATE FUNCTION unitask.retry_of_run(p_flow_run_id unitask.given_id, p_enforce_credits boolean DEFAULT false)
RETURNS TABLE (task_id uuid, status text, error_message text, at_work boolean)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_id uuid;
BEGIN
    SELECT id INTO v_id FROM tasks WHERE flow_run_id = p_flow_run_id AND hosted ORDER BY created_at LIMIT 1;
    PERFORM unitask.lock_family(v_id);
    -- Read under the lock: of two that look at once the second finds it brought back.
    IF EXISTS (SELECT FROM tasks WHERE id = v_id AND status IN ('Failed', 'Cancelled')) THEN
        PERFORM unitask.retry_task(v_id, p_enforce_credits);
    END IF;
    RETURN QUERY SELECT id, status, error_message,
        status = 'Processing' AND claimed_at < clock_timestamp() - interval '5 seconds' FROM tasks WHERE id = v_id;
END $$;
