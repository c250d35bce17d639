-- Messages to users and to other systems. They are kept beside the log: they hold addresses and secrets, which must be
-- erasable, and what was said to whom decides nothing about a coupon.

-- Where a merchant is told of things: a web server that takes webhooks, or an e-mail address.
create table channels (
    channel_id       text        primary key,
    merchant_id      text        not null,
    owner            text        not null,               -- the actor who registered it, as events name actors
    name             text        not null,
    kind             text        not null check (kind in ('webhook', 'email')),
    target           text,                               -- the URL or address; null: the user's own contact address
    wants            text[]      not null,               -- topics of events, and the words 'alert' and 'reminder'
    after_position   bigint      not null,               -- of events, it is told of later ones only
    secret           text,                               -- webhooks are signed with it, so it is kept as it is
    secret_request   text,                               -- the request that made it, whose repeat is shown it again
    old_secret       text,                               -- signs beside the new one until the receiver has changed over
    old_secret_until timestamptz,
    created_at       timestamptz not null default clock_timestamp(),
    reached_at       timestamptz,                        -- something was taken there, told once an hour
    disabled_at      timestamptz,                        -- its receiver is gone
    deleted_at       timestamptz,                        -- and target and secrets erased
    constraint signed check (kind <> 'webhook' or deleted_at is not null or num_nulls(target, secret) = 0)
);
create index channels_live on channels (merchant_id) where disabled_at is null and deleted_at is null;
create index channels_listed on channels (merchant_id, channel_id) where deleted_at is null;

-- What is to be sent on a channel, once for its key. A row that was sent stays without its body, so that the same key
-- is never sent again.
create table deliveries (
    delivery_id bigint      generated always as identity primary key,
    key         text        not null unique,
    channel_id  text        not null references channels,
    merchant_id text        not null,
    type        text        not null,
    user_id     text,
    body        json,
    state       text        not null default 'due' check (state in ('due', 'sent', 'dead', 'dropped')),
    attempts    integer     not null default 0,          -- begun ones; who settles one must name its number
    due_at      timestamptz not null default clock_timestamp(),  -- of one that is being sent, when another may take it
    created_at  timestamptz not null default clock_timestamp(),
    settled_at  timestamptz,
    error       text,                                    -- what the last attempt failed with
    constraint settled_whole check ((state = 'due') = (settled_at is null)),
    constraint sendable check (state not in ('due', 'dead') or body is not null)
) with (fillfactor = 80);
create index deliveries_due on deliveries (channel_id, due_at) where state = 'due';
create index deliveries_dead on deliveries (merchant_id, delivery_id) where state = 'dead';

-- A user's e-mail address: personal data, and the only place where it is.
create table contacts (
    merchant_id text        not null,
    user_id     text        not null,
    email       text        not null,
    updated_at  timestamptz not null default clock_timestamp(),
    primary key (merchant_id, user_id)
);

-- What messages say, once for all who get them.
create table messages (
    message_no   bigint      generated always as identity primary key,
    merchant_id  text        not null,
    message_key  text        not null,
    message_id   text        not null,                   -- as callers know it
    kind         text        not null,
    to_all       boolean     not null,
    title        text        not null check (char_length(title) between 1 and 200),
    body         text        not null check (char_length(body) <= 10000),
    sent_at      timestamptz not null default clock_timestamp(),
    expires_at   timestamptz not null,
    withdrawn_at timestamptz,
    unique (merchant_id, message_key),
    unique (merchant_id, message_id)
);
create index messages_to_all on messages (merchant_id, message_no) where to_all;
create index messages_of_operators on messages (merchant_id, message_no) where kind = 'message';
create index messages_expired on messages (expires_at);

-- A named user's message, and the broadcasts that a user has read: nothing of users who never look. There is no foreign
-- key, for its check would have all who read a broadcast lock that one row.
create table user_messages (
    merchant_id text   not null,
    user_id     text   not null,
    message_no  bigint not null,
    read_at     timestamptz,
    primary key (merchant_id, user_id, message_no)
) with (fillfactor = 90);
create index user_messages_unread on user_messages (merchant_id, user_id, message_no) where read_at is null;
create index user_messages_of on user_messages (message_no);

-- Since when a user is there, where somebody said so: broadcasts of before are not for that user.
create table inbox_users (
    merchant_id text        not null,
    user_id     text        not null,
    joined_at   timestamptz not null,
    primary key (merchant_id, user_id)
);

grant select, insert, update on channels, deliveries to coupon_ledger_app;
grant select, insert, update, delete on contacts, messages, user_messages to coupon_ledger_app;
grant select, insert on inbox_users to coupon_ledger_app;
