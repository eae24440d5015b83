-- How many tasks of a user a pool works on now. Orchestrators only wait and do not count.
CREATE FUNCTION unitask.live_leases(p_user_id uuid, p_run_type text) RETURNS bigint
LANGUAGE sql AS $$
    SELECT count(*) FROM tasks
    WHERE status = 'Processing' AND user_id = p_user_id AND run_type = p_run_type AND NOT hosted
      AND leased_until > clock_timestamp()
$$;
