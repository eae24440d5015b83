-- Take back what silent workers hold. Runs inside every claim.
CREATE FUNCTION unitask.rescue_tasks(p_limit integer DEFAULT 20) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    v_id uuid;
    v_task tasks;
    v_count integer := 0;
BEGIN
    -- One rescuer at a time; the others have their own claim to make.
    -- By the time of the statement, which an index can be asked for.
    IF NOT EXISTS (SELECT FROM tasks WHERE status = 'Processing' AND leased_until < statement_timestamp())
       OR NOT unitask.lock_guard('rescue', false) THEN
        RETURN 0;
    END IF;
    FOR v_id IN
        SELECT id FROM tasks WHERE status = 'Processing' AND leased_until < statement_timestamp() ORDER BY leased_until
    LOOP
        EXIT WHEN v_count >= p_limit;
        BEGIN
            PERFORM unitask.lock_family(v_id);
            -- Read again under the lock: the holder may have completed, or extended its lease, meanwhile.
            SELECT * INTO v_task FROM tasks WHERE id = v_id;
            CONTINUE WHEN v_task.id IS NULL OR v_task.status <> 'Processing' OR v_task.leased_until >= clock_timestamp();
            PERFORM unitask.end_lease(
                v_task, 'worker_lost', format('worker %s was silent for too long', v_task.worker_id), true, NULL);
            v_count := v_count + 1;
        EXCEPTION WHEN OTHERS THEN
            -- One row that cannot be taken back must not keep the others, nor every claim, from going on.
            RAISE WARNING 'task % cannot be rescued: %', v_id, SQLERRM;
        END;
    END LOOP;
    RETURN v_count;
END $$;
