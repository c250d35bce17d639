-- Redemption codes. They are secrets, so they are kept beside the log and not in it: the log can forget nothing, and
-- anybody may follow it. What is decided about them (generated, exported, revoked, exchanged) is in the log.

create table code_sets (
    codes_id    text    primary key,
    merchant_id text    not null,
    batch_id    text    not null,
    kind        text    not null check (kind in ('unique', 'generic', 'imported')),
    count       integer not null,
    stored      integer not null default 0,  -- how many of them are in codes: a job that was cut off goes on from here
    key_id      text    not null,            -- the server's key that they are hashed with
    salt        bytea,                       -- makes the codes, with that key; erased when they have been handed over
    first_export_at timestamptz,             -- their download began; it may be repeated for a while from then on
    constraint never_too_many check (stored between 0 and count)
);

-- A code is known by its keyed hash alone. It is in no set twice, and in no two sets of a merchant.
create table codes (
    merchant_id text  not null,
    code_hash   bytea not null check (octet_length(code_hash) = 16),
    codes_id    text  not null,
    primary key (merchant_id, code_hash)
);

-- Wrong codes that somebody typed, in a window of time. Who it was is a keyed hash of a user or an address.
create table code_misses (
    who            bytea       primary key,
    misses         integer     not null,
    window_ends_at timestamptz not null
) with (fillfactor = 70);

create index code_misses_ended on code_misses (window_ends_at);

grant select, insert, update on code_sets to coupon_ledger_app;
grant select, insert on codes to coupon_ledger_app;
grant select, insert, update, delete on code_misses to coupon_ledger_app;
