-- Limits by day, person, budget and live locks. Days and persons are owners of shares, and budgets are stock, under keys
-- that no id can be (ledger/limits.py), so the tables of before hold them; what is held at once has a table of its own.
--
-- Both functions are replaced under their names and with their arguments. For what a process of the previous release
-- sends, which names no holds and takes no money, they do what they did; and a refusal's answer, which is new, it leaves
-- unread. So it may go on beside this one. It never issues from a batch with the new limits, because it refuses to read
-- the event that planned it.

-- That of two releases ago, which 0008 left for the processes of the one before it.
drop function commit_group;

-- What users hold of templates that limit it: kept until the hold is let go, and worth nothing after its end.
create table user_holds (
    coupon_id text        primary key,
    owner     text        not null,  -- merchant, space, template, space, user
    ends_at   timestamptz not null
);
create index user_holds_owner on user_holds (owner);
grant select on user_holds to coupon_ledger_app, coupon_ledger_projector;

-- Writes what one unit holds and lets go of the rest of what it touches; or writes nothing and answers false, because an
-- owner would hold more than the most that a lock names. Look-ups go by arrays, which no plan joins by reading the table.
create function take_holds(locks jsonb, touched jsonb, clock timestamptz) returns boolean
language plpgsql
set search_path from current
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
begin
    perform from jsonb_to_recordset(locks) as l (owner text, most int)
      group by l.owner
     having count(*) + (select count(*) from user_holds h
                         where h.owner = l.owner and h.ends_at > clock and not touched ? h.coupon_id) > min(l.most);
    if found then
        return false;
    end if;
    delete from user_holds where coupon_id = any(array(select jsonb_array_elements_text(touched)));
    delete from user_holds
     where owner = any(array(select l.owner from jsonb_to_recordset(locks) as l (owner text))) and ends_at <= clock;
    insert into user_holds (coupon_id, owner, ends_at)
    select coupon_id, owner, ends_at
      from jsonb_to_recordset(locks) as l (coupon_id text, owner text, ends_at timestamptz)
     where ends_at > clock;
    return true;
end
$$;
revoke all on function take_holds from public;

-- As in 0008, and more of guards:
--
--   stock      also of budgets, in minor units
--   supply     also of budgets
--   holds      what a unit locks (coupon, owner, end, the most of the owner) and every coupon that it locks or lets go
--
-- Writes every unit and says after which position; or writes nothing and answers null, because a table refuses one of
-- them: a stream or request that is there, a share or stock that is used up, a hold too many. A request's ends is the
-- place of its unit's last event in the group, from 1. quota_once says that nobody may have more than one.
create or replace function commit_whole_group(
    event_streams text, event_versions text, event_topics text, event_states text,
    quota_batches text, quota_users text, quota_takes text, quota_mosts text, quota_once boolean, guards jsonb
) returns bigint
language plpgsql security definer
set search_path from current
set enable_seqscan = off  -- a plan made while a table was empty must not outlive its growth
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    head  bigint;
    clock timestamptz;
    r     record;
