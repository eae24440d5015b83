-- Make the login of a user, who reads what is theirs: a password, or however the server lets people in, is set by ALTER
-- ROLE.
CREATE FUNCTION unitask.add_reader(p_user_id uuid) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    v_role text := 'unitask_user_' || replace(p_user_id::text, '-', '');
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = v_role) THEN
        EXECUTE format('CREATE ROLE %I LOGIN IN ROLE unitask_reader', v_role);
    END IF;
    -- One person must not take all the connections that the server has.
    EXECUTE format('ALTER ROLE %I CONNECTION LIMIT 5', v_role);
    RETURN v_role;
END $$;
