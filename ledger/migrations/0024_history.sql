-- Which users a coupon passed by: who gave it away, and with whom it was shared. The wallets know whose coupons are now;
-- with this the log itself says whose they were before. Both facts are rare, so the index is small, and most writes never
-- touch it. Two merchants may have the same user id; a line feed is in neither id.
create function users_passed(topic text, state bytea) returns text[] language plpgsql immutable parallel safe
cost 100000  -- the index has it ready, so no plan should work it out row by row
as $$
declare
    payload jsonb := convert_from(state, 'utf8');
begin
    if topic = 'coupon.transferred' then
        return array[(payload->>'merchant_id') || E'\n' || (payload->>'user_id')];
    end if;
    return array(select (payload->>'merchant_id') || E'\n' || friend
                   from jsonb_array_elements_text(payload->'with_user_ids') as friend);
end
$$;

create index events_users_passed on events using gin (users_passed(topic, state))
    with (fastupdate = off)  -- so that a reader never looks through entries that wait
 where topic in ('coupon.transferred', 'coupon.shared');
