-- What was said of each reminder, beside the log: the read model of reminders holds those that are still to be sent.

-- Reminders whose messages a broker has acknowledged. The read model never holds what is here, whoever folds it again.
create table reminders_sent (
    merchant_id text        not null,
    user_id     text        not null,
    batch_id    text        not null,
    notify_day  date        not null,
    type        text        not null,
    ends_at     timestamptz not null,   -- when what it is about is over, and nobody would be told any more
    primary key (merchant_id, user_id, batch_id, notify_day, type)
);
create index reminders_sent_over on reminders_sent (ends_at);

-- Reminders that the user was told of. The same message, sent or delivered again, finds its row.
create table reminders_told (
    reminder_id text        primary key,
    ends_at     timestamptz not null
);
create index reminders_told_over on reminders_told (ends_at);

-- The scanner takes the projector's role, for it removes rows of a read model; it needs no right to write events.
grant select, insert, delete on reminders_sent to coupon_ledger_projector;
grant select, delete on reminders_told to coupon_ledger_projector;
grant select on reminders_sent to coupon_ledger_app;
grant select, insert on reminders_told to coupon_ledger_app;
