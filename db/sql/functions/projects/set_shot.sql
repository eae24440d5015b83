-- Change what is given of a shot, and keep what is null.
CREATE FUNCTION unitask.set_shot(p_shot_id unitask.given_id, p_name unitask.title, p_position unitask.count) RETURNS SETOF shots
LANGUAGE sql AS $$
    UPDATE shots SET name = coalesce(p_name, name), position = coalesce(p_position, position)
    WHERE id = p_shot_id RETURNING *
$$;
