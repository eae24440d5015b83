-- Whether a user may hold one more lease in a pool. True is answered under a lock that the claim keeps to its end: two
-- claims for one user would both count the same leases otherwise.
--
-- Only a claim that has no such lock yet waits for one (p_wait): two that hold one each and want the other's would
-- dead-lock. Leases are counted, never kept in a counter that a crash could leave wrong.
CREATE FUNCTION unitask.lock_if_below_user_cap(p_user_id uuid, p_run_type text, p_cap integer, p_wait boolean) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    v_guard CONSTANT text := format('cap %s %s', p_run_type, p_user_id);
BEGIN
    -- Without the lock first: a user at the cap must not queue everybody's claims.
    IF unitask.live_leases(p_user_id, p_run_type) >= p_cap THEN
        RETURN false;
    END IF;
    IF NOT unitask.lock_guard(v_guard, p_wait) THEN
        RETURN false;
    END IF;
    RETURN unitask.live_leases(p_user_id, p_run_type) < p_cap;
END $$;
