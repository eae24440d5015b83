-- Where ledger and tasks contradict each other; no rows, if all is well. `unitask credits reconcile` and the tests ask.
CREATE FUNCTION unitask.ledger_faults() RETURNS TABLE (user_id uuid, task_id uuid, life integer, fault text)
LANGUAGE sql STABLE AS $$
    WITH lives AS (
        SELECT l.user_id, t.id, l.life, t.cost, t.hosted, t.status = 'Complete' AND l.life = t.retries AS complete,
               EXISTS (SELECT FROM tasks c WHERE c.parent_task_id = t.id) AS planted,
               l.life < t.retries OR t.status IN ('Complete', 'Failed', 'Cancelled') AS ended,
               EXISTS (SELECT FROM provider_jobs j WHERE j.task_id = t.id AND j.life = l.life
                       AND j.state IN ('submitting', 'unknown')) AS unknown,
               EXISTS (SELECT FROM provider_jobs j WHERE j.task_id = t.id AND j.life = l.life AND j.state = 'lost') AS lost,
               count(*) FILTER (WHERE l.kind = 'hold') AS holds,
               count(*) FILTER (WHERE l.kind = 'capture') AS captures,
               count(*) FILTER (WHERE l.kind = 'release') AS releases,
               -sum(l.amount) FILTER (WHERE l.kind <> 'refund') AS charge,
               coalesce(sum(l.amount) FILTER (WHERE l.kind = 'refund'), 0) AS refunded
        FROM tasks t JOIN credit_ledger l ON l.task_id = t.id GROUP BY t.id, l.user_id, l.life
    )
    SELECT user_id, id, life, fault FROM lives CROSS JOIN LATERAL (VALUES
        (holds <> 1, format('%s holds', holds)),
        (captures + releases > 1, 'settled more than once'),
        (captures + releases > 0 AND NOT (ended OR hosted), 'settled before its end'),
        (captures + releases = 0 AND (ended OR planted) AND NOT unknown, 'not settled at its end'),
        -- A person may have found that the provider did what was lost here.
        (captures > 0 AND NOT (complete OR lost), 'charged although it did not complete'),
        (releases > 0 AND complete AND NOT hosted, 'complete and not charged'),
        (captures > 0 AND complete AND charge IS DISTINCT FROM cost, format('charged %s for a cost of %s', charge, cost)),
        (refunded > CASE WHEN captures > 0 THEN charge ELSE 0 END, 'refunded more than it was charged')
    ) AS f(is_so, fault) WHERE is_so
    UNION ALL
    SELECT user_id, NULL, NULL, format('balance is %s, and grants, refunds, charges and holds make %s', balance,
                                       granted + refunded - charged - held)
    FROM unitask.credit_accounts() WHERE balance <> granted + refunded - charged - held
$$;
