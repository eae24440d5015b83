-- Refuse a name that another project of the user has: people name projects by it.
CREATE FUNCTION unitask.require_free_name(p_user_id uuid, p_project_id uuid, p_name text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM projects
               WHERE user_id = p_user_id AND name = p_name AND id IS DISTINCT FROM p_project_id) THEN
        RAISE EXCEPTION 'there is a project named `%` already', p_name USING ERRCODE = 'UT003';
    END IF;
END $$;
