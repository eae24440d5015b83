-- A provider asked to be left alone: no worker submits with this account for so many seconds. The longest pause counts.
CREATE FUNCTION unitask.pause_provider(p_account unitask.account, p_seconds unitask.pause_seconds) RETURNS void
LANGUAGE sql AS $$
    INSERT INTO provider_pauses AS p (account, paused_until)
    VALUES (p_account, clock_timestamp() + make_interval(secs => p_seconds))
    ON CONFLICT (account) DO UPDATE SET paused_until = greatest(p.paused_until, excluded.paused_until)
$$;
