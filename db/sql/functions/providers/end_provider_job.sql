-- How a job at a provider ended, as the provider said. An end stands and only gets what it lacked (its cost, its time);
-- but an unknown one becomes known, and the result of a job that succeeded may turn out to be lost.
-- A task that ended, or was retried, before its job's outcome was known gets the credits of that life settled now.
CREATE FUNCTION unitask.end_provider_job(
    p_id unitask.given_id, p_state unitask.job_end, p_error unitask.message DEFAULT NULL, p_seconds unitask.seconds DEFAULT NULL,
    p_cost unitask.dollars DEFAULT NULL
) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_job provider_jobs;
BEGIN
    UPDATE provider_jobs
    SET state = CASE WHEN ended_at IS NULL OR state = 'unknown' OR p_state = 'lost' THEN p_state ELSE state END,
        error = coalesce(error, p_error), ended_at = coalesce(ended_at, clock_timestamp()),
        seconds = coalesce(seconds, p_seconds), cost = coalesce(cost, p_cost::numeric)
    WHERE id = p_id
    RETURNING * INTO v_job;
    PERFORM unitask.settle_credits(ARRAY[t.id], NULL, v_job.life) FROM tasks t
    WHERE t.id = v_job.task_id AND (t.retries > v_job.life OR t.status IN ('Failed', 'Cancelled'));
END $$;
