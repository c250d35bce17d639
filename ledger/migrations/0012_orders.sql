-- Which coupons an order ever locked, found in the log itself: every use follows a lock by the same order, so an index
-- of the locks finds the uses too. Two merchants may have the same order id; a line feed is in neither id.
-- In PL/pgSQL, for a function in SQL costs several times as much where an index calls it.
create function order_of_lock(state bytea) returns text language plpgsql immutable parallel safe
cost 100000  -- the index has it ready, so no plan should work it out row by row
as $$
declare
    payload json := convert_from(state, 'utf8');
begin
    return (payload->>'merchant_id') || E'\n' || (payload->>'order_id');
end
$$;

create index events_order on events (order_of_lock(state)) where topic = 'coupon.locked';

-- How often each order used coupons (ledger/limits.py), so that of two confirmations at once the second is decided
-- again and sees the first.
insert into user_quota (batch_id, user_id, issued, most)
select ' order ' || (payload->>'merchant_id'), payload->>'order_id', count(*), count(*)
  from event_log
 where topic in ('coupon.used', 'coupon.debited')
 group by 1, 2;