begin
    -- One writer at a time, until its commit is durable: insert order is commit order, which is what every follower
    -- of the log relies on. An advisory lock does this without blocking vacuum, analyze and index builds.
    perform pg_advisory_xact_lock('events'::regclass::oid::bigint);
    -- Positions follow the last one, so the log has no holes and a missing row shows.
    select coalesce(max(notification_id), 0) into head from events;
    clock := clock_timestamp();  -- after the wait for other writers, as holds end while one waits
    begin
        if guards ? 'reads' then
            perform from jsonb_to_recordset(guards->'reads') as q (stream text, version bigint)
              left join lateral (select max(originator_version) as version from events
                                  where originator_id = q.stream) s on true
             where s.version is distinct from q.version;
            if found then
                return null;
            end if;
        end if;
        if guards ? 'requests' then
            insert into requests (merchant_id, request_id, body_hash, answer, position)
            select merchant_id, request_id, body_hash, q.answer, head + ends
              from jsonb_to_recordset(guards->'requests')
                   as q (merchant_id text, request_id text, body_hash text, answer text, ends int);
        end if;
        if guards ? 'supply' then
            insert into batch_stock (batch_id, quantity)
            select batch_id, quantity from jsonb_to_recordset(guards->'supply') as q (batch_id text, quantity bigint)
            on conflict (batch_id) do update set quantity = excluded.quantity;
        end if;
        if guards ? 'stock' then
            for r in
                select key as batch_id, value::bigint as take from jsonb_each_text(guards->'stock')
            loop
                update batch_stock set issued = issued + r.take where batch_id = r.batch_id;
                if not found then
                    raise check_violation using message = 'a batch has no stock';
                end if;
            end loop;
        end if;
        if quota_users <> '' then
            if quota_once then
                -- Whoever may have one coupon and has a row has had it, so a row that is there refuses.
                insert into user_quota (batch_id, user_id, issued, most)
                select * from unnest(string_to_array(quota_batches, E'\n'), string_to_array(quota_users, E'\n'),
                                     string_to_array(quota_takes, ' ')::int[], string_to_array(quota_mosts, ' ')::int[]);
            else
                insert into user_quota as s (batch_id, user_id, issued, most)
                select * from unnest(string_to_array(quota_batches, E'\n'), string_to_array(quota_users, E'\n'),
                                     string_to_array(quota_takes, ' ')::int[], string_to_array(quota_mosts, ' ')::int[])
                on conflict (batch_id, user_id) do update set issued = s.issued + excluded.issued, most = excluded.most;
            end if;
        end if;
        if guards ? 'holds' then
            for r in
                select locks, touched from jsonb_to_recordset(guards->'holds') as q (locks jsonb, touched jsonb)
            loop
                if not take_holds(r.locks, r.touched, clock) then
                    raise check_violation using message = 'a user holds too many coupons';
                end if;
            end loop;
        end if;
        insert into events (originator_id, originator_version, topic, state, notification_id)
        select stream, version, topic, convert_to(state, 'utf8'), head + n
          from unnest(string_to_array(event_streams, E'\n'), string_to_array(event_versions, ' ')::bigint[],
                      string_to_array(event_topics, E'\n'), string_to_array(event_states, E'\n'))
               with ordinality as e (stream, version, topic, state, n);
        -- A hint for followers, once a group; they poll anyway.
        perform pg_notify(current_schema() || '_events', '');
        return head;
    exception when unique_violation or check_violation then return null;  -- undone; somebody is to be refused
    end;
end
$$;

-- Finds out which units must be refused, and writes the others. A unit is one number, which its events and guards carry;
-- its verdict is
--
--   done           written; position is that of the unit's last event
--   replayed       the same request was answered before; answer and position are the first ones
--   reused         the same request id came before with another body
--   exists         a stream that the unit wants to begin is already there
--   conflict       a stream has another version than the unit was decided on
--   user_limit     a share is used up: of a user, a day, a person, a receipt or a code
--   sold_out       a batch, or its budget, has not that much left
--   below_issued   the new quantity or budget is less than what is issued
--   lock_limit     a user would hold more coupons at once than allowed
--   again          it fails only because of units before it in this very group, which may yet fail
--
-- Of the first three the answer names the guard that had no room, {"batch_id": ..., "owner": ...}: of several the one
-- that the unit names first, so that the same request hears the same refusal.
--
-- Refusals are rows, never exceptions, so a bad unit cannot fail its neighbours.
create or replace function commit_unit_by_unit(
    event_units text, event_streams text, event_versions text, event_topics text, event_states text,
    unit_count integer, guards jsonb
) returns table (unit integer, verdict text, answer text, "position" bigint)
language plpgsql security definer
set search_path from current
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    verdicts  text[] := array_fill(null::text, array[unit_count]);
    answers   text[] := array_fill(null::text, array[unit_count]);
    positions bigint[] := array_fill(null::bigint, array[unit_count]);
    head      bigint;
    clock     timestamptz;
    reader    integer;
    r         record;
