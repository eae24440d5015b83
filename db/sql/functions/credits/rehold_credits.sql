-- Tasks that retry_task brought back hold what they held in their last life, within the budgets and, with p_enforce, the
-- balance.
CREATE FUNCTION unitask.rehold_credits(p_task_ids uuid[], p_enforce boolean) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    -- A parent with children passed its hold on to them.
    v_payers uuid[] := ARRAY(SELECT t.id FROM tasks t WHERE t.id = ANY (p_task_ids)
                             AND NOT EXISTS (SELECT FROM tasks c WHERE c.parent_task_id = t.id));
BEGIN
    PERFORM unitask.require_credits(n.user_id, n.project_id, n.needed, p_enforce) FROM (
        SELECT l.user_id, l.project_id, sum(-l.amount) AS needed
        FROM tasks t JOIN credit_ledger l ON l.task_id = t.id AND l.kind = 'hold' AND l.life = t.retries - 1
        WHERE t.id = ANY (v_payers)
        GROUP BY GROUPING SETS ((l.user_id), (l.user_id, l.project_id)) ORDER BY l.user_id, l.project_id) n;
    INSERT INTO credit_ledger (user_id, task_id, project_id, kind, amount, life)
    SELECT l.user_id, l.task_id, l.project_id, 'hold', l.amount, t.retries
    FROM tasks t JOIN credit_ledger l ON l.task_id = t.id AND l.kind = 'hold' AND l.life = t.retries - 1
    WHERE t.id = ANY (v_payers);
END $$;
