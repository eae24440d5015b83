-- Bring a failed or cancelled task back to Pending with its attempts restored: with the parents above it, with what
-- below it did not complete, and with the siblings that failed only because of it.
CREATE FUNCTION unitask.retry_task(p_task_id uuid) RETURNS uuid[]
LANGUAGE plpgsql AS $$
DECLARE
    v_again uuid[];
BEGIN
    PERFORM unitask.lock_family(p_task_id);
    WITH RECURSIVE above AS (
        SELECT id, parent_task_id FROM tasks WHERE id = p_task_id
        UNION ALL
        SELECT t.id, t.parent_task_id FROM above JOIN tasks t ON t.id = above.parent_task_id
    ),
    touched AS (
        SELECT p_task_id AS id
        UNION
        SELECT n.id FROM touched CROSS JOIN LATERAL (
            SELECT t.id FROM tasks t WHERE t.parent_task_id = touched.id
            UNION ALL
            SELECT t.id FROM task_dependencies d JOIN tasks t ON t.id = d.task_id
            WHERE d.depends_on = touched.id AND t.error_kind = 'dependency'
        ) n
    )
    SELECT array_agg(t.id) INTO v_again FROM tasks t
    WHERE t.status IN ('Failed', 'Cancelled') AND t.id IN (SELECT id FROM above UNION SELECT id FROM touched);
    IF v_again IS NULL OR NOT p_task_id = ANY (v_again) THEN
        RAISE EXCEPTION 'task % is not Failed or Cancelled', p_task_id USING ERRCODE = 'UT003';
    END IF;

    PERFORM FROM tasks WHERE id = ANY (v_again) ORDER BY id FOR NO KEY UPDATE;
    PERFORM set_config('unitask.retrying', 'on', true);
    UPDATE tasks
    SET status = 'Pending', attempt = 0, retries = retries + 1, run_after = clock_timestamp(), finished_at = NULL,
        error_kind = NULL, error_message = NULL
    WHERE id = ANY (v_again);
    PERFORM set_config('unitask.retrying', '', true);

    UPDATE task_dependencies d SET settled = s.status = 'Complete'
    FROM tasks s WHERE s.id = d.depends_on AND d.task_id = ANY (v_again);
    UPDATE tasks t SET deps_pending = (
        SELECT count(*) FROM task_dependencies d WHERE d.task_id = t.id AND NOT d.settled)
    WHERE t.id = ANY (v_again);
    PERFORM unitask.hold_again(v_again);
    RETURN v_again;
END $$;
