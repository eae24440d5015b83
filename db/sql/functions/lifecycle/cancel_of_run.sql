-- Cancel what a flow run of Prefect's has made or shows, since that run was cancelled. Answers the ids that were
-- cancelled. A task that was brought back since then, in the last p_seconds, stays.
CREATE FUNCTION unitask.cancel_of_run(p_flow_run_id unitask.given_id, p_reason unitask.message, p_seconds unitask.seconds DEFAULT 0)
RETURNS uuid[]
LANGUAGE plpgsql AS $$
DECLARE
    v_id uuid;
    v_cancelled uuid[] := '{}';
BEGIN
    FOR v_id IN
        SELECT id FROM tasks
        WHERE (flow_run_id = p_flow_run_id OR made_by_run_id = p_flow_run_id)
          AND status IN ('Pending', 'Processing')
          AND (retried_at IS NULL OR retried_at < clock_timestamp() - make_interval(secs => p_seconds))
        ORDER BY id
    LOOP
        v_cancelled := v_cancelled || unitask.cancel_task(v_id, p_reason);
    END LOOP;
    RETURN v_cancelled;
END $$;
