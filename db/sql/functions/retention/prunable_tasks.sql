-- Tasks at the top of their trees that may be deleted, up to p_limit, of p_among only where that is given: all of the
-- tree ended longer than p_age ago, no other task may still read an output of it, and all its credits are settled.
CREATE FUNCTION unitask.prunable_tasks(p_age interval, p_limit integer, p_among uuid[] DEFAULT NULL)
RETURNS SETOF uuid
LANGUAGE sql STABLE AS $$
    SELECT old.id FROM projects p CROSS JOIN LATERAL (
        SELECT t.id FROM tasks t
        WHERE t.project_id = p.id AND t.created_at < now() - p_age AND t.parent_task_id IS NULL AND t.finished_at < now() - p_age
          AND (p_among IS NULL OR t.id = ANY (p_among))
          AND NOT EXISTS (
            SELECT FROM tasks m WHERE m.id = ANY (unitask.tree_of(ARRAY[t.id])) AND (
                m.finished_at IS NULL OR m.finished_at >= now() - p_age
                -- Whoever did not complete may run again, and then reads its inputs.
                OR EXISTS (
                    SELECT FROM task_dependencies d JOIN tasks s ON s.id = d.task_id
                    WHERE d.depends_on = m.id AND s.status <> 'Complete'
                      AND s.id <> ALL (unitask.tree_of(ARRAY[t.id])))
                OR EXISTS (
                    SELECT FROM credit_ledger h WHERE h.task_id = m.id AND h.kind = 'hold' AND NOT EXISTS (
                        SELECT FROM credit_ledger s
                        WHERE s.task_id = h.task_id AND s.life = h.life AND s.kind IN ('capture', 'release')))))
        ORDER BY t.created_at LIMIT p_limit
    ) old
    LIMIT p_limit
$$;
