-- A task could not be done: another try after a pause if that makes sense, else Failed with all consequences.
CREATE FUNCTION unitask.fail_task(
    p_task_id unitask.given_id, p_lease_id unitask.lease_id, p_error_kind unitask.name, p_error_message unitask.message, p_retryable boolean,
    p_retry_after unitask.seconds DEFAULT NULL
) RETURNS text[]
LANGUAGE sql AS $$
    SELECT unitask.end_lease(
        unitask.require_lease(p_task_id, p_lease_id), p_error_kind, p_error_message, p_retryable, p_retry_after)
$$;
