-- A deleted task takes its edges with it: whoever still waited for it is settled by the edge's policy, and a parent
-- that loses its last open child is settled too. Statement triggers, so that deleting a whole project meets no row
-- that is gone already.
CREATE FUNCTION unitask.on_dependency_deleted() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE
    v_edge record;
BEGIN
    FOR v_edge IN
        SELECT o.depends_on, o.policy, t.id FROM old_rows o JOIN tasks t ON t.id = o.task_id
        WHERE NOT o.settled AND t.status = 'Pending' ORDER BY t.id FOR NO KEY UPDATE OF t
    LOOP
        IF v_edge.policy = 'run_anyway' THEN
            UPDATE tasks SET deps_pending = deps_pending - 1 WHERE id = v_edge.id;
        ELSE
            UPDATE tasks
            SET status = 'Failed', finished_at = clock_timestamp(), error_kind = 'dependency',
                error_message = format('the task %s that it waited for was deleted', left(v_edge.depends_on::text, 8))
            WHERE id = v_edge.id AND status = 'Pending';
            PERFORM unitask.settle_credits(ARRAY[v_edge.id], NULL);
            PERFORM unitask.settle_dependants(ARRAY[v_edge.id]);
        END IF;
    END LOOP;
    RETURN NULL;
END $$;

CREATE TRIGGER on_dependency_deleted AFTER DELETE ON task_dependencies
    REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION unitask.on_dependency_deleted();

CREATE FUNCTION unitask.on_task_deleted() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE
    v_parent uuid;
BEGIN
    FOR v_parent IN
        SELECT DISTINCT o.parent_task_id FROM old_rows o JOIN tasks p ON p.id = o.parent_task_id
        WHERE o.status IN ('Pending', 'Processing') ORDER BY 1
    LOOP
        PERFORM unitask.lock_family(v_parent);
        IF unitask.settle_parent(v_parent) THEN
            PERFORM unitask.settle_dependants(ARRAY[v_parent]);
        END IF;
    END LOOP;
    RETURN NULL;
END $$;

CREATE TRIGGER on_task_deleted AFTER DELETE ON tasks
    REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION unitask.on_task_deleted();
