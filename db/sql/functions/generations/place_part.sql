-- The generation of a part of a film: the one that is there, or a new one.
--
-- A part is the same part as long as its first image keeps its place on the shot's timeline, wherever that moves in the
-- order; a part that names no such place is known by its order alone. The caller holds the film's lock, so that two
-- tasks for one part make one generation.
CREATE FUNCTION unitask.place_part(p_task tasks, p_film uuid) RETURNS uuid
LANGUAGE plpgsql AS $$
DECLARE
    v_order integer := (p_task.placement ->> 'child_order')::integer;
    v_slot uuid;
    v_part uuid;
BEGIN
    SELECT id INTO v_slot FROM shot_generations
    WHERE id = (p_task.placement ->> 'pair_shot_generation_id')::uuid FOR KEY SHARE;

    SELECT id INTO v_part FROM generations
    WHERE parent_generation_id = p_film
      AND CASE WHEN v_slot IS NULL THEN child_order = v_order ELSE pair_shot_generation_id = v_slot END
    ORDER BY created_at DESC LIMIT 1 FOR NO KEY UPDATE;

    IF v_part IS NULL THEN
        RETURN unitask.new_generation(p_task, p_film, v_slot);
    END IF;
    UPDATE generations SET child_order = v_order WHERE id = v_part AND child_order <> v_order;
    RETURN v_part;
END $$;
