-- What a task that ends because of another says: the first cause, carried along unchanged.
CREATE FUNCTION unitask.failure_cause(p_task tasks) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE
        WHEN p_task.error_kind = 'dependency' THEN p_task.error_message
        ELSE format('%s %s %s: %s', p_task.task_type, left(p_task.id::text, 8), lower(p_task.status),
                    coalesce(p_task.error_message, 'no reason was given'))
    END
$$;
