-- Tasks and all below them.
CREATE FUNCTION unitask.tree_of(p_task_ids uuid[]) RETURNS uuid[]
LANGUAGE sql STABLE AS $$
    WITH RECURSIVE tree AS (
        SELECT unnest(p_task_ids) AS id
        UNION ALL
        SELECT t.id FROM tree JOIN tasks t ON t.parent_task_id = tree.id
    )
    SELECT coalesce(array_agg(id), '{}') FROM tree
$$;
