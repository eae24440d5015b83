-- Refuse a storage key that lies in the folder of another project: whoever may read this one could read that file.
CREATE FUNCTION unitask.require_own_location(p_project_id uuid, p_location text) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_folder CONSTANT text := split_part(p_location, '/', 1);
BEGIN
    IF lower(v_folder) ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' AND v_folder <> p_project_id::text THEN
        RAISE EXCEPTION '`%` does not belong to project %', p_location, p_project_id USING ERRCODE = 'UT003';
    END IF;
END $$;
