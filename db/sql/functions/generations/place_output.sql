-- Write what a completed task leaves behind, as its `placement` says:
--   {as: generation, type, shot_id?, based_on?}             a new generation
--   {as: variant, generation_id}                            a variant of a generation that is there
--   {as: child, parent_generation_id, child_order, pair_shot_generation_id?, type}
--                                                           a part of a film; see place_part.sql
-- and for each of them {variant_type, primary, name?}. With `fills_film`, a part that is all of its film is shown by
-- that too. A placeholder belongs to an orchestrator; the child that makes the film fills it as a primary variant.
--
-- A person may have deleted something while the task ran. Their shot, their place on a timeline and their source are
-- then left out, an edit of what is gone stands for itself, and a part of a film that is gone is kept by its task alone.
CREATE FUNCTION unitask.place_output(p_task tasks, p_location text, p_result jsonb) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_place jsonb := p_task.placement;
    v_type text := coalesce(v_place ->> 'variant_type', 'original');
    v_primary boolean := coalesce((v_place ->> 'primary')::boolean, true);
    v_generation uuid;
    v_film uuid;
BEGIN
    IF v_place IS NULL OR p_location IS NULL OR v_place ->> 'as' IN ('placeholder', 'existing') THEN
        RETURN;
    END IF;
    -- The film before its part: completions that meet take the locks of generations in this order, and two variants
    -- of one generation take turns at being the primary one.
    SELECT id INTO v_film FROM generations
    WHERE id = coalesce((v_place ->> 'parent_generation_id')::uuid, (
        SELECT parent_generation_id FROM generations WHERE id = (v_place ->> 'generation_id')::uuid))
    FOR NO KEY UPDATE;

    IF v_place ->> 'as' = 'child' THEN
        IF v_film IS NULL THEN
            RETURN;
        END IF;
        v_generation := unitask.place_part(p_task, v_film);
    ELSIF v_place ->> 'as' = 'variant' THEN
        SELECT id INTO v_generation FROM generations WHERE id = (v_place ->> 'generation_id')::uuid FOR NO KEY UPDATE;
    END IF;
    IF v_generation IS NULL THEN
        v_generation := unitask.new_generation(p_task, NULL, NULL);
    END IF;

    PERFORM unitask.add_variant(v_generation, p_task, v_type, v_primary, p_location, p_result);
    IF v_film IS NOT NULL AND (v_place ->> 'fills_film')::boolean AND NOT EXISTS (
        SELECT FROM generations
        WHERE parent_generation_id = v_film AND (id <> v_generation OR child_order IS DISTINCT FROM 0)) THEN
        PERFORM unitask.add_variant(v_film, p_task, v_type, v_primary, p_location, p_result);
    END IF;
    IF v_place ->> 'as' = 'generation' THEN
        INSERT INTO shot_generations (shot_id, generation_id)
        SELECT id, v_generation FROM shots WHERE id = (v_place ->> 'shot_id')::uuid FOR KEY SHARE;
    END IF;
END $$;
