-- Groups are written first and looked at only when the tables refuse: most groups pass whole, and for them the checks
-- were half of the work.

-- The most that the user may have, so that the table itself refuses more; absent on rows of before.
-- They need no look (not valid), for they pass.
alter table user_quota add column most integer, add constraint never_over_limit check (issued <= most) not valid;

-- commit_group stays for processes of the previous release until they are replaced.

-- A group of units of work is written by one statement. Event columns come as text with one line a row (JSON text has no
-- raw line feed), which is several times cheaper to send than arrays; so do the quotas, of which every claim has one.
-- The other guards are JSON:
--
--   reads      streams that the decisions relied on, at these versions: those only read and those written further
--   requests   what is answered for ever
--   stock      coupons to take from batches
--   quota      coupons to count for users of batches, and the most that each may have
--   supply     new quantities of batches

-- Writes every unit and says after which position; or writes nothing and answers null, because a table refuses one of
-- them: a stream or request that is there, a share or stock that is used up. A request's ends is the place of its unit's
-- last event in the group, from 1. quota_once says that nobody may have more than one.
create function commit_whole_group(
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
    head bigint;
    r    record;
begin
    -- One writer at a time, until its commit is durable: insert order is commit order, which is what every follower
    -- of the log relies on. An advisory lock does this without blocking vacuum, analyze and index builds.
    perform pg_advisory_xact_lock('events'::regclass::oid::bigint);
    -- Positions follow the last one, so the log has no holes and a missing row shows.
    select coalesce(max(notification_id), 0) into head from events;
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
--   user_limit     a user would have more of a batch than allowed
--   sold_out       a batch has not that many left
--   below_issued   the new quantity is less than what is issued
--   again          it fails only because of units before it in this very group, which may yet fail
--
-- Refusals are rows, never exceptions, so a bad unit cannot fail its neighbours.
create function commit_unit_by_unit(
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
    reader    integer;
    r         record;
begin
    perform pg_advisory_xact_lock('events'::regclass::oid::bigint);
    perform pg_notify(current_schema() || '_events', '');
    select coalesce(max(notification_id), 0) into head from events;

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

    -- 3. The user's share, then the batch's stock.
    if guards ? 'quota' then
        for r in
            select q.unit, coalesce(s.issued, 0) + q.take > q.most as alone
              from (select *, sum(take) over (partition by batch_id, user_id order by g.unit) as running
                      from jsonb_to_recordset(guards->'quota')
                           as g (unit int, batch_id text, user_id text, take int, most int)
                     where verdicts[g.unit] is null) q
              left join lateral (select * from user_quota s
                                  where s.batch_id = q.batch_id and s.user_id = q.user_id limit 1) s on true
             where coalesce(s.issued, 0) + q.running > q.most
        loop
            verdicts[r.unit] := case when r.alone then 'user_limit' else coalesce(verdicts[r.unit], 'again') end;
        end loop;
    end if;
    if guards ? 'stock' then
        for r in
            select q.unit, coalesce(s.issued + q.take > s.quantity, true) as alone  -- no row, no stock
              from (select *, sum(take) over (partition by batch_id order by g.unit) as running
                      from jsonb_to_recordset(guards->'stock') as g (unit int, batch_id text, take int)
                     where verdicts[g.unit] is null) q
              left join lateral (select * from batch_stock s where s.batch_id = q.batch_id limit 1) s on true
             where coalesce(s.issued + q.running > s.quantity, true)
        loop
            verdicts[r.unit] := case when r.alone then 'sold_out' else coalesce(verdicts[r.unit], 'again') end;
        end loop;
    end if;
    if guards ? 'supply' then
        for r in
            select q.unit from jsonb_to_recordset(guards->'supply') as q (unit int, batch_id text, quantity bigint)
             cross join lateral (select * from batch_stock s where s.batch_id = q.batch_id limit 1) s
             where q.quantity < s.issued
        loop
            verdicts[r.unit] := coalesce(verdicts[r.unit], 'below_issued');
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
              from jsonb_to_recordset(guards->'stock') as q (unit int, batch_id text, take int)
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

revoke all on function commit_whole_group, commit_unit_by_unit from public;
grant execute on function commit_whole_group, commit_unit_by_unit to coupon_ledger_app;
