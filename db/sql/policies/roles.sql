-- Four roles without a login, to be granted to the logins of one's own:
--   unitask_owner    changes everything, also prices
--   unitask_gateway  creates, reads, cancels and retries for the callers that it has authenticated
--   unitask_worker   claims, beats, reports, completes and fails; what it may see of the rest it sees as it claims
--   unitask_reader   a person with SQL, who sees what is theirs; see rows.sql
-- Roles belong to the whole server. Where the migrating user may not make them, they are left out and the migration
-- says so; whoever makes them later migrates again.
DO $$
DECLARE
    v_role text;
BEGIN
    FOREACH v_role IN ARRAY ARRAY['unitask_owner', 'unitask_gateway', 'unitask_worker', 'unitask_reader'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = v_role) THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN', v_role);
        END IF;
    END LOOP;
EXCEPTION
    -- Another database of this server may be migrated at the same moment.
    WHEN duplicate_object OR unique_violation THEN NULL;
    WHEN insufficient_privilege THEN NULL;
END $$;
