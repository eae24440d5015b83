-- For how many seconds an account takes no new job: 0 when there is room now.
CREATE FUNCTION unitask.provider_wait(p_account unitask.account, p_concurrency unitask.given_count, p_per_minute unitask.given_count)
RETURNS double precision
LANGUAGE sql AS $$
    SELECT greatest(
        0,
        (SELECT extract(epoch FROM p.paused_until - clock_timestamp()) FROM provider_pauses p
         WHERE p.account = p_account),
        -- The oldest of the last p_per_minute submissions leaves the minute first.
        (SELECT 60 - extract(epoch FROM clock_timestamp() - j.created_at) FROM provider_jobs j
         WHERE j.account = p_account AND j.created_at > clock_timestamp() - interval '1 minute'
         ORDER BY j.created_at DESC OFFSET p_per_minute - 1 LIMIT 1),
        CASE WHEN (SELECT count(*) FROM provider_jobs j JOIN tasks t ON t.id = j.task_id
                   WHERE j.account = p_account AND j.ended_at IS NULL
                     AND t.status = 'Processing' AND t.leased_until > clock_timestamp()) >= p_concurrency
             THEN 1 ELSE 0 END
    )::double precision
$$;
