-- Give a worker up to p_limit tasks of its pool, each under a new lease; or the one task that it names.
--
-- Whose turn: the users stand in a ring, and the one after whom the last claim served comes next; among those who come
-- next, one with fewer live leases goes first. So no backlog keeps another user waiting, and whoever has work waiting
-- has something running within one round. Priorities count within a user (next_task.sql).
-- p_hosted asks for orchestrators (they take no slot) or for work; p_types names the types that the worker has code for
-- (NULL: any), p_without those that it cannot do now. What waits for another kind of worker keeps nobody: a user who has
-- nothing else waiting is not among those whose turn it is.
CREATE FUNCTION unitask.claim_tasks(
    p_run_type unitask.pool, p_worker_id unitask.name, p_limit unitask.row_limit, p_lease_seconds unitask.lease_seconds,
    p_models unitask.names DEFAULT '{}', p_hosted boolean DEFAULT false, p_user_cap unitask.count DEFAULT NULL,
    p_task_id uuid DEFAULT NULL, p_look_ahead unitask.row_limit DEFAULT 16, p_without unitask.names DEFAULT '{}',
    p_types unitask.names DEFAULT NULL
)
RETURNS TABLE (
    id uuid, task_type text, project_id uuid, run_type text, params jsonb, asked jsonb, placement jsonb, model text, parent_task_id uuid,
    child_key text, lease_id bigint, attempt integer, max_attempts integer, deadline_seconds integer,
    previous_flow_run_id uuid, inputs jsonb
)
LANGUAGE plpgsql
-- A worker's first claim often plans for an empty table, and the plan is kept when the table has grown.
SET enable_seqscan = off
SET enable_bitmapscan = off
-- To plan takes longer than to claim.
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
    v_user uuid;
    v_id uuid;
    v_claimed uuid[] := '{}';
    v_passed uuid[] := '{}';
BEGIN
    -- Rescue lives here and nowhere else needs to run for it: a dead worker's task waits for the next claim only.
    PERFORM unitask.rescue_tasks();

    FOR v_user IN
        WITH RECURSIVE latest AS (
            SELECT coalesce((
                SELECT t.user_id FROM tasks t
                WHERE t.run_type = p_run_type AND t.hosted = p_hosted AND t.claimed_at IS NOT NULL
                ORDER BY t.claimed_at DESC LIMIT 1), '00000000-0000-0000-0000-000000000000') AS user_id
        ),
        ring AS (
            SELECT user_id, user_id AS start, false AS wrapped, 0 AS place FROM latest
            UNION ALL
            -- The users with claimable work in the order of their ids, one index probe each, and round again from the
            -- first: as many as this claim can need, however many wait.
            SELECT n.user_id, r.start, n.wrapped, r.place + 1
            FROM ring r CROSS JOIN LATERAL (
                (SELECT t.user_id, r.wrapped FROM tasks t
                 WHERE t.status = 'Pending' AND t.deps_pending = 0 AND t.run_type = p_run_type AND t.hosted = p_hosted
                   AND t.user_id > r.user_id AND t.run_after <= clock_timestamp() AND t.task_type <> ALL (p_without)
                   AND (p_types IS NULL OR t.task_type = ANY (p_types))
                 ORDER BY t.user_id LIMIT 1)
                UNION ALL
                (SELECT t.user_id, true FROM tasks t
                 WHERE t.status = 'Pending' AND t.deps_pending = 0 AND t.run_type = p_run_type AND t.hosted = p_hosted
                   AND NOT r.wrapped AND t.run_after <= clock_timestamp() AND t.task_type <> ALL (p_without)
                   AND (p_types IS NULL OR t.task_type = ANY (p_types))
                 ORDER BY t.user_id LIMIT 1)
                LIMIT 1
            ) n
            WHERE r.place < p_limit + p_look_ahead AND NOT (n.wrapped AND n.user_id > r.start) AND p_task_id IS NULL
        ),
        busy AS (
            SELECT t.user_id, count(*) AS leases FROM tasks t
            WHERE t.status = 'Processing' AND t.run_type = p_run_type AND NOT t.hosted
              AND t.leased_until > statement_timestamp()
            GROUP BY t.user_id
        ),
        turn AS (
            SELECT r.user_id, coalesce(b.leases, 0) + n AS turn, r.place
            FROM ring r LEFT JOIN busy b USING (user_id) CROSS JOIN generate_series(1, p_limit) n
            WHERE r.place > 0
            UNION ALL
            SELECT t.user_id, 0, 0 FROM tasks t WHERE t.id = p_task_id
        )
        SELECT user_id FROM turn ORDER BY turn, place
    LOOP
        EXIT WHEN cardinality(v_claimed) >= p_limit;
        CONTINUE WHEN v_user = ANY (v_passed);
        v_id := NULL;
        IF p_hosted OR p_user_cap IS NULL
           OR unitask.lock_if_below_user_cap(v_user, p_run_type, p_user_cap, v_claimed = '{}' AND v_passed = '{}') THEN
            v_id := unitask.next_task(p_run_type, p_hosted, v_user, p_models, p_look_ahead, p_task_id, p_without,
                                       p_types);
        END IF;
        IF v_id IS NULL THEN
            v_passed := v_passed || v_user;
            CONTINUE;
        END IF;
        UPDATE tasks t
        SET status = 'Processing', lease_id = t.lease_id + 1, worker_id = p_worker_id,
            leased_until = clock_timestamp() + make_interval(secs => p_lease_seconds),
            claimed_at = clock_timestamp(), started_at = coalesce(t.started_at, clock_timestamp()),
            -- Attempts rise at claim, so that a task that kills its worker runs out of them. To host a parent again
            -- whose children are planted is no new attempt.
            attempt = t.attempt + CASE WHEN t.hosted AND EXISTS (
                SELECT FROM tasks c WHERE c.parent_task_id = t.id) THEN 0 ELSE 1 END
        WHERE t.id = v_id;
        v_claimed := v_claimed || v_id;
    END LOOP;

    RETURN QUERY
        SELECT t.id, t.task_type, t.project_id, t.run_type, t.params, t.asked, t.placement, t.model, t.parent_task_id, t.child_key,
               t.lease_id, t.attempt, t.max_attempts, coalesce(y.deadline_seconds, 3600),
               coalesce(t.flow_run_id, t.made_by_run_id),
               (SELECT coalesce(jsonb_object_agg(coalesce(s.child_key, s.id::text), jsonb_build_object(
                    'task_id', s.id, 'output_location', s.output_location, 'result', s.result)), '{}')
                FROM task_dependencies d JOIN tasks s ON s.id = d.depends_on WHERE d.task_id = t.id)
        FROM unnest(v_claimed) WITH ORDINALITY AS c(id)
        JOIN tasks t ON t.id = c.id
        LEFT JOIN task_types y ON y.name = t.task_type
        ORDER BY c.ordinality;
END $$;
