-- Give back what a task still holds although it has ended, whatever is known of its provider; with p_deleted, all that it
-- holds. Answers the credits.
CREATE FUNCTION unitask.release_holds(p_task_id uuid, p_deleted boolean DEFAULT false) RETURNS numeric
LANGUAGE sql AS $$
    WITH released AS (
        INSERT INTO credit_ledger (user_id, task_id, project_id, kind, amount, life, held_at)
        SELECT l.user_id, l.task_id, p.id, 'release', -l.amount, l.life, l.held_at
        FROM tasks t JOIN credit_ledger l ON l.task_id = t.id AND l.kind = 'hold'
        -- With a user or a project their tasks are deleted, when they themselves are gone already.
        JOIN users u ON u.id = l.user_id LEFT JOIN projects p ON p.id = l.project_id
        WHERE t.id = p_task_id
          AND (p_deleted OR l.life < t.retries OR t.status IN ('Complete', 'Failed', 'Cancelled'))
          AND NOT EXISTS (
            SELECT FROM credit_ledger s WHERE s.task_id = t.id AND s.life = l.life AND s.kind IN ('capture', 'release'))
        ON CONFLICT DO NOTHING
        RETURNING amount
    )
    SELECT coalesce(sum(amount), 0) FROM released
$$;
