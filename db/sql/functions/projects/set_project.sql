-- Change what is given of a project, and keep what is null.
CREATE FUNCTION unitask.set_project(p_project_id unitask.given_id, p_name unitask.title, p_aspect_ratio unitask.title) RETURNS SETOF projects
LANGUAGE plpgsql AS $$
DECLARE
    v_user_id uuid;
BEGIN
    SELECT user_id INTO v_user_id FROM projects WHERE id = p_project_id;
    PERFORM FROM users WHERE id = v_user_id FOR NO KEY UPDATE;
    PERFORM unitask.require_free_name(v_user_id, p_project_id, p_name);
    RETURN QUERY UPDATE projects
        SET name = coalesce(p_name, name), aspect_ratio = coalesce(p_aspect_ratio, aspect_ratio)
        WHERE id = p_project_id RETURNING *;
END $$;
