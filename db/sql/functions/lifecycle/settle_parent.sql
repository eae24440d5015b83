-- End a parent whose children have all ended. Answers whether it did.
--
-- The film is the output of the child that no sibling waits for.
CREATE FUNCTION unitask.settle_parent(p_task_id uuid) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    v_parent tasks;
    v_cause tasks;
    v_last tasks;
BEGIN
    -- The last two children that end at once: the second waits here and then sees the first as ended.
    SELECT * INTO v_parent FROM tasks WHERE id = p_task_id FOR NO KEY UPDATE;
    IF v_parent.id IS NULL OR v_parent.status NOT IN ('Pending', 'Processing')
       OR NOT EXISTS (SELECT FROM tasks WHERE parent_task_id = p_task_id)
       OR EXISTS (SELECT FROM tasks WHERE parent_task_id = p_task_id AND status IN ('Pending', 'Processing')) THEN
        RETURN false;
    END IF;

    -- The cause before its consequences, the earliest first.
    SELECT * INTO v_cause FROM tasks
    WHERE parent_task_id = p_task_id AND status IN ('Failed', 'Cancelled')
    ORDER BY status = 'Cancelled', error_kind = 'dependency', finished_at LIMIT 1;

    SELECT * INTO v_last FROM tasks t
    WHERE t.parent_task_id = p_task_id AND NOT EXISTS (
        SELECT FROM task_dependencies d
        WHERE d.depends_on = t.id
          AND (SELECT s.parent_task_id FROM tasks s WHERE s.id = d.task_id) = p_task_id)
    ORDER BY t.created_at DESC LIMIT 1;

    UPDATE tasks
    SET status = coalesce(v_cause.status, 'Complete'), finished_at = clock_timestamp(), leased_until = NULL,
        error_kind = v_cause.error_kind, error_message = CASE WHEN v_cause.id IS NOT NULL THEN unitask.failure_cause(v_cause) END,
        output_location = CASE WHEN v_cause.id IS NULL THEN v_last.output_location END,
        result = CASE WHEN v_cause.id IS NULL THEN v_last.result END,
        cost = (SELECT sum(cost) FROM tasks WHERE parent_task_id = p_task_id)
    WHERE id = p_task_id;
    PERFORM unitask.settle_credits(ARRAY[p_task_id], NULL);
    RETURN true;
END $$;
