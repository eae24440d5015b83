-- Refuse whoever cannot pay. Creators of one user queue here until their commit: the second counts the first one's hold.
CREATE FUNCTION unitask.require_credits(p_user_id uuid, p_needed numeric) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('unitask.credits' || p_user_id, 0));
    IF p_needed > 0 AND unitask.balance(p_user_id) < p_needed THEN
        RAISE EXCEPTION 'the tasks need % credits and the balance is %', p_needed, unitask.balance(p_user_id)
            USING ERRCODE = 'UT004';
    END IF;
END $$;
