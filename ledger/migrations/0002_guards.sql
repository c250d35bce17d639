-- Guards: what must be true across streams, changed only by commit_group in the transaction of the events.
-- They are derived: every row can be computed again from the log.

-- What each batch may still issue.
create table batch_stock (
    batch_id text   primary key,
    quantity bigint not null,
    issued   bigint not null default 0,
    constraint never_over_issued check (issued between 0 and quantity)
) with (fillfactor = 50);

-- What each user already got of a batch that limits it.
create table user_quota (
    batch_id text    not null,
    user_id  text    not null,
    issued   integer not null check (issued > 0),
    primary key (batch_id, user_id)
) with (fillfactor = 90);

-- One row for each request that had an effect: its answer is given again for ever.
create table requests (
    merchant_id text   not null,
    request_id  text   not null,
    body_hash   text   not null,
    answer      text   not null,
    position    bigint not null,
    primary key (merchant_id, request_id)
);
