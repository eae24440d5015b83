-- Give a worker up to p_limit tasks of its pool, each under a new lease; or the one task that it names.
--
-- Whose turn: the user with the fewest live leases in this pool first, so that everybody with work waiting is served;
-- within a user by priority, then age. Among a user's first p_look_ahead tasks one whose model is loaded goes first.
-- p_hosted asks for orchestrators (they take no slot) or for work.
CREATE FUNCTION unitask.claim_tasks(
    p_run_type text, p_worker_id text, p_limit integer, p_lease_seconds double precision,
    p_models text[] DEFAULT '{}', p_hosted boolean DEFAULT false, p_user_cap integer DEFAULT NULL,
    p_task_id uuid DEFAULT NULL, p_look_ahead integer DEFAULT 16
)
RETURNS TABLE (
    id uuid, task_type text, project_id uuid, run_type text, params jsonb, placement jsonb, model text, parent_task_id uuid,
    child_key text, lease_id bigint, attempt integer, max_attempts integer, deadline_seconds integer,
    previous_flow_run_id uuid, inputs jsonb
)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_candidate record;
    v_claimed uuid[] := '{}';
BEGIN
    -- Rescue lives here and nowhere else needs to run for it: a dead worker's task waits for the next claim only.
    PERFORM unitask.rescue_tasks();

    FOR v_candidate IN
        WITH RECURSIVE waiting AS (
            -- The distinct users with claimable work, one index probe each.
            (SELECT t.user_id FROM tasks t
             WHERE t.status = 'Pending' AND t.deps_pending = 0 AND t.run_type = p_run_type AND t.hosted = p_hosted
             ORDER BY t.user_id LIMIT 1)
            UNION ALL
            SELECT (SELECT t.user_id FROM tasks t
                    WHERE t.status = 'Pending' AND t.deps_pending = 0 AND t.run_type = p_run_type
                      AND t.hosted = p_hosted AND t.user_id > w.user_id
                    ORDER BY t.user_id LIMIT 1)
            FROM waiting w WHERE w.user_id IS NOT NULL
        ),
        busy AS (
            SELECT t.user_id, count(*) AS leases FROM tasks t
            WHERE t.status = 'Processing' AND t.run_type = p_run_type AND NOT t.hosted
              AND t.leased_until > clock_timestamp()
            GROUP BY t.user_id
        ),
        turn AS (
            SELECT q.id, q.user_id, coalesce(b.leases, 0) + q.place AS turn, q.created_at
            FROM waiting w
            LEFT JOIN busy b USING (user_id)
            CROSS JOIN LATERAL (
                SELECT h.*, row_number() OVER (
                    ORDER BY h.model = ANY (p_models) DESC NULLS LAST, h.priority DESC, h.created_at, h.id) AS place
                FROM (SELECT t.id, t.user_id, t.model, t.priority, t.created_at FROM tasks t
                      WHERE t.status = 'Pending' AND t.deps_pending = 0 AND t.run_type = p_run_type
                        AND t.hosted = p_hosted AND t.user_id = w.user_id AND t.run_after <= clock_timestamp()
                      ORDER BY t.priority DESC, t.created_at, t.id
                      LIMIT p_limit + p_look_ahead) h
            ) q
            WHERE w.user_id IS NOT NULL AND p_task_id IS NULL
        )
        SELECT turn.id, turn.user_id, turn.turn, turn.created_at FROM turn
        UNION ALL
        SELECT t.id, t.user_id, 0, t.created_at FROM tasks t WHERE t.id = p_task_id
        ORDER BY turn, created_at
    LOOP
        EXIT WHEN cardinality(v_claimed) >= p_limit;
        IF p_user_cap IS NOT NULL AND NOT p_hosted THEN
            -- Two claims for one user would both count the same leases: they queue here, and the count below is a
            -- statement of its own, so the second sees what the first took.
            PERFORM pg_advisory_xact_lock(hashtextextended('unitask.cap' || p_run_type || v_candidate.user_id, 0));
            CONTINUE WHEN (
                SELECT count(*) FROM tasks t
                WHERE t.status = 'Processing' AND t.user_id = v_candidate.user_id AND t.run_type = p_run_type
                  AND NOT t.hosted AND t.leased_until > clock_timestamp()
            ) >= p_user_cap;
        END IF;

        WITH free AS (
            -- OF t: a join must never lock its other side. A row that another claim has locked is not waited for.
            SELECT t.id FROM tasks t
            WHERE t.id = v_candidate.id AND t.status = 'Pending' AND t.deps_pending = 0
              AND (t.run_after <= clock_timestamp() OR t.id = p_task_id)
            FOR NO KEY UPDATE OF t SKIP LOCKED
        )
        UPDATE tasks t
        SET status = 'Processing', lease_id = t.lease_id + 1, worker_id = p_worker_id,
            leased_until = clock_timestamp() + make_interval(secs => p_lease_seconds),
            claimed_at = clock_timestamp(), started_at = coalesce(t.started_at, clock_timestamp()),
            -- Attempts rise at claim, so that a task that kills its worker runs out of them. To host a parent again
            -- whose children are planted is no new attempt.
            attempt = t.attempt + CASE WHEN t.hosted AND EXISTS (
                SELECT FROM tasks c WHERE c.parent_task_id = t.id) THEN 0 ELSE 1 END
        FROM free WHERE t.id = free.id;
        IF FOUND THEN
            v_claimed := v_claimed || v_candidate.id;
        END IF;
    END LOOP;

    RETURN QUERY
        SELECT t.id, t.task_type, t.project_id, t.run_type, t.params, t.placement, t.model, t.parent_task_id, t.child_key,
               t.lease_id, t.attempt, t.max_attempts, coalesce(y.deadline_seconds, 3600), t.flow_run_id,
               (SELECT coalesce(jsonb_object_agg(coalesce(s.child_key, s.id::text), jsonb_build_object(
                    'task_id', s.id, 'output_location', s.output_location, 'result', s.result)), '{}')
                FROM task_dependencies d JOIN tasks s ON s.id = d.depends_on WHERE d.task_id = t.id)
        FROM unnest(v_claimed) WITH ORDINALITY AS c(id)
        JOIN tasks t ON t.id = c.id
        LEFT JOIN task_types y ON y.name = t.task_type
        ORDER BY c.ordinality;
END $$;
