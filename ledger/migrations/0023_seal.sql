-- The seal: a Merkle tree over the log in the order of positions, built by a process of its own. The tree's tiles are
-- plain files; here is what was signed about it. Nobody but the sealer's role adds to it, and nobody changes it.
do $$
begin
    begin
        create role coupon_ledger_sealer nologin;
    exception when duplicate_object or unique_violation then null;  -- another ledger made it
    end;
    grant coupon_ledger_sealer to current_user;
    execute format('grant usage on schema %I to coupon_ledger_sealer', current_schema());
end
$$;

create function refuse_reseal() returns trigger language plpgsql as $$
begin
    raise exception 'what was sealed stays as it is' using errcode = 'insufficient_privilege';
end
$$;

-- The public halves of the keys that signed, as the sealer knew them. An auditor has them from elsewhere.
create table seal_keys (
    vkey       text        primary key,   -- name+hash+base64: c2sp.org/signed-note
    first_size bigint      not null,      -- of the first checkpoint that it signed
    added_at   timestamptz not null default clock_timestamp()
);

-- Each checkpoint says: these were the first events of the log. It covers the positions 1 to size.
create table checkpoints (
    size      bigint      primary key check (size > 0),
    root      bytea       not null check (octet_length(root) = 32),
    note      text        not null,       -- the signed note: c2sp.org/tlog-checkpoint
    vkey      text        not null references seal_keys,
    signed_at timestamptz not null default clock_timestamp()
);

-- A later checkpoint covers more. The index answers whether one is there that covers as much.
create function refuse_older_checkpoint() returns trigger language plpgsql
set search_path from current
as $$
begin
    if exists (select from checkpoints where size >= new.size) then
        raise exception 'a checkpoint of % events or more was signed before', new.size
            using errcode = 'integrity_constraint_violation';
    end if;
    return new;
end
$$;
create trigger checkpoints_grow before insert on checkpoints
    for each row execute function refuse_older_checkpoint();

-- What witnesses signed about checkpoints, as lines to be put under the note.
create table cosignatures (
    size        bigint      not null references checkpoints,
    place       text        not null,
    lines       text        not null,
    received_at timestamptz not null default clock_timestamp(),
    primary key (size, place)
);

do $$
declare
    name text;
begin
    foreach name in array array['seal_keys', 'checkpoints', 'cosignatures'] loop
        execute format('create trigger %I before update or delete on %I for each row execute function refuse_reseal()',
                       name || '_append_only', name);
        execute format('create trigger %I before truncate on %I for each statement execute function refuse_reseal()',
                       name || '_no_truncate', name);
    end loop;
end
$$;

-- Where else checkpoints were put, by the settings of the sealer that ran last.
create table seal_anchors (
    place       text        primary key,
    size        bigint      not null default 0,   -- of the newest checkpoint that it has
    anchored_at timestamptz,
    error       text,                             -- of the newest attempt, when it failed
    tried_at    timestamptz
) with (fillfactor = 50);

-- How the sealer is. It stops for good when the log is not what was sealed.
create table seal_standing (
    one        boolean     primary key default true check (one),
    state      text        not null check (state in ('RUNNING', 'STOPPED')),
    fault      text,
    updated_at timestamptz not null default clock_timestamp()
) with (fillfactor = 50);

grant select on events to coupon_ledger_sealer;
grant select, insert on seal_keys, checkpoints, cosignatures to coupon_ledger_sealer;
grant select, insert, update, delete on seal_anchors, seal_standing to coupon_ledger_sealer;
grant select on seal_keys, checkpoints, cosignatures, seal_anchors, seal_standing to coupon_ledger_app;
