-- Store a batch of tasks: all of them, or none and a list of what was refused.
--
-- p_rows is a JSON array; a row has task_type, project_id, params and may have run_type (another pool than its type's),
-- asked (see params/asked.py), priority, model, placement,
-- parent_task_id, child_key, batch_id, idempotency_key, request_hash, price (see billing/cost.py; it holds its `high`,
-- or `hold` if that is given), run_after_seconds, made_by_run_id,
-- references: [{field, kind, id}], which are checked and not stored, and
-- depends_on: [{task_id | index (an earlier row), policy}]. Answers one row for each, in order; `created` is false
-- where the same idempotency key, or the same child of a parent, was there already.
--
-- Refusals come as one exception whose DETAIL is a JSON array of {index, field, kind, message}.
CREATE FUNCTION unitask.create_tasks(p_rows unitask.rows, p_enforce_credits boolean DEFAULT false)
RETURNS TABLE (index integer, task_id uuid, status text, run_type text, price jsonb, created boolean)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_refused jsonb;
    v_ids uuid[];
    v_new boolean[];
BEGIN
    v_refused := unitask.invalid_rows(p_rows);
    IF v_refused IS NOT NULL THEN
        RAISE EXCEPTION '% of % tasks are refused', jsonb_array_length(v_refused), jsonb_array_length(p_rows)
            USING ERRCODE = 'UT005', DETAIL = v_refused::text;
    END IF;

    -- One statement inserts the batch. The join gives run_type, so the per-row trigger does not fire.
    WITH input AS MATERIALIZED (
        SELECT r.*, gen_random_uuid() AS id, coalesce(r.run_type, t.run_type) AS pool,
               -- An owner may put a type into another category; what hosts it is the code's to say.
               coalesce(t.declared ->> 'category', t.category) = 'orchestration' AS hosted,
               t.max_attempts, p.user_id
        FROM unitask.task_rows(p_rows) r
        JOIN task_types t ON t.name = r.task_type
        JOIN projects p ON p.id = r.project_id
    ),
    inserted AS (
        INSERT INTO tasks (id, project_id, user_id, task_type, run_type, hosted, params, asked, priority, model, placement,
                           parent_task_id, child_key, batch_id, idempotency_key, request_hash, price, max_attempts,
                           run_after, made_by_run_id, created_at)
        SELECT id, project_id, user_id, task_type, pool, hosted, params, asked, priority, model, placement,
               parent_task_id, child_key, batch_id, idempotency_key, request_hash, price, max_attempts,
               now() + make_interval(secs => run_after_seconds), made_by_run_id,
               -- The claim goes by created_at: a microsecond each keeps the batch in its order.
               now() + index * interval '1 microsecond'
        FROM input ORDER BY index
        ON CONFLICT DO NOTHING
        RETURNING id
    )
    SELECT array_agg(i.id ORDER BY i.index), array_agg(n.id IS NOT NULL ORDER BY i.index)
    INTO v_ids, v_new
    FROM input i LEFT JOIN inserted n USING (id);

    -- What was not inserted is there already: a new statement, so a concurrent creator's row is visible now.
    IF NOT true = ALL (v_new) THEN
        SELECT array_agg(CASE WHEN v_new[r.index + 1] THEN v_ids[r.index + 1] ELSE t.id END ORDER BY r.index),
               jsonb_agg(jsonb_build_object(
                   'index', r.index, 'field', 'idempotency_key', 'kind', 'conflict',
                   'message', format('idempotency_key %L was used before with another request', r.idempotency_key)
               ) ORDER BY r.index)
               FILTER (WHERE NOT v_new[r.index + 1] AND t.request_hash IS DISTINCT FROM r.request_hash)
        INTO v_ids, v_refused
        FROM unitask.task_rows(p_rows) r
        LEFT JOIN tasks t ON NOT v_new[r.index + 1]
            AND ((t.project_id = r.project_id AND t.idempotency_key = r.idempotency_key)
              OR (t.parent_task_id = r.parent_task_id AND t.child_key = r.child_key))
        WHERE v_new[r.index + 1] IS NOT NULL;
    END IF;
    IF v_refused IS NOT NULL THEN
        RAISE EXCEPTION 'the same idempotency key came with another request'
            USING ERRCODE = 'UT005', DETAIL = v_refused::text;
    END IF;

    -- A travel's film has its generation from the start, so that segments have a parent to hang on.
    INSERT INTO generations (id, project_id, task_id, type, name, params)
    SELECT (r.placement ->> 'generation_id')::uuid, r.project_id, v_ids[r.index + 1], r.placement ->> 'type',
           r.placement ->> 'name', jsonb_build_object('task_type', r.task_type, 'params', r.params)
    FROM unitask.task_rows(p_rows) r
    WHERE v_new[r.index + 1] AND r.placement ->> 'as' = 'placeholder';

    INSERT INTO shot_generations (shot_id, generation_id)
    SELECT (r.placement ->> 'shot_id')::uuid, (r.placement ->> 'generation_id')::uuid
    FROM unitask.task_rows(p_rows) r
    WHERE v_new[r.index + 1] AND r.placement ->> 'as' = 'placeholder' AND r.placement ? 'shot_id';

    PERFORM unitask.hold_credits(p_rows, v_ids, v_new, p_enforce_credits);
    PERFORM unitask.add_edges(p_rows, v_ids, v_new);

    RETURN QUERY
        SELECT i.ordinality::integer - 1, t.id, t.status, t.run_type, t.price, v_new[i.ordinality]
        FROM unnest(v_ids) WITH ORDINALITY AS i(id) JOIN tasks t ON t.id = i.id
        ORDER BY i.ordinality;
END $$;
