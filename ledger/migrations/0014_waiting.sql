-- Messages that came before what they need, exactly as they came. Each is tried again, in the order of its key, until it
-- has its effect or its time is over; then it is a dead letter.
create table waiting_messages (
    consumer_group text        not null,
    topic          text        not null,
    partition      integer     not null,
    key            bytea       not null,
    "offset"       bigint      not null,
    value          bytea,
    headers        json        not null,      -- as in dead_letters
    message_time   timestamptz,
    business_time  text        not null check (business_time in ('live', 'message')),
    reason         text        not null,      -- why it could have no effect when it was last tried
    detail         text        not null,
    waits_since    timestamptz not null default clock_timestamp(),
    waits_until    timestamptz not null,
    next_try_at    timestamptz not null,
    attempts       integer     not null default 1,
    primary key (consumer_group, topic, partition, key, "offset")
);
create index waiting_messages_due on waiting_messages (consumer_group, topic, partition, next_try_at);

-- How far each partition goes, as its consumer saw it last, so that everybody can tell the lag from the database.
alter table kafka_offsets
    add column end_offset bigint,
    add column seen_at    timestamptz;

-- Open dead letters are counted without looking at those that were settled.
create index dead_letters_open_by_reason on dead_letters (topic, consumer_group, partition, reason)
    where settled_at is null;

grant select, insert, update, delete on waiting_messages to coupon_ledger_app;
