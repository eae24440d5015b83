-- The user whose rows the present login reads; null for every login that is not a person's.
--
-- A person who reads by SQL has a login named unitask_user_<their id without dashes>, a member of unitask_reader (see
-- add_reader). The name of the login says whose rows they are, because a setting could be set to anything.
CREATE FUNCTION unitask.this_reader() RETURNS uuid
LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN current_user ~ '^unitask_user_[0-9a-f]{32}$' THEN right(current_user, 32)::uuid END
$$;
