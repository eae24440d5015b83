-- Hold what newly created tasks may cost at the most, unless that breaks a budget or, with p_enforce, the balance.
CREATE FUNCTION unitask.hold_credits(p_rows jsonb, p_ids uuid[], p_new boolean[], p_enforce boolean) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    -- Children hold what their parent gives back in the same transaction: nobody asks for it again.
    PERFORM unitask.require_credits(n.user_id, n.project_id, n.needed, p_enforce) FROM (
        SELECT p.user_id, p.id AS project_id, sum(r.hold) AS needed
        FROM unitask.task_rows(p_rows) r JOIN projects p ON p.id = r.project_id
        WHERE p_new[r.index + 1] AND r.parent_task_id IS NULL AND r.hold > 0
        -- In all, and for each project; the users in the order of their ids, as their locks are taken.
        GROUP BY GROUPING SETS ((p.user_id), (p.user_id, p.id)) ORDER BY p.user_id, p.id) n;
    INSERT INTO credit_ledger (user_id, task_id, project_id, kind, amount)
    SELECT p.user_id, p_ids[r.index + 1], p.id, 'hold', -r.hold
    FROM unitask.task_rows(p_rows) r JOIN projects p ON p.id = r.project_id
    WHERE p_new[r.index + 1] AND r.hold > 0;
END $$;
