-- Where each consumer group stands. The row moves in the transaction of the effects, so a redelivered message finds
-- its offset passed, and a consumer that lost its partition finds the row moved.
create table kafka_offsets (
    consumer_group text    not null,
    topic          text    not null,
    partition      integer not null,
    next_offset    bigint  not null,
    primary key (consumer_group, topic, partition)
) with (fillfactor = 50);

-- Messages that could not be decoded or applied, exactly as they came.
create table dead_letters (
    id             bigint      generated always as identity primary key,
    consumer_group text        not null,
    topic          text        not null,
    partition      integer     not null,
    "offset"       bigint      not null,
    key            bytea,
    value          bytea,
    headers        json        not null,      -- [[name, base64 of the value or null], ...]; jsonb refuses some names
    message_time   timestamptz,
    business_time  text        not null check (business_time in ('live', 'message')),  -- how the group reads time
    reason         text        not null,      -- a refusal's code, or why the message could not be read
    detail         text        not null,
    dead_at        timestamptz not null default clock_timestamp(),
    published_at   timestamptz,               -- when the copy on <topic>.dlq was acknowledged
    settled_at     timestamptz,               -- when an operator retried it with success or discarded it
    settlement     text        check (settlement in ('retried', 'discarded')),
    settled_by     text,
    settlement_note text,                     -- why it was discarded
    attempts       integer     not null default 1,
    unique (consumer_group, topic, partition, "offset"),
    constraint settled_whole check (num_nulls(settled_at, settlement, settled_by) in (0, 3))
);
create index dead_letters_unpublished on dead_letters (consumer_group, id) where published_at is null;
create index dead_letters_open on dead_letters (id) where settled_at is null;
