-- Progress and preview of a running task, in a table of their own so that the task's row stays still.
-- Answers whether the lease is still good.
CREATE FUNCTION unitask.report_progress(
    p_task_id uuid, p_lease_id bigint, p_percent double precision, p_step integer, p_total_steps integer, p_message text,
    p_preview_key text
) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    -- The share lock keeps a cancel or a rescue from slipping in between this check and the write.
    PERFORM FROM tasks WHERE id = p_task_id AND lease_id = p_lease_id AND status = 'Processing' FOR SHARE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    INSERT INTO task_progress AS p (task_id, lease_id, percent, step, total_steps, message, preview_key)
    VALUES (p_task_id, p_lease_id, p_percent, p_step, p_total_steps, p_message, p_preview_key)
    ON CONFLICT (task_id) DO UPDATE
    SET lease_id = excluded.lease_id, percent = excluded.percent, step = excluded.step,
        total_steps = excluded.total_steps, message = excluded.message,
        preview_key = coalesce(excluded.preview_key, p.preview_key), updated_at = clock_timestamp();
    RETURN true;
END $$;
