-- Events that a read model was made to pass over, and why. A rebuild or a replay of the same version passes over them
-- too; nothing is ever taken out of here.
create table projection_skips (
    id         bigint      generated always as identity primary key,
    name       text        not null,
    version    integer     not null,
    position   bigint      not null,
    topic      text,                          -- null where the log has no such row
    reason     text        not null check (reason <> ''),
    actor      text        not null,
    skipped_at timestamptz not null default clock_timestamp()
);

-- The table that each read model had before its last rebuild, <name>_v<version>_before: it stands still where it was,
-- until it is put back or dropped.
create table projections_before (
    name       text        primary key,
    version    integer     not null,
    position   bigint      not null,
    kept_at    timestamptz not null default clock_timestamp()
);

grant select, insert on projection_skips to coupon_ledger_projector;
grant select, insert, update, delete on projections_before to coupon_ledger_projector;
grant select on projection_skips, projections_before to coupon_ledger_app;
