-- Least rights. The functions are the only way to change what they guard: those that a role may call run as the owner
-- of the schema, with a fixed search path; everybody else may call nothing.
REVOKE ALL ON SCHEMA unitask FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA unitask FROM PUBLIC;

DO $$
DECLARE
    v_home text := current_schema();
    v_tables CONSTANT text[] := ARRAY[
        'users', 'user_api_tokens', 'rate_limits', 'projects', 'shots', 'task_types', 'tasks', 'task_dependencies',
        'task_progress', 'task_events', 'generations', 'generation_variants', 'shot_generations', 'credit_ledger',
        'credit_budgets', 'workers', 'task_templates', 'provider_jobs', 'provider_pauses', 'provider_keys',
        'registrations', 'uploads', 'schedule_marks', 'guards', 'seals'];
    v_for_gateway CONSTANT text[] := ARRAY['create_tasks', 'count_call', 'hold_upload', 'free_upload', 'cancel_task',
        'cancel_batch', 'retry_task', 'balance', 'notify_provider_job', 'lock_fleet', 'use_seal', 'provider_key', 'why_waiting',
        'create_project', 'set_project', 'create_shot', 'set_shot'];
    v_for_worker CONSTANT text[] := ARRAY[
        'claim_tasks', 'heartbeat', 'report_progress', 'complete_task', 'fail_task', 'return_task', 'plant_children',
        'cancel_held', 'cancel_of_run', 'retry_of_run', 'lock_fleet',
        'begin_provider_job', 'end_provider_job', 'pause_provider', 'provider_wait', 'unwanted_provider_jobs'];
    v_function record;
    v_table text;
BEGIN
    IF (SELECT count(*) FROM pg_roles
        WHERE rolname IN ('unitask_owner', 'unitask_gateway', 'unitask_worker', 'unitask_reader')) < 4 THEN
        RETURN;
    END IF;

    FOREACH v_table IN ARRAY v_tables LOOP
        EXECUTE format('REVOKE ALL ON %I.%I FROM PUBLIC, unitask_owner, unitask_gateway, unitask_worker, unitask_reader',
                       v_home, v_table);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %I.%I TO unitask_owner', v_home, v_table);
    END LOOP;
    EXECUTE format('GRANT USAGE ON SCHEMA %I, unitask TO unitask_owner, unitask_gateway, unitask_worker, unitask_reader',
                   v_home);
    GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA unitask TO unitask_owner;

    FOR v_function IN
        SELECT p.oid::regprocedure AS signature, p.proname = ANY (v_for_gateway) AS for_gateway,
               p.proname = ANY (v_for_worker) AS for_worker
        FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
        -- Triggers too: a worker that notes where a task is shown causes an event, and may write none itself.
        WHERE n.nspname = 'unitask'
          AND (p.proname = ANY (v_for_gateway || v_for_worker) OR p.prorettype = 'trigger'::regtype)
    LOOP
        -- pg_temp last: or a caller's temporary table would stand for one of ours.
        EXECUTE format('ALTER FUNCTION %s SECURITY DEFINER SET search_path = %I, pg_temp', v_function.signature, v_home);
        IF v_function.for_gateway THEN
            EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO unitask_gateway', v_function.signature);
        END IF;
        IF v_function.for_worker THEN
            EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO unitask_worker', v_function.signature);
        END IF;
    END LOOP;

    EXECUTE format('GRANT SELECT ON %1$I.users, %1$I.projects, %1$I.shots, %1$I.task_types, %1$I.tasks,
        %1$I.task_dependencies, %1$I.task_progress, %1$I.task_events, %1$I.generations, %1$I.generation_variants,
        %1$I.shot_generations, %1$I.credit_ledger, %1$I.workers, %1$I.user_api_tokens TO unitask_gateway', v_home);
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %1$I.task_templates, %1$I.provider_keys TO unitask_gateway',
                   v_home);
    EXECUTE format('GRANT UPDATE (last_used_at) ON %I.user_api_tokens TO unitask_gateway', v_home);

    -- Who works, how long the queue is, and what became of the tasks whose runs are shown: no parameters, and no users.
    -- Column by column: who may update a whole table may lock it against everybody.
    EXECUTE format('GRANT SELECT, INSERT (id, run_type, host, pid, slots, models, flow_run_id),
        UPDATE (stopped_at) ON %I.workers TO unitask_worker', v_home);
    EXECUTE format('GRANT SELECT, UPDATE (job_id, state, ended_at) ON %I.provider_jobs TO unitask_worker', v_home);
    EXECUTE format('GRANT SELECT ON %1$I.task_types, %1$I.task_dependencies TO unitask_worker', v_home);
    EXECUTE format('GRANT SELECT (task_id, percent) ON %I.task_progress TO unitask_worker', v_home);
    EXECUTE format('GRANT SELECT (id, task_type, run_type, status, deps_pending, lease_id, worker_id, parent_task_id,
        child_key, created_at, finished_at, error_message, output_location, result, flow_run_id, task_run_id,
        made_by_run_id),
        UPDATE (flow_run_id, task_run_id) ON %I.tasks TO unitask_worker', v_home);

    EXECUTE format('GRANT SELECT ON %1$I.projects, %1$I.shots, %1$I.task_types, %1$I.tasks, %1$I.task_dependencies,
        %1$I.task_progress, %1$I.task_events, %1$I.generations, %1$I.generation_variants, %1$I.shot_generations,
        %1$I.credit_ledger, %1$I.task_templates TO unitask_reader', v_home);
    EXECUTE format('GRANT SELECT ON %I.credit_budgets TO unitask_gateway, unitask_reader', v_home);
    GRANT EXECUTE ON FUNCTION unitask.this_reader() TO unitask_reader;
END $$;
