-- Jobs that still run for tasks that have ended or are gone, for the caller to cancel at their providers.
-- Each is given out again only after p_again_seconds, so that several workers share them.
CREATE FUNCTION unitask.unwanted_provider_jobs(p_limit integer, p_again_seconds double precision)
RETURNS SETOF provider_jobs
LANGUAGE sql AS $$
    UPDATE provider_jobs SET cancelling_at = clock_timestamp()
    WHERE id IN (
        SELECT j.id FROM provider_jobs j LEFT JOIN tasks t ON t.id = j.task_id
        WHERE j.ended_at IS NULL AND coalesce(t.status, 'Cancelled') IN ('Complete', 'Failed', 'Cancelled')
          AND coalesce(j.cancelling_at < clock_timestamp() - make_interval(secs => p_again_seconds), true)
          -- Its submission may still be under way at a worker that has not heard of the end.
          AND (j.job_id IS NOT NULL OR j.created_at < clock_timestamp() - make_interval(secs => 4 * p_again_seconds))
        ORDER BY j.created_at LIMIT p_limit FOR UPDATE OF j SKIP LOCKED)
    RETURNING *
$$;
