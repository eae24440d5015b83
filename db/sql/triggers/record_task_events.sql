-- Every creation and every move of a task becomes a row of task_events, in the transaction that made it.
-- Statement triggers: a batch of thousands costs one insert.
CREATE FUNCTION unitask.event_data(p_task tasks) RETURNS jsonb
LANGUAGE sql STABLE AS $$
    SELECT jsonb_strip_nulls(jsonb_build_object(
        'task_type', p_task.task_type, 'status', p_task.status, 'parent_task_id', p_task.parent_task_id,
        'child_key', p_task.child_key, 'attempt', p_task.attempt, 'worker_id', p_task.worker_id,
        'output_location', p_task.output_location, 'error_kind', p_task.error_kind,
        'error_message', p_task.error_message))
$$;

CREATE FUNCTION unitask.record_task_created() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO task_events (project_id, task_id, kind, data)
    SELECT n.project_id, n.id, 'created', unitask.event_data(n::tasks) FROM new_rows n ORDER BY n.created_at;
    RETURN NULL;
END $$;

-- Without nested loops: the plan is kept for the session, and may have been made when a statement moved one task; a
-- statement that moves thousands would then compare each of them with each.
CREATE FUNCTION unitask.record_task_moved() RETURNS trigger
LANGUAGE plpgsql SET enable_nestloop = off AS $$
BEGIN
    INSERT INTO task_events (project_id, task_id, kind, data)
    SELECT n.project_id, n.id, lower(n.status), unitask.event_data(n::tasks)
    FROM new_rows n JOIN old_rows o USING (id) WHERE n.status <> o.status;
    RETURN NULL;
END $$;

CREATE TRIGGER record_task_created AFTER INSERT ON tasks
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION unitask.record_task_created();
CREATE TRIGGER record_task_moved AFTER UPDATE ON tasks
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION unitask.record_task_moved();
