-- The account at a provider that pays for a user's jobs: the service's own, named like the provider, or the user's,
-- `provider/user`, if they have given a key. Limits and pauses are kept for each account.
CREATE FUNCTION unitask.provider_account(p_user_id uuid, p_provider text) RETURNS text
LANGUAGE sql AS $$
    SELECT p_provider || coalesce((
        SELECT '/' || k.user_id FROM provider_keys k WHERE k.user_id = p_user_id AND k.provider = p_provider), '')
$$;
