-- Write what a completed task leaves behind, as its `placement` says:
--   {as: generation, type, shot_id?, based_on?}                          a new generation
--   {as: variant, generation_id, variant_type, primary}                  a variant of a generation that is there
--   {as: child, parent_generation_id, child_order, type, variant_type}   a child of a parent generation
-- A placeholder belongs to an orchestrator; the child that makes the film fills it as a primary variant.
CREATE FUNCTION unitask.place_output(p_task tasks, p_location text, p_result jsonb) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_place jsonb := p_task.placement;
    v_generation uuid;
    v_primary boolean := coalesce((v_place ->> 'primary')::boolean, true);
BEGIN
    IF v_place IS NULL OR p_location IS NULL OR v_place ->> 'as' = 'placeholder' THEN
        RETURN;
    END IF;
    IF v_place ->> 'as' = 'variant' THEN
        v_generation := (v_place ->> 'generation_id')::uuid;
        -- Two variants of one generation that arrive at once take turns at being the primary one.
        PERFORM FROM generations WHERE id = v_generation FOR NO KEY UPDATE;
    ELSE
        INSERT INTO generations (project_id, task_id, type, name, params, based_on, parent_generation_id, child_order,
                                 pair_shot_generation_id)
        VALUES (p_task.project_id, p_task.id, v_place ->> 'type', v_place ->> 'name', '{}',
                (v_place ->> 'based_on')::uuid, (v_place ->> 'parent_generation_id')::uuid,
                (v_place ->> 'child_order')::integer, (v_place ->> 'pair_shot_generation_id')::uuid)
        -- A retried child finds the generation of its place and becomes its newest variant.
        ON CONFLICT (parent_generation_id, child_order) DO UPDATE SET updated_at = now()
        RETURNING id INTO v_generation;
    END IF;

    -- The first variant is shown, whatever was asked for: a generation that shows nothing is a placeholder.
    v_primary := v_primary OR NOT EXISTS (SELECT FROM generation_variants WHERE generation_id = v_generation);
    IF v_primary THEN
        UPDATE generation_variants SET is_primary = false WHERE generation_id = v_generation AND is_primary;
        UPDATE generations SET location = p_location, media = p_result -> 'media', updated_at = now()
        WHERE id = v_generation;
    END IF;
    INSERT INTO generation_variants (generation_id, task_id, variant_type, is_primary, location, media)
    VALUES (v_generation, p_task.id, coalesce(v_place ->> 'variant_type', 'original'), v_primary, p_location,
            p_result -> 'media');
    IF v_place ? 'shot_id' THEN
        INSERT INTO shot_generations (shot_id, generation_id) VALUES ((v_place ->> 'shot_id')::uuid, v_generation);
    END IF;
END $$;
