-- Whether the caller is the one who looks now for a pool's missing workers: until the end of its transaction.
CREATE FUNCTION unitask.lock_fleet(p_run_type unitask.pool) RETURNS boolean
LANGUAGE sql AS $$
    SELECT unitask.lock_guard('fleet ' || p_run_type, false)
$$;
