-- Refuse every move that the life of a task does not have.
CREATE FUNCTION unitask.guard_task_status() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE
    v_allowed boolean;
BEGIN
    v_allowed := CASE OLD.status || '>' || NEW.status
        WHEN 'Pending>Processing' THEN OLD.deps_pending = 0
        WHEN 'Pending>Cancelled' THEN true
        WHEN 'Processing>Complete' THEN true
        WHEN 'Processing>Failed' THEN true
        WHEN 'Processing>Cancelled' THEN true
        WHEN 'Processing>Pending' THEN true
        -- Nobody holds the task: only its dependencies or its planted children can decide it.
        WHEN 'Pending>Failed' THEN
            EXISTS (SELECT FROM task_dependencies WHERE task_id = NEW.id)
            OR EXISTS (SELECT FROM tasks WHERE parent_task_id = NEW.id)
            OR NEW.error_kind = 'dependency'
        WHEN 'Pending>Complete' THEN EXISTS (SELECT FROM tasks WHERE parent_task_id = NEW.id)
        WHEN 'Failed>Pending' THEN current_setting('unitask.retrying', true) = 'on'
        WHEN 'Cancelled>Pending' THEN current_setting('unitask.retrying', true) = 'on'
        ELSE false
    END;
    IF v_allowed IS NOT TRUE THEN
        RAISE EXCEPTION 'task % cannot go from % to %', NEW.id, OLD.status, NEW.status USING ERRCODE = 'UT003';
    END IF;
    IF NEW.lease_id < OLD.lease_id THEN
        RAISE EXCEPTION 'the lease of task % cannot be lowered', NEW.id USING ERRCODE = 'UT003';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER guard_task_status BEFORE UPDATE OF status ON tasks
    FOR EACH ROW WHEN (OLD.status <> NEW.status) EXECUTE FUNCTION unitask.guard_task_status();
