-- Hold a guard until the end of the transaction: one holder at a time. Without p_wait, answer false when another has it.
--
-- A guard is a row that only the functions may lock. Every login can take any advisory lock, and would keep with it
-- whoever needs that lock from going on.
CREATE FUNCTION unitask.lock_guard(p_name text, p_wait boolean DEFAULT true) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    -- Once for each name: the unique index lets one of two that come at once wait here for the other's end.
    IF NOT EXISTS (SELECT FROM guards WHERE name = p_name) THEN
        INSERT INTO guards (name) VALUES (p_name) ON CONFLICT DO NOTHING;
    END IF;
    IF p_wait THEN
        PERFORM FROM guards WHERE name = p_name FOR UPDATE;
    ELSE
        PERFORM FROM guards WHERE name = p_name FOR UPDATE SKIP LOCKED;
    END IF;
    RETURN FOUND;
END $$;
