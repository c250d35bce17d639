-- Where each follower of the log stands that is no read model, such as the publisher. Its row is locked while it works
-- on a chunk, so of several processes one follows, and one that was cut off cannot move the position any more.
create table followers (
    name       text        primary key,
    position   bigint      not null default 0,   -- the last event that it is done with
    updated_at timestamptz not null default clock_timestamp()
) with (fillfactor = 50);

grant select, insert, update on followers to coupon_ledger_app;
grant select on followers to coupon_ledger_projector;
