-- What tasks that have ended hold all the same, because nobody knows whether a provider did the work.
CREATE FUNCTION unitask.unsettled_holds()
RETURNS TABLE (user_id uuid, task_id uuid, life integer, amount numeric, held_at timestamptz, jobs jsonb)
LANGUAGE sql STABLE AS $$
    SELECT l.user_id, t.id, l.life, -l.amount, l.held_at, (
        SELECT jsonb_agg(jsonb_build_object('provider', j.provider, 'job_id', j.job_id, 'state', j.state) ORDER BY j.part)
        FROM provider_jobs j WHERE j.task_id = t.id AND j.life = l.life AND j.state IN ('submitting', 'unknown'))
    FROM tasks t JOIN credit_ledger l ON l.task_id = t.id AND l.kind = 'hold'
    WHERE (l.life < t.retries OR t.status IN ('Complete', 'Failed', 'Cancelled')) AND NOT EXISTS (
        SELECT FROM credit_ledger s WHERE s.task_id = t.id AND s.life = l.life AND s.kind IN ('capture', 'release'))
    ORDER BY l.held_at, t.id
$$;
