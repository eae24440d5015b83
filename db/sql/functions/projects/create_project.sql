-- Make a project for a user. With p_may_begin, a user who is known by a verified token alone gets their row first. Its
-- name is their id: a name that they chose could be that of somebody whom operators know by it.
CREATE FUNCTION unitask.create_project(p_user_id unitask.given_id, p_name unitask.name, p_aspect_ratio unitask.title, p_may_begin boolean)
RETURNS SETOF projects
LANGUAGE plpgsql AS $$
BEGIN
    IF p_may_begin THEN
        INSERT INTO users (id, name) VALUES (p_user_id, p_user_id::text) ON CONFLICT (id) DO NOTHING;
    END IF;
    -- Of two calls that come at once with one name, the second waits and finds the first one's project.
    PERFORM FROM users WHERE id = p_user_id FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no user %', p_user_id USING ERRCODE = 'UT002';
    END IF;
    PERFORM unitask.require_free_name(p_user_id, NULL, p_name);
    RETURN QUERY INSERT INTO projects (user_id, name, aspect_ratio) VALUES (p_user_id, p_name, p_aspect_ratio)
        RETURNING *;
END $$;
