-- Count one call of a user (or, with p_calls 0, more rows of one that was counted) against the limits of its kind, in windows of a minute that begin with a call.
-- Over a limit it raises UT006, whose DETAIL is the number of seconds to wait, and counts nothing.
--
-- To be called in a transaction of its own, before the work: the row is locked until the commit, and what is refused
-- later has still been a call.
CREATE FUNCTION unitask.count_call(
    p_user_id unitask.given_id, p_kind unitask.name, p_rows unitask.tally, p_max_calls unitask.tally,
    p_max_rows unitask.count DEFAULT NULL, p_calls unitask.tally DEFAULT 1
) RETURNS void
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_now timestamptz;
    v_count rate_limits;
BEGIN
    -- A crash of the server may forget the last moments of counting; a wait for the disk at every call is not worth it.
    PERFORM set_config('synchronous_commit', 'off', true);
    INSERT INTO rate_limits (user_id, kind) VALUES (p_user_id, p_kind) ON CONFLICT DO NOTHING;
    SELECT * INTO v_count FROM rate_limits WHERE user_id = p_user_id AND kind = p_kind FOR UPDATE;
    -- After the lock: who waited for it is counted in the window of now.
    v_now := clock_timestamp();
    IF v_count.window_start <= v_now - interval '1 minute' THEN
        v_count.window_start := v_now;
        v_count.calls := 0;
        v_count.rows := 0;
    END IF;
    IF v_count.calls + p_calls > p_max_calls OR v_count.rows + p_rows > p_max_rows THEN
        RAISE EXCEPTION '% calls and % rows of kind % were made within a minute; allowed are %',
            v_count.calls, v_count.rows, p_kind, concat_ws(' and ', p_max_calls || ' calls', p_max_rows || ' rows')
            USING ERRCODE = 'UT006',
                  DETAIL = ceil(extract(epoch FROM v_count.window_start + interval '1 minute' - v_now));
    END IF;
    UPDATE rate_limits SET window_start = v_count.window_start, calls = v_count.calls + p_calls, rows = v_count.rows + p_rows
    WHERE user_id = p_user_id AND kind = p_kind;
END $$;
