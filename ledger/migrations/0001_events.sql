-- The log. One row is one event; its columns are those of the eventsourcing library's recorder, plus recorded_at.
create table events (
    originator_id      text        not null,
    originator_version bigint      not null,
    topic              text        not null,
    state              bytea       not null,
    notification_id    bigint      not null,  -- the position: from 1, without holes, in order of commit
    recorded_at        timestamptz not null default clock_timestamp(),
    primary key (originator_id, originator_version)
) with (autovacuum_vacuum_insert_scale_factor = 0.5);

create unique index events_position on events (notification_id);

-- History is append-only by trigger too, so that not even the owner rewrites it by accident.
create function refuse_rewrite() returns trigger language plpgsql as $$
begin
    raise exception 'the event log is append-only' using errcode = 'insufficient_privilege';
end
$$;

create trigger events_append_only before update or delete on events
    for each row execute function refuse_rewrite();
create trigger events_no_truncate before truncate on events
    for each statement execute function refuse_rewrite();

-- The log as a person reads it.
create view event_log with (security_invoker = true) as
    select notification_id as position, recorded_at, originator_id as stream, originator_version as version, topic,
           convert_from(state, 'utf8')::jsonb as payload
      from events;