begin
    perform pg_advisory_xact_lock('events'::regclass::oid::bigint);
    perform pg_notify(current_schema() || '_events', '');
    select coalesce(max(notification_id), 0) into head from events;
    clock := clock_timestamp();

    -- 1. Requests that were answered before.
    if guards ? 'requests' then
        for r in
            select q.unit, s.answer, s.position, s.body_hash = q.body_hash as same
              from jsonb_to_recordset(guards->'requests')
                   as q (unit int, merchant_id text, request_id text, body_hash text)
             cross join lateral (select * from requests s
                                  where s.merchant_id = q.merchant_id and s.request_id = q.request_id limit 1) s
        loop
            verdicts[r.unit] := case when r.same then 'replayed' else 'reused' end;
            answers[r.unit] := case when r.same then r.answer end;
            positions[r.unit] := case when r.same then r.position end;
        end loop;
    end if;

    -- 2. Streams that are there already, and those that moved since the unit was decided.
    for r in
        select distinct e.unit
          from unnest(string_to_array(event_units, ' ')::int[], string_to_array(event_streams, E'\n'),
                      string_to_array(event_versions, ' ')::bigint[]) as e (unit, stream, version)
         where e.version = 1 and exists (select from events s where s.originator_id = e.stream)
    loop
        verdicts[r.unit] := coalesce(verdicts[r.unit], 'exists');
    end loop;
    if guards ? 'reads' then
        for r in
            select q.units
              from jsonb_to_recordset(guards->'reads') as q (stream text, version bigint, units text)
              left join lateral (select max(originator_version) as version from events
                                  where originator_id = q.stream) s on true
             where s.version is distinct from q.version
        loop
            foreach reader in array string_to_array(r.units, ' ')::int[] loop
                verdicts[reader] := coalesce(verdicts[reader], 'conflict');
            end loop;
        end loop;
    end if;

    -- 3. Shares of users, days and others, then stock, then what is held at once.
    if guards ? 'quota' then
        for r in
            select q.unit, q.batch_id, q.user_id, coalesce(s.issued, 0) + q.take > q.most as alone
              from (select *, sum(take) over (partition by batch_id, user_id order by g.unit) as running
                      from rows from (jsonb_to_recordset(guards->'quota')
                                      as (unit int, batch_id text, user_id text, take int, most int))
                           with ordinality as g (unit, batch_id, user_id, take, most, place)
                     where verdicts[g.unit] is null) q
              left join lateral (select * from user_quota s
                                  where s.batch_id = q.batch_id and s.user_id = q.user_id limit 1) s on true
             where coalesce(s.issued, 0) + q.running > q.most
             order by q.place
        loop
            if not r.alone then
                verdicts[r.unit] := coalesce(verdicts[r.unit], 'again');
            elsif answers[r.unit] is null then
                verdicts[r.unit] := 'user_limit';
                answers[r.unit] := jsonb_build_object('batch_id', r.batch_id, 'owner', r.user_id);
            end if;
        end loop;
    end if;
    if guards ? 'stock' then
        for r in
            select q.unit, q.batch_id, coalesce(s.issued + q.take > s.quantity, true) as alone  -- no row, no stock
              from (select *, sum(take) over (partition by batch_id order by g.unit) as running
                      from rows from (jsonb_to_recordset(guards->'stock') as (unit int, batch_id text, take bigint))
                           with ordinality as g (unit, batch_id, take, place)
                     where verdicts[g.unit] is null) q
              left join lateral (select * from batch_stock s where s.batch_id = q.batch_id limit 1) s on true
             where coalesce(s.issued + q.running > s.quantity, true)
             order by q.place
        loop
            if not r.alone then
                verdicts[r.unit] := coalesce(verdicts[r.unit], 'again');
            elsif answers[r.unit] is null then
                verdicts[r.unit] := 'sold_out';
                answers[r.unit] := jsonb_build_object('batch_id', r.batch_id);
            end if;
        end loop;
    end if;
    if guards ? 'supply' then
        for r in
            select q.unit, q.batch_id
              from jsonb_to_recordset(guards->'supply') as q (unit int, batch_id text, quantity bigint)
             cross join lateral (select * from batch_stock s where s.batch_id = q.batch_id limit 1) s
             where q.quantity < s.issued and verdicts[q.unit] is null
        loop
            verdicts[r.unit] := 'below_issued';
            answers[r.unit] := jsonb_build_object('batch_id', r.batch_id);
        end loop;
    end if;
    if guards ? 'holds' then
        -- The last check of all, so what passes is written at once and the units after it count with it.
        for r in
            select q.unit, q.locks, q.touched
              from jsonb_to_recordset(guards->'holds') as q (unit int, locks jsonb, touched jsonb)
             where verdicts[q.unit] is null
             order by q.unit
        loop
            if not take_holds(r.locks, r.touched, clock) then
                verdicts[r.unit] := 'lock_limit';
            end if;
        end loop;
    end if;

    -- 4. Write what passed.
    insert into events (originator_id, originator_version, topic, state, notification_id)
    select stream, v, topic, convert_to(state, 'utf8'), head + row_number() over (order by n)
      from unnest(string_to_array(event_units, ' ')::int[], string_to_array(event_streams, E'\n'),
                  string_to_array(event_versions, ' ')::bigint[], string_to_array(event_topics, E'\n'),
                  string_to_array(event_states, E'\n')) with ordinality as e (u, stream, v, topic, state, n)
     where verdicts[u] is null
     order by n;
    for r in
        select u, head + sum(count(*)) over (order by u) as last_position  -- a unit's events lie together
          from unnest(string_to_array(event_units, ' ')::int[]) as u
         where verdicts[u] is null
         group by u
    loop
        positions[r.u] := r.last_position;
    end loop;

    if guards ? 'supply' then
        insert into batch_stock as s (batch_id, quantity)
        select q.batch_id, q.quantity
          from jsonb_to_recordset(guards->'supply') as q (unit int, batch_id text, quantity bigint)
         where verdicts[q.unit] is null
        on conflict (batch_id) do update set quantity = excluded.quantity;
    end if;
    if guards ? 'quota' then
        insert into user_quota as s (batch_id, user_id, issued, most)
        select batch_id, user_id, sum(take), max(q.most)
          from jsonb_to_recordset(guards->'quota') as q (unit int, batch_id text, user_id text, take int, most int)
         where verdicts[q.unit] is null
         group by batch_id, user_id
        on conflict (batch_id, user_id) do update set issued = s.issued + excluded.issued, most = excluded.most;
    end if;
    if guards ? 'stock' then
        for r in
            select batch_id, sum(take) as take
              from jsonb_to_recordset(guards->'stock') as q (unit int, batch_id text, take bigint)
             where verdicts[q.unit] is null
             group by batch_id
        loop
            update batch_stock set issued = issued + r.take where batch_id = r.batch_id;
        end loop;
    end if;
    if guards ? 'requests' then
        insert into requests (merchant_id, request_id, body_hash, answer, position)
        select merchant_id, request_id, body_hash, q.answer, coalesce(positions[q.unit], head)
          from jsonb_to_recordset(guards->'requests')
               as q (unit int, merchant_id text, request_id text, body_hash text, answer text)
         where verdicts[q.unit] is null;
    end if;

    return query
        select n::int, coalesce(verdicts[n], 'done'), answers[n], coalesce(positions[n], head)
          from generate_series(1, unit_count) as n;
end
$$;
