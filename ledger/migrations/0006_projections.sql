-- Where each version of each read model stands. It moves in the transaction of the rows.
create table projection_checkpoints (
    name       text        not null,
    version    integer     not null,
    position   bigint      not null default 0,
    state      text        not null default 'RUNNING' check (state in ('BUILDING', 'RUNNING', 'FAULTED')),
    fault      text,                           -- the error of the event after position, when FAULTED
    updated_at timestamptz not null default clock_timestamp(),
    primary key (name, version)
) with (fillfactor = 50);
