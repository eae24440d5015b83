-- The job at a provider that serves one part of a claimed task: the one that an earlier holder submitted, or a new one.
--
-- A part is submitted once. Only a job that is known to have ended without a result, or a person's retry of one that
-- was cancelled or whose outcome is unknown, makes way for a new one; its run, and with it its key, is the next number.
--
-- A new job needs room at the account that pays for it (provider_account.sql): fewer than p_concurrency jobs of tasks
-- under live leases (counted, never kept in a counter), fewer than p_per_minute submissions in the last minute, and no
-- pause. Without room `wait` says for how many seconds, and nothing is stored.
CREATE FUNCTION unitask.begin_provider_job(
    p_task_id unitask.given_id, p_lease_id unitask.lease_id, p_part unitask.tally, p_provider unitask.name, p_model unitask.name,
    p_concurrency unitask.given_count, p_per_minute unitask.given_count
)
RETURNS TABLE (id uuid, key text, provider text, account text, sealed_key text, model text, state text, job_id text,
               age double precision, fresh boolean, wait double precision)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_task tasks := unitask.require_lease(p_task_id, p_lease_id);
    v_job provider_jobs;
    v_account text;
    v_wait double precision;
BEGIN
    SELECT * INTO v_job FROM provider_jobs j WHERE j.task_id = p_task_id AND j.part = p_part ORDER BY j.run DESC LIMIT 1;
    IF v_job.id IS NOT NULL AND v_job.cancelling_at IS NULL
       AND (v_job.state IN ('submitting', 'running', 'succeeded') OR v_job.state = 'unknown' AND v_job.life = v_task.retries)
    THEN
        RETURN QUERY SELECT v_job.id, v_job.key, v_job.provider, v_job.account, unitask.provider_key(v_job.account),
            v_job.model, v_job.state, v_job.job_id,
            extract(epoch FROM clock_timestamp() - v_job.created_at)::double precision, false, 0::double precision;
        RETURN;
    END IF;

    v_account := unitask.provider_account(v_task.user_id, p_provider);
    -- Two claims would both count the same jobs otherwise.
    PERFORM unitask.lock_guard('provider ' || v_account);
    v_wait := unitask.provider_wait(v_account, p_concurrency, p_per_minute);
    IF v_wait > 0 THEN
        RETURN QUERY SELECT NULL::uuid, NULL, p_provider::text, v_account, NULL, p_model::text, NULL, NULL, 0::double precision,
            false, v_wait;
        RETURN;
    END IF;
    RETURN QUERY
        INSERT INTO provider_jobs AS j (task_id, part, run, key, life, provider, account, model, created_at)
        VALUES (p_task_id, p_part, coalesce(v_job.run, 0) + 1,
                format('%s.%s.%s', p_task_id, p_part, coalesce(v_job.run, 0) + 1), v_task.retries, p_provider, v_account,
                p_model, clock_timestamp())
        RETURNING j.id, j.key, j.provider, j.account, unitask.provider_key(j.account), j.model, j.state, j.job_id,
                  0::double precision, true, 0::double precision;
END $$;
