-- Bring a failed or cancelled task back to Pending with its attempts restored: with the parents above it, with what
-- below it did not complete, and with the siblings that failed only because of it. The task itself is claimable
-- in p_after seconds, by its id at once.
CREATE FUNCTION unitask.retry_task(
    p_task_id unitask.given_id, p_enforce_credits boolean DEFAULT false, p_after unitask.seconds DEFAULT 0
) RETURNS uuid[]
LANGUAGE plpgsql AS $$
DECLARE
    v_again uuid[];
    v_stuck uuid[];
BEGIN
    PERFORM unitask.lock_family(p_task_id);
    WITH RECURSIVE above AS (
        SELECT id, parent_task_id FROM tasks WHERE id = p_task_id
        UNION ALL
        SELECT t.id, t.parent_task_id FROM above JOIN tasks t ON t.id = above.parent_task_id
    ),
    touched AS (
        SELECT p_task_id::uuid AS id
        UNION
        SELECT n.id FROM touched CROSS JOIN LATERAL (
            SELECT t.id FROM tasks t WHERE t.parent_task_id = touched.id
            UNION ALL
            SELECT t.id FROM task_dependencies d JOIN tasks t ON t.id = d.task_id
            WHERE d.depends_on = touched.id AND t.error_kind = 'dependency'
        ) n
    )
    SELECT array_agg(id) INTO v_again FROM (SELECT id FROM above UNION SELECT id FROM touched) t;

    -- The dependencies too: one that ends at this moment has ended before this lock and is seen so below, or waits for
    -- our commit and then finds its dependants pending.
    PERFORM FROM tasks WHERE id = ANY (v_again) AND status IN ('Failed', 'Cancelled') ORDER BY id FOR NO KEY UPDATE;
    PERFORM FROM tasks WHERE id IN (SELECT depends_on FROM task_dependencies WHERE task_id = ANY (v_again))
    ORDER BY id FOR SHARE;
    -- Read again under the locks: another retry may have brought some of them back meanwhile.
    v_again := ARRAY(SELECT id FROM tasks WHERE id = ANY (v_again) AND status IN ('Failed', 'Cancelled'));
    IF p_task_id <> ALL (v_again) THEN
        RAISE EXCEPTION 'task % is not Failed or Cancelled', p_task_id USING ERRCODE = 'UT003';
    END IF;

    LOOP
        -- What waits for something else that failed would wait for ever: it stays as it is.
        SELECT array_agg(d.task_id) INTO v_stuck
        FROM task_dependencies d JOIN tasks s ON s.id = d.depends_on
        WHERE d.task_id = ANY (v_again) AND d.policy = 'fail' AND s.status IN ('Failed', 'Cancelled')
          AND s.id <> ALL (v_again);
        EXIT WHEN v_stuck IS NULL;
        IF p_task_id = ANY (v_stuck) THEN
            RAISE EXCEPTION 'task % waits for a task that did not complete; retry task %', p_task_id, (
                SELECT s.id FROM task_dependencies d JOIN tasks s ON s.id = d.depends_on
                WHERE d.task_id = p_task_id AND d.policy = 'fail' AND s.status IN ('Failed', 'Cancelled') LIMIT 1)
                USING ERRCODE = 'UT003';
        END IF;
        v_again := ARRAY(SELECT unnest(v_again) EXCEPT SELECT unnest(v_stuck));
    END LOOP;

    PERFORM set_config('unitask.retrying', 'on', true);
    UPDATE tasks
    SET status = 'Pending', attempt = 0, retries = retries + 1, retried_at = clock_timestamp(), finished_at = NULL,
        run_after = clock_timestamp() + make_interval(secs => CASE WHEN id = p_task_id THEN coalesce(p_after, 0) ELSE 0 END),
        error_kind = NULL, error_message = NULL
    WHERE id = ANY (v_again);
    PERFORM set_config('unitask.retrying', '', true);

    UPDATE task_dependencies d
    SET settled = s.status = 'Complete' OR s.status IN ('Failed', 'Cancelled') AND d.policy = 'run_anyway'
    FROM tasks s WHERE s.id = d.depends_on AND d.task_id = ANY (v_again);
    UPDATE tasks t SET deps_pending = (
        SELECT count(*) FROM task_dependencies d WHERE d.task_id = t.id AND NOT d.settled)
    WHERE t.id = ANY (v_again);
    PERFORM unitask.rehold_credits(v_again, p_enforce_credits);
    RETURN v_again;
END $$;
