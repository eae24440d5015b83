-- Cancel what has not ended of a batch, p_limit tasks at a time, so that no transaction holds thousands of rows: call it
-- until it answers none. The batch is named by its id or by that of a task in it, which may be a batch of its own;
-- p_user_id NULL means anybody's.
CREATE FUNCTION unitask.cancel_batch(p_id unitask.given_id, p_user_id uuid, p_reason unitask.message, p_limit unitask.row_limit DEFAULT 200)
RETURNS uuid[]
LANGUAGE plpgsql AS $$
DECLARE
    v_batch uuid := coalesce((SELECT batch_id FROM tasks WHERE id = p_id), p_id);
BEGIN
    PERFORM FROM tasks WHERE (batch_id = v_batch OR id = p_id) AND (p_user_id IS NULL OR user_id = p_user_id);
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no batch %', p_id USING ERRCODE = 'UT002';
    END IF;
    RETURN unitask.cancel_trees(ARRAY(
        SELECT id FROM tasks
        WHERE (batch_id = v_batch OR id = p_id) AND (p_user_id IS NULL OR user_id = p_user_id)
          AND status IN ('Pending', 'Processing')
        -- The last first: who waits for another is then cancelled itself, and does not fail for it.
        ORDER BY created_at DESC, id LIMIT p_limit), p_reason);
END $$;
