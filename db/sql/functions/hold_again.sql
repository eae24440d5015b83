-- Tasks that retry_task brought back hold what they held in their last life.
CREATE FUNCTION unitask.hold_again(p_task_ids uuid[]) RETURNS void
LANGUAGE sql AS $$
    INSERT INTO credit_ledger (user_id, task_id, kind, amount, life)
    SELECT l.user_id, l.task_id, 'hold', l.amount, t.retries
    FROM tasks t JOIN credit_ledger l ON l.task_id = t.id AND l.kind = 'hold' AND l.life = t.retries - 1
    WHERE t.id = ANY (p_task_ids)
      -- A parent with children passed its hold on to them.
      AND NOT EXISTS (SELECT FROM tasks c WHERE c.parent_task_id = t.id)
$$;
