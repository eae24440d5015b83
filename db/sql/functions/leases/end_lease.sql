-- A lease ends without a result: back to Pending after a pause if there is another try, else Failed for good.
-- Answers the run types that became claimable. The caller holds the family's locks and has checked the lease.
CREATE FUNCTION unitask.end_lease(
    p_task tasks, p_error_kind text, p_error_message text, p_retryable boolean, p_retry_after double precision
) RETURNS text[]
LANGUAGE plpgsql AS $$
DECLARE
    v_planted boolean := p_task.hosted AND EXISTS (SELECT FROM tasks WHERE parent_task_id = p_task.id);
BEGIN
    -- A parent whose children are planted only lost its host: the children decide how it ends.
    IF v_planted OR p_retryable AND p_task.attempt < p_task.max_attempts THEN
        UPDATE tasks
        SET status = 'Pending', leased_until = NULL, error_kind = p_error_kind, error_message = p_error_message,
            -- 2, 4, 8 ... 300 seconds, half of it random, or what a provider asks for and up to a fifth more: a burst of
            -- failures must not come back as one.
            run_after = CASE WHEN v_planted THEN clock_timestamp() ELSE clock_timestamp() + make_interval(secs =>
                coalesce(p_retry_after * (1 + random() / 5),
                         least(300, 2 ^ least(p_task.attempt, 10)) * (0.5 + random() / 2))) END
        WHERE id = p_task.id;
        RETURN ARRAY[p_task.run_type];
    END IF;
    UPDATE tasks
    SET status = 'Failed', leased_until = NULL, finished_at = clock_timestamp(),
        error_kind = p_error_kind, error_message = p_error_message
    WHERE id = p_task.id;
    PERFORM unitask.settle_credits(ARRAY[p_task.id], NULL);
    RETURN unitask.settle_dependants(ARRAY[p_task.id]);
END $$;
