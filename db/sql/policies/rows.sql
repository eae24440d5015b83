-- Who sees which rows. The owner of the tables, as whom the library connects, is not bound by this: it asks for what is
-- the caller's in its own statements. Owner, gateway and worker see all rows of what they may see at all.
DO $$
DECLARE
    v_policy record;
    v_project CONSTANT text := 'EXISTS (SELECT FROM projects p WHERE p.id = project_id)';
    v_task CONSTANT text := 'EXISTS (SELECT FROM tasks t WHERE t.id = task_id)';
    v_mine CONSTANT text := 'user_id = (SELECT unitask.this_reader())';
BEGIN
    IF (SELECT count(*) FROM pg_roles
        WHERE rolname IN ('unitask_owner', 'unitask_gateway', 'unitask_worker', 'unitask_reader')) < 4 THEN
        RETURN;
    END IF;
    FOR v_policy IN
        SELECT * FROM (VALUES
            ('users', NULL),
            ('user_api_tokens', NULL),
            ('rate_limits', NULL),
            ('workers', NULL),
            ('provider_jobs', NULL),
            ('provider_pauses', NULL),
            ('provider_keys', NULL),
            ('projects', v_mine),
            ('tasks', v_mine),
            ('credit_ledger', v_mine),
            ('credit_budgets', v_mine),
            ('task_types', 'true'),
            ('shots', v_project),
            ('task_templates', v_project),
            ('generations', v_project),
            ('task_events', v_project),
            ('task_progress', v_task),
            ('task_dependencies', v_task),
            ('generation_variants', 'EXISTS (SELECT FROM generations g WHERE g.id = generation_id)'),
            ('shot_generations', 'EXISTS (SELECT FROM shots s WHERE s.id = shot_id)')
        ) AS v(name, readers)
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', v_policy.name);
        EXECUTE format('DROP POLICY IF EXISTS service ON %I', v_policy.name);
        EXECUTE format('CREATE POLICY service ON %I TO unitask_owner, unitask_gateway, unitask_worker USING (true)',
                       v_policy.name);
        EXECUTE format('DROP POLICY IF EXISTS readers ON %I', v_policy.name);
        IF v_policy.readers IS NOT NULL THEN
            EXECUTE format('CREATE POLICY readers ON %I FOR SELECT TO unitask_reader USING (%s)',
                           v_policy.name, v_policy.readers);
        END IF;
    END LOOP;
END $$;
