-- Refuse what a user cannot pay: with p_enforce beyond the balance, and always beyond a budget. p_project_id says what
-- p_needed is for: one project, whose budgets count then, or without it all projects together.
CREATE FUNCTION unitask.require_credits(p_user_id uuid, p_project_id uuid, p_needed numeric, p_enforce boolean)
RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_budget record;
BEGIN
    IF NOT (p_enforce OR EXISTS (SELECT FROM credit_budgets WHERE user_id = p_user_id)) THEN
        RETURN;
    END IF;
    -- Creators of one user queue here until their commit: the second counts the first one's hold.
    PERFORM unitask.lock_guard('credits ' || p_user_id);
    IF p_enforce AND p_project_id IS NULL AND unitask.balance(p_user_id) < p_needed THEN
        RAISE EXCEPTION 'the tasks need % credits and the balance is %', trim_scale(p_needed), trim_scale(unitask.balance(p_user_id))
            USING ERRCODE = 'UT004';
    END IF;
    SELECT b.period, b.amount, greatest(0, b.amount - s.spent) AS left_over INTO v_budget
    FROM credit_budgets b CROSS JOIN LATERAL (
        SELECT coalesce(-sum(l.amount), 0) AS spent FROM credit_ledger l
        WHERE l.user_id = b.user_id AND l.kind <> 'grant' AND l.held_at >= date_trunc(b.period, now(), 'UTC')
          AND (b.project_id IS NULL OR l.project_id = b.project_id)
    ) s
    WHERE b.user_id = p_user_id AND b.project_id IS NOT DISTINCT FROM p_project_id AND s.spent + p_needed > b.amount
    ORDER BY b.amount - s.spent LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'the tasks need % credits and the budget of % has % left', trim_scale(p_needed),
            concat(trim_scale(v_budget.amount), ' a ', v_budget.period, ' for project ' || p_project_id),
            trim_scale(v_budget.left_over) USING ERRCODE = 'UT004';
    END IF;
END $$;
