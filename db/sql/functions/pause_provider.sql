-- A provider asked to be left alone: no worker submits to it for so many seconds. The longest pause counts.
CREATE FUNCTION unitask.pause_provider(p_provider text, p_seconds double precision) RETURNS void
LANGUAGE sql AS $$
    INSERT INTO provider_pauses AS p (provider, paused_until)
    VALUES (p_provider, clock_timestamp() + make_interval(secs => p_seconds))
    ON CONFLICT (provider) DO UPDATE SET paused_until = greatest(p.paused_until, excluded.paused_until)
$$;
