-- Jobs that still run for tasks that have ended or are gone, for the caller to cancel at their providers: of the
-- providers that it has a key for (p_providers), and of users who have given theirs.
-- Each is given out again only after p_again_seconds, so that several workers share them.
CREATE FUNCTION unitask.unwanted_provider_jobs(p_limit unitask.row_limit, p_again_seconds unitask.seconds, p_providers unitask.names)
RETURNS TABLE (id uuid, provider text, account text, sealed_key text, model text, job_id text)
LANGUAGE sql AS $$
    UPDATE provider_jobs p SET cancelling_at = clock_timestamp()
    WHERE p.id IN (
        SELECT j.id FROM provider_jobs j LEFT JOIN tasks t ON t.id = j.task_id
        WHERE j.ended_at IS NULL AND coalesce(t.status, 'Cancelled') IN ('Complete', 'Failed', 'Cancelled')
          AND (j.account = ANY (p_providers) OR unitask.provider_key(j.account) IS NOT NULL)
          AND coalesce(j.cancelling_at < clock_timestamp() - make_interval(secs => p_again_seconds), true)
          -- Its submission may still be under way at a worker that has not heard of the end.
          AND (j.job_id IS NOT NULL OR j.created_at < clock_timestamp() - make_interval(secs => 4 * p_again_seconds))
        -- Those that nobody has tried yet first: some that cannot be cancelled must not keep the others from it.
        ORDER BY j.cancelling_at NULLS FIRST, j.created_at LIMIT p_limit FOR UPDATE OF j SKIP LOCKED)
    RETURNING p.id, p.provider, p.account, unitask.provider_key(p.account), p.model, p.job_id
$$;
