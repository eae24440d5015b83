-- The task of a user that goes next, locked for the caller; null when none is free. What another claim has locked is
-- stepped over and not waited for, so a claim comes back empty only when there is nothing.
--
-- In the order of queue_time: age, where one point of priority is worth a minute. A task whose model is loaded
-- (p_models) goes ahead of the p_look_ahead that wait longest; but the first of them is passed over at most
-- p_look_ahead times in a row, so no model starves another.
CREATE FUNCTION unitask.next_task(
    p_run_type text, p_hosted boolean, p_user_id uuid, p_models text[], p_look_ahead integer, p_task_id uuid,
    p_without text[] DEFAULT '{}', p_types text[] DEFAULT NULL
) RETURNS uuid
LANGUAGE plpgsql AS $$
DECLARE
    v_first record;
    v_id uuid;
BEGIN
    IF p_task_id IS NOT NULL THEN
        SELECT t.id INTO v_id FROM tasks t
        WHERE t.id = p_task_id AND t.status = 'Pending' AND t.deps_pending = 0
        FOR NO KEY UPDATE SKIP LOCKED;
        RETURN v_id;
    END IF;

    IF cardinality(p_models) > 0 THEN
        SELECT t.id, t.passed_over, t.model = ANY (p_models) AS warm INTO v_first FROM tasks t
        WHERE t.status = 'Pending' AND t.deps_pending = 0 AND t.run_type = p_run_type AND t.hosted = p_hosted
          AND t.user_id = p_user_id AND t.run_after <= clock_timestamp() AND t.task_type <> ALL (p_without)
          AND (p_types IS NULL OR t.task_type = ANY (p_types))
        ORDER BY t.queue_time, t.id LIMIT 1;

        IF v_first.warm IS NOT TRUE AND v_first.passed_over < p_look_ahead THEN
            SELECT t.id INTO v_id FROM tasks t
            WHERE t.id IN (
                SELECT a.id FROM tasks a
                WHERE a.status = 'Pending' AND a.deps_pending = 0 AND a.run_type = p_run_type AND a.hosted = p_hosted
                  AND a.user_id = p_user_id AND a.run_after <= clock_timestamp() AND a.task_type <> ALL (p_without)
                  AND (p_types IS NULL OR a.task_type = ANY (p_types))
                ORDER BY a.queue_time, a.id LIMIT p_look_ahead + 1
            ) AND t.status = 'Pending' AND t.deps_pending = 0 AND t.model = ANY (p_models)
            ORDER BY t.queue_time, t.id LIMIT 1
            FOR NO KEY UPDATE SKIP LOCKED;
        END IF;
        IF v_id IS NOT NULL THEN
            UPDATE tasks SET passed_over = passed_over + 1
            WHERE id = (SELECT t.id FROM tasks t WHERE t.id = v_first.id FOR NO KEY UPDATE SKIP LOCKED);
        END IF;
    END IF;

    IF v_id IS NULL THEN
        SELECT t.id INTO v_id FROM tasks t
        WHERE t.status = 'Pending' AND t.deps_pending = 0 AND t.run_type = p_run_type AND t.hosted = p_hosted
          AND t.user_id = p_user_id AND t.run_after <= clock_timestamp() AND t.task_type <> ALL (p_without)
          AND (p_types IS NULL OR t.task_type = ANY (p_types))
        ORDER BY t.queue_time, t.id LIMIT 1
        FOR NO KEY UPDATE SKIP LOCKED;
    END IF;
    RETURN v_id;
END $$;
