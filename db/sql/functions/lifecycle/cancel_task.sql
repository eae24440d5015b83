-- Cancel a task and everything below it that has not ended. Answers the ids that were cancelled.
-- A worker that holds one of them learns it with its next heartbeat or progress report.
CREATE FUNCTION unitask.cancel_task(p_task_id unitask.given_id, p_reason unitask.message) RETURNS uuid[]
LANGUAGE sql AS $$
    SELECT unitask.cancel_trees(ARRAY[p_task_id]::uuid[], p_reason)
$$;
