-- Mass issuance. What is decided of a job (started, finished, undone) is in the log; here is what is too large for it,
-- the users of its file, and how far the work is.

-- A file's rows, compressed, so that any process sends them. A job's chunks have its upload's id; those of an upload
-- that was cut off belong to no job, and are swept.
create table issuance_chunks (
    upload_id text        not null,
    kind      text        not null check (kind in ('accepted', 'rejected')),
    number    integer     not null,           -- from 1 without holes
    rows      integer     not null check (rows > 0),
    data      bytea       not null,           -- lines of JSON, zstd
    stored_at timestamptz not null default clock_timestamp(),
    primary key (upload_id, kind, number)
);
alter table issuance_chunks alter column data set storage external;

-- Jobs as the log knows them; each row changes only in the transaction of an event.
create table issuance_jobs (
    job_id      text        primary key,
    merchant_id text        not null,
    batch_id    text        not null,
    upload_id   text        not null unique,
    accepted    integer     not null,         -- rows that are asked of the ledger
    rejected    integer     not null,         -- rows that were no good from the beginning
    state       text        not null check (state in ('RUNNING', 'FINISHED', 'UNDOING', 'UNDONE')),
    undo_reason text,
    started_at  timestamptz not null,
    ended_at    timestamptz                   -- when it was finished, or undone to the end
);
create index issuance_jobs_newest on issuance_jobs (merchant_id, started_at desc, job_id desc);
create index issuance_jobs_of_batch on issuance_jobs (merchant_id, batch_id, started_at desc, job_id desc);
create index issuance_jobs_at_work on issuance_jobs (job_id) where state in ('RUNNING', 'UNDOING');

-- How far the work on a job is. The row is locked while a process works on the job, so that one does at a time, and
-- another goes on where it stood.
create table issuance_job_work (
    job_id      text        primary key,
    chunks_sent integer     not null default 0,
    sent        integer     not null default 0,
    undo_after  text,                         -- the last coupon that the undo looked at
    voided      integer     not null default 0,
    kept        integer     not null default 0,
    turn_at     timestamptz not null default clock_timestamp()  -- jobs take turns
) with (fillfactor = 50);

-- What became of its rows, counted in the transaction of the effects: '' for issued, otherwise the refusal's code.
create table issuance_job_outcomes (
    job_id   text        not null,
    code     text        not null,
    rows     integer     not null check (rows > 0),
    last_at  timestamptz not null default clock_timestamp(),
    primary key (job_id, code)
) with (fillfactor = 50);

-- Rows that got no coupon, and coupons that an undo could not void. A row that is here is settled.
create table issuance_job_failures (
    job_id    text    not null,
    row       integer not null,
    user_id   text    not null,
    code      text    not null,
    detail    text    not null,
    coupon_id text,                           -- of a coupon that was kept
    primary key (job_id, row)
);

grant select, insert, delete, update (stored_at) on issuance_chunks to coupon_ledger_app;  -- update: to lock them
grant select, insert, update on issuance_jobs, issuance_job_work, issuance_job_outcomes to coupon_ledger_app;
grant select, insert on issuance_job_failures to coupon_ledger_app;
