-- Count an upload for the user of its project before it is stored; the same bytes again count once. Raises UT005 when the
-- user would then have more than p_max_bytes.
CREATE FUNCTION unitask.hold_upload(
    p_project_id unitask.given_id, p_key unitask.location, p_bytes unitask.bytes, p_max_bytes unitask.bytes
) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_user uuid;
    v_used bigint;
BEGIN
    IF p_key IS NULL OR p_key NOT LIKE p_project_id || '/uploads/%' THEN
        RAISE EXCEPTION '% bytes under % are no upload of project %', p_bytes, p_key, p_project_id USING ERRCODE = 'UT002';
    END IF;
    -- One upload of a user after the other: two that fit alone must not both pass.
    SELECT u.id INTO v_user FROM projects p JOIN users u ON u.id = p.user_id
    WHERE p.id = p_project_id FOR NO KEY UPDATE OF u;
    SELECT coalesce(sum(bytes), 0) INTO v_used
    FROM uploads JOIN projects p ON p.id = project_id WHERE p.user_id = v_user AND key <> p_key;
    IF v_used + p_bytes > p_max_bytes THEN
        RAISE EXCEPTION 'too much is stored' USING ERRCODE = 'UT005', DETAIL = jsonb_build_array(jsonb_build_object(
            'index', 0, 'field', 'path', 'kind', 'validation', 'message', format(
                'this file has %s bytes, and uploads already take %s of the %s that a user may have; delete a project',
                p_bytes, v_used, p_max_bytes)))::text;
    END IF;
    INSERT INTO uploads (key, project_id, bytes) VALUES (p_key, p_project_id, p_bytes) ON CONFLICT DO NOTHING;
END $$;
