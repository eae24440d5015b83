-- Each user's credits by what became of them. What complete tasks were charged comes from the tasks and not from the
-- ledger, so balance = granted + refunded - charged - held says that the two agree.
CREATE FUNCTION unitask.credit_accounts()
RETURNS TABLE (user_id uuid, name text, balance numeric, granted numeric, refunded numeric, charged numeric, held numeric)
LANGUAGE sql STABLE AS $$
    SELECT u.id, u.name, unitask.balance(u.id),
           coalesce(sum(l.amount) FILTER (WHERE l.kind = 'grant'), 0),
           coalesce(sum(l.amount) FILTER (WHERE l.kind = 'refund'), 0),
           coalesce(sum(CASE
               -- Of tasks that are gone, holds and what was given back of them.
               WHEN t.id IS NULL THEN CASE WHEN l.kind IN ('hold', 'capture', 'release') THEN -l.amount END
               WHEN l.kind = 'hold' AND e.kind = 'capture' THEN
                   CASE WHEN t.status = 'Complete' THEN t.cost ELSE -l.amount - e.amount END
           END), 0),
           coalesce(-sum(l.amount) FILTER (WHERE l.kind = 'hold' AND t.id IS NOT NULL AND e.kind IS NULL), 0)
    FROM users u LEFT JOIN credit_ledger l ON l.user_id = u.id LEFT JOIN tasks t ON t.id = l.task_id
    LEFT JOIN credit_ledger e
        ON l.kind = 'hold' AND e.task_id = l.task_id AND e.life = l.life AND e.kind IN ('capture', 'release')
    GROUP BY u.id
$$;
