-- The rows of a create request as a table, numbered from 0.
CREATE FUNCTION unitask.task_rows(p_rows jsonb)
RETURNS TABLE (
    index integer, task_type text, project_id uuid, params jsonb, priority smallint, model text, placement jsonb,
    parent_task_id uuid, child_key text, batch_id uuid, idempotency_key text, request_hash text, price jsonb,
    hold numeric, run_after_seconds double precision, depends_on jsonb, refs jsonb, run_type text,
    asked jsonb, made_by_run_id uuid
)
LANGUAGE sql IMMUTABLE AS $$
    SELECT ordinality::integer - 1, task_type, project_id, coalesce(params, '{}'), coalesce(priority, 0::smallint), model,
           placement, parent_task_id, child_key, batch_id, idempotency_key, request_hash, price,
           coalesce(hold, (price ->> 'high')::numeric, 0), coalesce(run_after_seconds, 0), coalesce(depends_on, '[]'), coalesce("references", '[]'),
           run_type, asked, made_by_run_id
    FROM ROWS FROM (jsonb_to_recordset(p_rows) AS (
        task_type text, project_id uuid, params jsonb, priority smallint, model text, placement jsonb,
        parent_task_id uuid, child_key text, batch_id uuid, idempotency_key text, request_hash text, price jsonb,
        hold numeric, run_after_seconds double precision, depends_on jsonb, "references" jsonb, run_type text,
        asked jsonb, made_by_run_id uuid
    )) WITH ORDINALITY
$$;
