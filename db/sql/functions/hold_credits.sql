-- Hold what newly created tasks may cost at the most. With p_enforce a balance that does not cover it refuses them.
CREATE FUNCTION unitask.hold_credits(p_rows jsonb, p_ids uuid[], p_new boolean[], p_enforce boolean) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_payer record;
BEGIN
    IF p_enforce THEN
        FOR v_payer IN
            SELECT p.user_id, sum(r.hold) AS needed
            FROM unitask.task_rows(p_rows) r JOIN projects p ON p.id = r.project_id
            WHERE p_new[r.index + 1] AND r.parent_task_id IS NULL GROUP BY p.user_id ORDER BY p.user_id
        LOOP
            PERFORM unitask.require_credits(v_payer.user_id, v_payer.needed);
        END LOOP;
    END IF;
    INSERT INTO credit_ledger (user_id, task_id, kind, amount)
    SELECT p.user_id, p_ids[r.index + 1], 'hold', -r.hold
    FROM unitask.task_rows(p_rows) r JOIN projects p ON p.id = r.project_id
    WHERE p_new[r.index + 1] AND r.hold > 0;
END $$;
