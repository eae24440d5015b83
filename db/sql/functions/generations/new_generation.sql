-- A new generation for a task's result, still without a variant; p_film and p_slot say whose part it is.
CREATE FUNCTION unitask.new_generation(p_task tasks, p_film uuid, p_slot uuid) RETURNS uuid
LANGUAGE plpgsql AS $$
DECLARE
    v_place jsonb := p_task.placement;
    v_source uuid;
    v_generation uuid;
BEGIN
    SELECT id INTO v_source FROM generations WHERE id = (v_place ->> 'based_on')::uuid FOR KEY SHARE;
    INSERT INTO generations (project_id, task_id, type, name, based_on, parent_generation_id, child_order,
                             pair_shot_generation_id)
    VALUES (p_task.project_id, p_task.id,
            coalesce(v_place ->> 'type', (SELECT content_type FROM task_types WHERE name = p_task.task_type)),
            v_place ->> 'name', v_source, p_film,
            CASE WHEN p_film IS NOT NULL THEN (v_place ->> 'child_order')::integer END, p_slot)
    RETURNING id INTO v_generation;
    RETURN v_generation;
END $$;
