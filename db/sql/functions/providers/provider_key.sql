-- The sealed key of an account that is a user's; null for the service's own, and when the user has taken it back.
CREATE FUNCTION unitask.provider_key(p_account unitask.account) RETURNS text
LANGUAGE sql AS $$
    SELECT k.sealed FROM provider_keys k
    WHERE k.user_id = nullif(split_part(p_account, '/', 2), '')::uuid AND k.provider = split_part(p_account, '/', 1)
$$;
