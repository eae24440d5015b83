-- What an execution that ends now costs: its unit price, or its type's rate for every second begun since the claim.
CREATE FUNCTION unitask.cost_of(p_task tasks) RETURNS numeric
LANGUAGE sql STABLE AS $$
    SELECT CASE y.billing_type
        WHEN 'per_unit' THEN coalesce(y.unit_cost, 0)
        ELSE coalesce(y.base_cost_per_second, 0)
             * ceil(extract(epoch FROM clock_timestamp() - p_task.claimed_at))
    END
    FROM task_types y WHERE y.name = p_task.task_type
$$;
