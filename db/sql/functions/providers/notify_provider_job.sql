-- A provider says by webhook that one of its jobs has news: wake whoever waits for it, to look there for the truth.
-- Answers whether that account has such a job. Nothing is stored, so repeated and late webhooks do no harm.
CREATE FUNCTION unitask.notify_provider_job(p_account unitask.account, p_job_id unitask.name) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    v_job provider_jobs;
BEGIN
    SELECT * INTO v_job FROM provider_jobs
    WHERE provider = split_part(p_account, '/', 1) AND job_id = p_job_id AND account = p_account;
    IF v_job.ended_at IS NULL AND v_job.id IS NOT NULL THEN
        PERFORM pg_notify('unitask_provider_jobs', v_job.id::text);
    END IF;
    RETURN v_job.id IS NOT NULL;
END $$;
