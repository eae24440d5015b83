-- Tasks that retry_task brought back hold what they held in their last life. With p_enforce the balance must cover it.
CREATE FUNCTION unitask.hold_again(p_task_ids uuid[], p_enforce boolean) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    -- A parent with children passed its hold on to them.
    v_payers uuid[] := ARRAY(SELECT t.id FROM tasks t WHERE t.id = ANY (p_task_ids)
                             AND NOT EXISTS (SELECT FROM tasks c WHERE c.parent_task_id = t.id));
BEGIN
    IF p_enforce THEN
        -- All of one project, so of one user.
        PERFORM unitask.require_credits(h.user_id, h.needed) FROM (
            SELECT l.user_id, sum(-l.amount) AS needed
            FROM tasks t JOIN credit_ledger l ON l.task_id = t.id AND l.kind = 'hold' AND l.life = t.retries - 1
            WHERE t.id = ANY (v_payers) GROUP BY l.user_id) h;
    END IF;
    INSERT INTO credit_ledger (user_id, task_id, kind, amount, life)
    SELECT l.user_id, l.task_id, 'hold', l.amount, t.retries
    FROM tasks t JOIN credit_ledger l ON l.task_id = t.id AND l.kind = 'hold' AND l.life = t.retries - 1
    WHERE t.id = ANY (v_payers);
END $$;
