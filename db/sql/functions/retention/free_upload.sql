-- Count an upload no more: it could not be stored.
CREATE FUNCTION unitask.free_upload(p_key unitask.location) RETURNS void
LANGUAGE sql AS $$
    DELETE FROM uploads WHERE key = p_key
$$;
