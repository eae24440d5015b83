-- Give back what a task was charged, with all below it; or p_amount of what it was charged itself. Each charge is refunded
-- once. Answers the credits.
CREATE FUNCTION unitask.refund_credits(p_task_id uuid, p_amount numeric, p_reason text) RETURNS numeric
LANGUAGE plpgsql AS $$
DECLARE
    v_refunded numeric;
BEGIN
    WITH RECURSIVE tree AS (
        SELECT id FROM tasks WHERE id = p_task_id
        UNION ALL
        SELECT t.id FROM tree JOIN tasks t ON t.parent_task_id = tree.id
    ),
    charges AS (
        SELECT h.*, -h.amount - c.amount AS charge
        FROM tree JOIN credit_ledger c ON c.task_id = tree.id AND c.kind = 'capture'
        JOIN credit_ledger h ON h.task_id = c.task_id AND h.life = c.life AND h.kind = 'hold'
    ),
    refunded AS (
        INSERT INTO credit_ledger (user_id, task_id, project_id, kind, amount, life, held_at, details)
        SELECT user_id, task_id, project_id, 'refund', coalesce(p_amount, charge), life, held_at,
               jsonb_build_object('reason', p_reason)
        FROM charges
        WHERE charge > 0 AND (p_amount IS NULL OR task_id = p_task_id AND p_amount <= charge)
        ON CONFLICT DO NOTHING
        RETURNING amount
    )
    SELECT sum(amount) INTO v_refunded FROM refunded;
    IF v_refunded IS NULL THEN
        RAISE EXCEPTION 'task % was not charged%, or has its refund already', p_task_id,
            CASE WHEN p_amount IS NULL THEN '' ELSE format(' %s credits itself', p_amount) END USING ERRCODE = 'UT003';
    END IF;
    RETURN v_refunded;
END $$;
