-- Make a shot at the end of a project.
CREATE FUNCTION unitask.create_shot(p_project_id unitask.given_id, p_name unitask.name) RETURNS SETOF shots
LANGUAGE plpgsql AS $$
BEGIN
    -- Two at once would get one place.
    PERFORM FROM projects WHERE id = p_project_id FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no project %', p_project_id USING ERRCODE = 'UT002';
    END IF;
    RETURN QUERY INSERT INTO shots (project_id, name, position)
        SELECT p_project_id, p_name, coalesce(max(s.position), 0) + 1 FROM shots s WHERE s.project_id = p_project_id
        RETURNING *;
END $$;
