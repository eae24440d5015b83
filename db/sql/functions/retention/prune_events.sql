-- One step of pruning: of the p_limit oldest events, delete those older than p_age; answers how many went.
CREATE FUNCTION unitask.prune_events(p_age interval, p_limit integer) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    v_count integer;
BEGIN
    -- By the ids, which are nearly in the order of time, and have an index.
    DELETE FROM task_events
    WHERE id IN (SELECT id FROM task_events ORDER BY id LIMIT p_limit) AND created_at < now() - p_age;
    GET DIAGNOSTICS v_count = ROW_COUNT;
    RETURN v_count;
END $$;
