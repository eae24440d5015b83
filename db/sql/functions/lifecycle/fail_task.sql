-- A task could not be done: another try after a pause if that makes sense, else Failed with all consequences.
CREATE FUNCTION unitask.fail_task(
    p_task_id uuid, p_lease_id bigint, p_error_kind text, p_error_message text, p_retryable boolean,
    p_retry_after double precision DEFAULT NULL
) RETURNS text[]
LANGUAGE sql AS $$
    SELECT unitask.end_lease(
        unitask.require_lease(p_task_id, p_lease_id), p_error_kind, p_error_message, p_retryable, p_retry_after)
$$;
