-- A task that is deleted before its end gives back what it holds, while its row can still be told from the ledger.
CREATE FUNCTION unitask.on_task_deleting() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM unitask.release_holds(OLD.id, true);
    RETURN OLD;
END $$;

CREATE TRIGGER on_task_deleting BEFORE DELETE ON tasks
    FOR EACH ROW EXECUTE FUNCTION unitask.on_task_deleting();
