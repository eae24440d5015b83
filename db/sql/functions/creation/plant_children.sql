-- Insert the children of an orchestrator, all at once and once: a second host of the same parent adopts them.
-- The parent's hold passes to its children in the same transaction, at the prices that were frozen with the parent.
-- Whatever the rows say, the children belong to this parent and its project, and cost what was frozen with it:
-- its lease gives no right to anything else.
CREATE FUNCTION unitask.plant_children(p_task_id unitask.given_id, p_lease_id unitask.lease_id, p_rows unitask.rows)
RETURNS TABLE (index integer, task_id uuid, status text, run_type text, price jsonb, created boolean)
LANGUAGE plpgsql AS $$
DECLARE
    v_parent tasks := unitask.require_lease(p_task_id, p_lease_id);
    v_own CONSTANT text[] := ARRAY['price', 'hold', 'batch_id', 'made_by_run_id', 'idempotency_key', 'request_hash'];
    v_place CONSTANT jsonb := jsonb_build_object('project_id', v_parent.project_id, 'parent_task_id', v_parent.id);
BEGIN
    IF NOT v_parent.hosted THEN
        RAISE EXCEPTION 'task % is no orchestrator and has no children', p_task_id USING ERRCODE = 'UT003';
    END IF;
    PERFORM unitask.settle_credits(ARRAY[p_task_id]::uuid[], NULL);
    RETURN QUERY SELECT * FROM unitask.create_tasks((
        SELECT coalesce(jsonb_agg(r.value - v_own || v_place || jsonb_strip_nulls(jsonb_build_object(
            'price', v_parent.price -> 'children' -> (r.value ->> 'child_key'))) ORDER BY r.ordinality), '[]')
        FROM jsonb_array_elements(p_rows) WITH ORDINALITY r));
END $$;
