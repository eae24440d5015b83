-- Cancel a task as the worker that holds it: a person has cancelled its run where the worker looks. Answers the ids that
-- were cancelled.
CREATE FUNCTION unitask.cancel_held(p_task_id unitask.given_id, p_lease_id unitask.lease_id, p_reason unitask.message) RETURNS uuid[]
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM unitask.require_lease(p_task_id, p_lease_id);
    RETURN unitask.cancel_task(p_task_id, p_reason);
END $$;
