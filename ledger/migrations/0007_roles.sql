-- Roles are cluster-wide and shared by every ledger in it; each is granted only this schema's things.
--   coupon_ledger_app        decides and writes: reads everything, writes events only through commit_group
--   coupon_ledger_projector  owns the read models' tables, which the app role only reads
do $$
declare
    name text;
begin
    foreach name in array array['coupon_ledger_app', 'coupon_ledger_projector'] loop
        begin
            execute format('create role %I nologin', name);
        exception when duplicate_object or unique_violation then null;  -- another ledger made it
        end;
        execute format('grant %I to current_user', name);
        execute format('grant usage on schema %I to %I', current_schema(), name);
    end loop;
    execute format('grant create on schema %I to coupon_ledger_projector', current_schema());
    execute format('alter default privileges for role coupon_ledger_projector in schema %I '
                   'grant select on tables to coupon_ledger_app', current_schema());
end
$$;

revoke all on function commit_group from public;
grant execute on function commit_group to coupon_ledger_app;
grant select on events, event_log, batch_stock, user_quota, requests to coupon_ledger_app, coupon_ledger_projector;
grant select, insert, update on kafka_offsets, dead_letters to coupon_ledger_app;
grant select, insert, update on api_keys to coupon_ledger_app;
grant select on projection_checkpoints to coupon_ledger_app;
grant select, insert, update, delete on projection_checkpoints to coupon_ledger_projector;
