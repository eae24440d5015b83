-- A task is done: status, generations and variants, credits, dependants, parent, all in this one transaction.
-- To complete the same lease again changes nothing and answers the same.
CREATE FUNCTION unitask.complete_task(
    p_task_id unitask.given_id, p_lease_id unitask.lease_id, p_output_location unitask.location, p_result unitask.object, p_cost unitask.amount DEFAULT NULL
) RETURNS text[]
LANGUAGE plpgsql AS $$
DECLARE
    v_task tasks;
    v_cost numeric;
    v_ready text[];
BEGIN
    -- Under the lock: a completion is repeated when its answer was lost, and that may be before the first one's commit.
    PERFORM unitask.lock_family(p_task_id);
    PERFORM FROM tasks WHERE id = p_task_id AND status = 'Complete' AND lease_id = p_lease_id;
    IF FOUND THEN
        RETURN '{}';
    END IF;
    v_task := unitask.require_lease(p_task_id, p_lease_id);
    PERFORM unitask.require_own_location(v_task.project_id, p_output_location);
    v_cost := unitask.cost_of(v_task, p_cost);
    UPDATE tasks
    SET status = 'Complete', leased_until = NULL, finished_at = clock_timestamp(), output_location = p_output_location,
        result = p_result, cost = v_cost, error_kind = NULL, error_message = NULL
    WHERE id = p_task_id;
    PERFORM unitask.place_output(v_task, p_output_location, p_result);
    PERFORM unitask.settle_credits(ARRAY[v_task.id], v_cost);
    v_ready := unitask.settle_dependants(ARRAY[v_task.id]);
    IF v_task.parent_task_id IS NOT NULL THEN
        PERFORM unitask.report_parent(v_task.parent_task_id, 0);
    END IF;
    RETURN v_ready;
END $$;
