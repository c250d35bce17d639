-- Analysts ask with SQL of their own. They log in themselves, with a role each that is a member of coupon_ledger_analyst,
-- and see what the views of one schema show of the merchants that they are named for here.

-- A login is known by its role and not by its name, so a new role of an old name sees nothing of what that one saw.
create table analysts (
    login       regrole not null,
    merchant_id text    not null,
    primary key (login, merchant_id)
);

-- The merchants of whoever is logged in: of the session's own user, which no session may change.
create function analyst_merchants() returns text[]
language sql stable security definer
set search_path from current
as $$
select coalesce(array_agg(merchant_id), '{}') from analysts
 where login = (select oid from pg_roles where rolname = session_user)
$$;

-- The schema of the views: "analytics" beside a ledger in "coupon_ledger", and "<name>_analytics" beside any other.
-- A name that would be longer than 63 bytes, which PostgreSQL would cut, is made short by its digest.
create function analytics_schema() returns text
language sql stable
set search_path from current
as $$
select case when current_schema() = 'coupon_ledger' then 'analytics'
            when octet_length(current_schema()) <= 53 then current_schema() || '_analytics'
            else 'analytics_' || md5(current_schema())
       end
$$;

do $$
declare
    analytics text := analytics_schema();
begin
    begin
        create role coupon_ledger_analyst nologin;
    exception when duplicate_object or unique_violation then null;  -- another ledger made it
    end;
    execute format('create schema if not exists %I authorization coupon_ledger_projector', analytics);
    if (select nspowner from pg_namespace where nspname = analytics) <> 'coupon_ledger_projector'::regrole then
        raise exception 'the schema "%" is somebody else''s, and analysts'' views would be made there', analytics
            using errcode = 'duplicate_schema', hint = 'Rename it, or name the ledger''s own schema otherwise.';
    end if;
    execute format('grant usage on schema %I to coupon_ledger_analyst', analytics);
end
$$;

-- Of what each view was made: its statements, and the tables that they read. One that is as it should be is left alone,
-- for to make it again waits for everybody who reads it.
create table analytics_views (
    name   text primary key,
    digest text not null
);
grant select, insert, update on analytics_views to coupon_ledger_projector;

-- They name nothing in the ledger's own schema: it is not opened to them, and the views read its tables all the same.
revoke all on function analyst_merchants from public;
grant execute on function analyst_merchants, analytics_schema to coupon_ledger_analyst, coupon_ledger_projector;

-- Returns are few, and analysts ask for their reasons, which only the events say.
create index events_returns on events (notification_id) where topic in ('coupon.returned', 'coupon.credited');
