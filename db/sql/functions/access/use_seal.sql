-- Use a sealed token, named by its digest, for one run: answers whether it is this run's. The run that had it first may come
-- again with it, and no other.
CREATE FUNCTION unitask.use_seal(p_digest unitask.name, p_run_id unitask.given_id) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    -- By then no such token opens any more.
    DELETE FROM seals WHERE used_at < clock_timestamp() - interval '1 day';
    INSERT INTO seals (digest, run_id) VALUES (p_digest, p_run_id) ON CONFLICT DO NOTHING;
    RETURN EXISTS (SELECT FROM seals WHERE digest = p_digest AND run_id = p_run_id);
END $$;
