-- What an execution that ends now costs: p_cost, or its frozen price for every unit of work, for time-priced work for every
-- second begun since the claim; in any case no more than it holds, and no less than nothing.
CREATE FUNCTION unitask.cost_of(p_task tasks, p_cost numeric DEFAULT NULL) RETURNS numeric
LANGUAGE sql STABLE AS $$
    -- `least` passes over a hold that is not there.
    SELECT least(greatest(0, coalesce(p_cost, (p_task.price ->> 'amount')::numeric * CASE p_task.price ->> 'per'
            WHEN 'second' THEN greatest(1, ceil(extract(epoch FROM clock_timestamp() - p_task.claimed_at)))
            ELSE coalesce((p_task.price ->> 'units')::integer, 1)
        END, 0)),
        (SELECT -amount FROM credit_ledger WHERE task_id = p_task.id AND kind = 'hold' AND life = p_task.retries))
$$;
