-- Insert the children of an orchestrator, all at once and once: a second host of the same parent adopts them.
-- The parent's hold passes to its children in the same transaction.
CREATE FUNCTION unitask.plant_children(p_task_id uuid, p_lease_id bigint, p_rows jsonb)
RETURNS TABLE (index integer, task_id uuid, status text, run_type text, created boolean)
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM unitask.require_lease(p_task_id, p_lease_id);
    PERFORM unitask.settle_credits(p_task_id, NULL);
    RETURN QUERY SELECT * FROM unitask.create_tasks(p_rows);
END $$;
