-- Add a task's result to a generation, whose lock the caller holds. A generation shows its primary variant: that one's
-- file, facts and making stand in its own row too.
CREATE FUNCTION unitask.add_variant(
    p_generation uuid, p_task tasks, p_type text, p_primary boolean, p_location text, p_result jsonb
) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    -- The first variant is shown, whatever was asked for: a generation that shows nothing is a placeholder.
    v_primary boolean := p_primary OR NOT EXISTS (SELECT FROM generation_variants WHERE generation_id = p_generation);
    -- What a task makes anew is the original, until something else comes beside it.
    v_type text := CASE WHEN EXISTS (SELECT FROM generations WHERE id = p_generation AND task_id = p_task.id)
                        THEN 'original' ELSE p_type END;
    v_made jsonb := unitask.provenance_of(p_task, p_result);
BEGIN
    IF v_primary THEN
        UPDATE generation_variants SET is_primary = false WHERE generation_id = p_generation AND is_primary;
        UPDATE generations SET location = p_location, media = p_result -> 'media', params = v_made, updated_at = now()
        WHERE id = p_generation;
    END IF;
    INSERT INTO generation_variants (generation_id, task_id, variant_type, is_primary, location, media, params)
    VALUES (p_generation, p_task.id, v_type, v_primary, p_location, p_result -> 'media', v_made);
END $$;
