-- What a create request may not refer to: a JSON array of {index, field, kind, message}, or null.
-- A thing of another project is answered exactly as a missing one.
CREATE FUNCTION unitask.invalid_rows(p_rows jsonb) RETURNS jsonb
LANGUAGE sql STABLE AS $$
    WITH r AS MATERIALIZED (SELECT * FROM unitask.task_rows(p_rows)),
    dependency AS (
        SELECT r.index, r.project_id, d.ordinality - 1 AS position,
               (d.value ->> 'task_id')::uuid AS task_id, (d.value ->> 'index')::integer AS earlier
        FROM r CROSS JOIN LATERAL jsonb_array_elements(r.depends_on) WITH ORDINALITY d
        WHERE r.depends_on <> '[]'
    ),
    generation AS (
        SELECT r.index, r.project_id, field, (r.placement ->> field)::uuid AS id
        FROM r CROSS JOIN (VALUES ('generation_id'), ('parent_generation_id'), ('based_on')) f(field)
        WHERE r.placement ? field AND NOT (field = 'generation_id' AND r.placement ->> 'as' = 'placeholder')
          -- What the request itself names is answered below, under the name of its field.
          AND NOT r.refs @> jsonb_build_array(jsonb_build_object('id', r.placement ->> field))
    ),
    reference AS (
        SELECT r.index, r.project_id, v.value ->> 'field' AS field, v.value ->> 'kind' AS kind,
               (v.value ->> 'id')::uuid AS id
        FROM r CROSS JOIN LATERAL jsonb_array_elements(r.refs) v
        WHERE r.refs <> '[]'
    ),
    -- Each thing once, however many rows of a batch name it.
    known AS (
        SELECT w.kind, w.id, w.project_id FROM (SELECT DISTINCT kind, id, project_id FROM reference) w
        WHERE CASE w.kind
            WHEN 'shot' THEN EXISTS (SELECT FROM shots s WHERE s.id = w.id AND s.project_id = w.project_id)
            WHEN 'generation' THEN EXISTS (
                SELECT FROM generations g WHERE g.id = w.id AND g.project_id = w.project_id)
            WHEN 'variant' THEN EXISTS (
                SELECT FROM generation_variants v JOIN generations g ON g.id = v.generation_id
                WHERE v.id = w.id AND g.project_id = w.project_id)
            WHEN 'shot_generation' THEN EXISTS (
                SELECT FROM shot_generations p JOIN shots s ON s.id = p.shot_id
                WHERE p.id = w.id AND s.project_id = w.project_id)
        END
    ),
    refused AS (
        SELECT index, 'project_id' AS field, 'not_found' AS kind, format('there is no project %s', project_id) AS message
        FROM r WHERE NOT EXISTS (SELECT FROM projects p WHERE p.id = r.project_id)
        UNION ALL
        -- A type that is switched off is refused to people; what exists goes on, with the children that it plans.
        SELECT index, 'task_type', 'validation', format('task_type %L is not an active task type', task_type)
        FROM r WHERE NOT EXISTS (
            SELECT FROM task_types t
            WHERE t.name = r.task_type AND (t.is_active IS NOT FALSE OR r.parent_task_id IS NOT NULL))
        UNION ALL
        SELECT index, format('depends_on[%s]', position), 'not_found', format('there is no task %s', task_id)
        FROM dependency d
        WHERE earlier IS NULL
          AND NOT EXISTS (SELECT FROM tasks t WHERE t.id = d.task_id AND t.project_id = d.project_id)
        UNION ALL
        -- Only an earlier row can be meant, so a batch cannot hold a cycle.
        SELECT index, format('depends_on[%s]', position), 'validation',
               format('row %s is not before row %s', earlier, index)
        FROM dependency WHERE earlier NOT BETWEEN 0 AND index - 1
        UNION ALL
        SELECT index, 'parent_task_id', 'not_found', format('there is no task %s', parent_task_id)
        FROM r WHERE parent_task_id IS NOT NULL
          AND NOT EXISTS (SELECT FROM tasks t WHERE t.id = r.parent_task_id AND t.project_id = r.project_id)
        UNION ALL
        SELECT index, field, 'not_found', format('there is no generation %s', id)
        FROM generation g
        WHERE NOT EXISTS (SELECT FROM generations x WHERE x.id = g.id AND x.project_id = g.project_id)
        UNION ALL
        SELECT index, 'child_generation_id', 'validation',
               format('generation %s is not a child of %s', x.id, placement ->> 'parent_generation_id')
        FROM r JOIN generations x ON x.id = (placement ->> 'generation_id')::uuid
        WHERE placement ->> 'as' = 'variant' AND placement ? 'parent_generation_id' AND x.project_id = r.project_id
          AND x.parent_generation_id IS DISTINCT FROM (placement ->> 'parent_generation_id')::uuid
        UNION
        SELECT index, field, 'not_found', format('there is no %s %s', replace(kind, '_', ' '), id)
        FROM reference f WHERE NOT EXISTS (
            SELECT FROM known k WHERE k.kind = f.kind AND k.id = f.id AND k.project_id = f.project_id)
        UNION
        SELECT index, 'shot_id', 'not_found', format('there is no shot %s', placement ->> 'shot_id')
        FROM r WHERE placement ? 'shot_id' AND NOT EXISTS (
            SELECT FROM shots s WHERE s.id = (r.placement ->> 'shot_id')::uuid AND s.project_id = r.project_id)
        UNION
        SELECT index, 'pair_shot_generation_id', 'not_found',
               format('there is no shot generation %s', placement ->> 'pair_shot_generation_id')
        FROM r WHERE placement ? 'pair_shot_generation_id' AND NOT EXISTS (
            SELECT FROM shot_generations g JOIN shots s ON s.id = g.shot_id
            WHERE g.id = (r.placement ->> 'pair_shot_generation_id')::uuid AND s.project_id = r.project_id)
    )
    SELECT jsonb_agg(to_jsonb(refused) ORDER BY index, field) FROM refused
$$;
