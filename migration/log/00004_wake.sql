-- Not at the price of everyone who queues up behind a long read: try again.
SET LOCAL lock_timeout = '2s';

CREATE FUNCTION wake_log_leader() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('staged_log_records', '');
    RETURN NULL;
END
$$;

-- Who stages takes the shared lock until the end of the transaction. The leader
-- sleeps only with the exclusive one: no writer then is at work unnoticed, and the
-- next one finds the lock taken and notifies. While the leader is awake nobody
-- does: notifications are committed one by one, for the whole server. Being a
-- condition, the lock costs a writer a quarter of what a function would.
CREATE TRIGGER staged_log_records_wake AFTER INSERT ON staged_log_records
    FOR EACH STATEMENT WHEN (NOT pg_try_advisory_xact_lock_shared(1970040680, 0))
    EXECUTE FUNCTION wake_log_leader();
