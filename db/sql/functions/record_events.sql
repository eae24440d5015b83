-- Write events, of which only project_id, task_id, kind and data are read.
--
-- A reader of several tasks resumes by id, but transactions commit in another order than they took their ids. So each
-- event says who could still bring a lower one: whoever had a transaction number when this id was taken, which is
-- whoever is below its horizon. When those have ended (horizon <= pg_snapshot_xmin(pg_current_snapshot())), all lower
-- ids are there to be seen, or never will be.
CREATE FUNCTION unitask.record_events(p_events task_events[]) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_ids bigint[];
BEGIN
    -- In a statement of its own, before the one whose snapshot gives the horizon: somebody who gets a number in between
    -- could take a lower id and be above the horizon.
    SELECT array_agg(nextval('task_events_id_seq')) INTO v_ids FROM generate_series(1, cardinality(p_events));
    INSERT INTO task_events (id, project_id, task_id, kind, data, horizon) OVERRIDING SYSTEM VALUE
    SELECT v_ids[e.ordinality], e.project_id, e.task_id, e.kind, e.data,
           pg_snapshot_xmax(pg_current_snapshot())::text::bigint
    FROM unnest(p_events) WITH ORDINALITY AS e;
END $$;
