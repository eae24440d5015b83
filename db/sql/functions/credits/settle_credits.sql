-- Settle the hold of each of these tasks once: capture p_cost and give back the rest, or release all of it when p_cost is
-- null. p_life says which of their lives is meant, if not the one that each is in.
-- A capture never takes more than was held, and never gives. While nobody knows whether a provider did the work, the hold
-- stays.
CREATE FUNCTION unitask.settle_credits(p_task_ids uuid[], p_cost numeric, p_life integer DEFAULT NULL) RETURNS void
LANGUAGE sql SET enable_seqscan = off AS $$
    INSERT INTO credit_ledger (user_id, task_id, project_id, kind, amount, life, held_at)
    SELECT l.user_id, l.task_id, l.project_id, CASE WHEN p_cost IS NULL THEN 'release' ELSE 'capture' END,
           greatest(0, -l.amount - greatest(0, coalesce(p_cost, 0))), l.life, l.held_at
    FROM unnest(p_task_ids) AS ended(id)
    -- One lookup by an index for each task; see cancel_trees.
    CROSS JOIN LATERAL (SELECT t.retries FROM tasks t WHERE t.id = ended.id OFFSET 0) t
    CROSS JOIN LATERAL (
        SELECT h.* FROM credit_ledger h
        WHERE h.task_id = ended.id AND h.kind = 'hold' AND h.life = coalesce(p_life, t.retries) OFFSET 0
    ) l
    WHERE (SELECT count(*) FROM credit_ledger s
           WHERE s.task_id = ended.id AND s.life = l.life AND s.kind IN ('capture', 'release')) = 0
      AND (p_cost IS NOT NULL OR (
          SELECT count(*) FROM provider_jobs j
          WHERE j.task_id = ended.id AND j.life = l.life AND j.state IN ('submitting', 'unknown')) = 0)
$$;
