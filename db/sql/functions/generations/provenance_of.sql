-- How a result was made, for as long as it is kept (its task may be gone by then): the task's type and parameters, and
-- what its execution said of itself besides the facts of the file.
-- A film is made by its orchestrator: its stitch knows nothing of prompts and images.
CREATE FUNCTION unitask.provenance_of(p_task tasks, p_result jsonb) RETURNS jsonb
LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object('task_type', t.task_type, 'params', t.params, 'result', coalesce(p_result, '{}') - 'media')
    FROM tasks t
    WHERE t.id = CASE WHEN p_task.placement ->> 'as' = 'variant' THEN coalesce(p_task.parent_task_id, p_task.id)
                      ELSE p_task.id END
$$;
