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
    headers        jsonb       not null,      -- [[name, base64 of the value], ...]
    message_time   timestamptz,
    reason         text        not null,      -- a refusal's code, or why the message could not be read
    detail         text        not null,
    dead_at        timestamptz not null default clock_timestamp(),
    published_at   timestamptz,               -- when the copy on <topic>.dlq was acknowledged
    settled_at     timestamptz,               -- when an operator retried it with success or discarded it
    settlement     text        check (settlement in ('retried', 'discarded')),
    settled_by     text,
    attempts       integer     not null default 1,
    unique (consumer_group, topic, partition, "offset")
);
create index dead_letters_unpublished on dead_letters (id) where published_at is null;
create index dead_letters_open on dead_letters (id) where settled_at is null;
