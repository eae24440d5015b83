-- Why tasks that are Pending are not worked on: a row for each, with the first reason that holds.
--   dependency  another task must end first: the one that has come furthest
--   due         it may be claimed later, because it was planned so, or is tried again
--   provider    its provider takes no job now; p_limits has {type: {provider, concurrency, per_minute}} of such types
--   worker      no worker of its pool lives
--   cap         its user has as many running as one may have
--   turn        others are before it
CREATE FUNCTION unitask.why_waiting(
    p_ids unitask.ids, p_lease_seconds unitask.lease_seconds, p_user_cap unitask.count, p_limits unitask.object DEFAULT '{}'
)
RETURNS TABLE (
    id uuid, reason text, run_type text, seconds double precision, error text, other_id uuid, other_name text,
    other_status text, others bigint, provider text
)
LANGUAGE sql AS $$
    SELECT t.id,
           CASE WHEN t.deps_pending > 0 THEN 'dependency'
                WHEN full_for.seconds > 0 THEN 'provider'
                WHEN t.run_after > clock_timestamp() THEN 'due'
                WHEN NOT EXISTS (
                    SELECT FROM workers w WHERE w.run_type = t.run_type AND w.stopped_at IS NULL AND NOT w.drain
                      AND w.last_seen_at > clock_timestamp() - make_interval(secs => p_lease_seconds)) THEN 'worker'
                WHEN NOT t.hosted AND unitask.live_leases(t.user_id, t.run_type) >= p_user_cap THEN 'cap'
                ELSE 'turn' END,
           t.run_type, greatest(extract(epoch FROM t.run_after - clock_timestamp()), 0)::double precision,
           t.error_message, s.id, coalesce(s.child_key, s.task_type), s.status,
           -- Besides the one that is named.
           greatest(t.deps_pending - 1, 0)::bigint, p_limits -> t.task_type ->> 'provider'
    FROM tasks t
    LEFT JOIN LATERAL (
        SELECT o.id, o.child_key, o.task_type, o.status
        FROM task_dependencies d JOIN tasks o ON o.id = d.depends_on
        WHERE d.task_id = t.id AND NOT d.settled
        ORDER BY o.status = 'Processing' DESC, o.created_at, o.id LIMIT 1) s ON t.deps_pending > 0
    LEFT JOIN LATERAL (
        -- Asked inside the subquery: what is joined on a condition may be worked out before it.
        SELECT CASE WHEN p_limits ? t.task_type THEN unitask.provider_wait(
            unitask.provider_account(t.user_id, p_limits -> t.task_type ->> 'provider'),
            (p_limits -> t.task_type ->> 'concurrency')::integer,
            (p_limits -> t.task_type ->> 'per_minute')::integer) END AS seconds) full_for ON true
    WHERE t.id = ANY (p_ids) AND t.status = 'Pending'
$$;
