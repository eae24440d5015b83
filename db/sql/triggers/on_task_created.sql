-- A row inserted by plain SQL gets from its type what create_tasks would have given it; an unknown type runs on gpu.
-- The batch path brings run_type along, so the trigger costs it nothing.
CREATE FUNCTION unitask.on_task_created() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    SELECT t.run_type, coalesce(t.declared ->> 'category', t.category) = 'orchestration', t.max_attempts INTO NEW.run_type, NEW.hosted, NEW.max_attempts
    FROM task_types t WHERE t.name = NEW.task_type;
    NEW.run_type := coalesce(NEW.run_type, 'gpu');
    NEW.hosted := coalesce(NEW.hosted, false);
    NEW.max_attempts := coalesce(NEW.max_attempts, 3);
    NEW.user_id := coalesce(NEW.user_id, (SELECT p.user_id FROM projects p WHERE p.id = NEW.project_id));
    RETURN NEW;
END $$;

CREATE TRIGGER on_task_created BEFORE INSERT ON tasks
    FOR EACH ROW WHEN (NEW.run_type IS NULL) EXECUTE FUNCTION unitask.on_task_created();
