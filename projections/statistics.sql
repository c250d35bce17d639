-- name: daily
-- A merchant's rows by day, batch and channel, after a cursor.
select d.*, b.quantity, n.new_customers, n.new_customer_orders
  from (select batch_id, day, channel, currency, issued, locked, unlocked, used, debited, first_uses,
               online, in_store, returned, restored, expired, voided, discount_minor, merchant_funded_minor,
               platform_funded_minor, discount_told_minor, returned_minor, orders, orders_told, paid_minor
          from daily_statistics
         where merchant_id = %(merchant_id)s and day >= %(first)s and day < %(until)s
           and day >= %(after_day)s and (day, batch_id, channel) > (%(after_day)s, %(after_batch_id)s, %(after_channel)s)
         order by day, batch_id, channel
         limit %(limit)s) d
  left join batch_balance b on b.batch_id = d.batch_id
 cross join lateral (
       select count(*) as new_customers, count(*) filter (where opened_order) as new_customer_orders
         from customers c
        where c.first_batch_id = d.batch_id and c.first_day = d.day and c.first_issued_as = d.channel
          and c.is_first) n
 order by d.day, d.batch_id, d.channel

-- name: daily_of_batch
-- The same of one batch: a statement of its own, so that its plan is that of the batch's key.
select d.*, b.quantity, n.new_customers, n.new_customer_orders
  from (select batch_id, day, channel, currency, issued, locked, unlocked, used, debited, first_uses,
               online, in_store, returned, restored, expired, voided, discount_minor, merchant_funded_minor,
               platform_funded_minor, discount_told_minor, returned_minor, orders, orders_told, paid_minor
          from daily_statistics
         where merchant_id = %(merchant_id)s and batch_id = %(batch_id)s and day >= %(first)s and day < %(until)s
           and day >= %(after_day)s and (day, channel) > (%(after_day)s, %(after_channel)s)
         order by day, channel
         limit %(limit)s) d
  left join batch_balance b on b.batch_id = d.batch_id
 cross join lateral (
       select count(*) as new_customers, count(*) filter (where opened_order) as new_customer_orders
         from customers c
        where c.first_batch_id = d.batch_id and c.first_day = d.day and c.first_issued_as = d.channel
          and c.is_first) n
 order by d.day, d.channel

-- name: funnel
-- A merchant's batches by id, after one, those of a campaign where one is named: how far their coupons came, and what
-- that brought. One statement is one snapshot of the read models.
select b.batch_id, b.campaign, b.name, b.quantity, coalesce(f.issued, 0) as issued, coalesce(f.locked, 0) as locked,
       coalesce(f.used, 0) as used, coalesce(f.returned, 0) as returned, coalesce(f.used_again, 0) as used_again,
       coalesce(f.seconds_to_use_total, 0) as seconds_to_use_total, b.currency, b.discount_minor,
       d.discount_told_minor, b.returned_minor, b.orders, b.orders_told, b.paid_minor, n.new_customers,
       n.new_customer_orders
  from (select * from batch_balance
         where merchant_id = %(merchant_id)s and batch_id > %(after)s
           and (%(campaign)s::text is null or campaign = %(campaign)s)
         order by batch_id
         limit %(limit)s) b
  left join funnel f on f.batch_id = b.batch_id
 cross join lateral (
       select coalesce(sum(s.discount_told_minor), 0)::bigint as discount_told_minor
         from daily_statistics s
        where s.batch_id = b.batch_id) d
 cross join lateral (
       select count(*) as new_customers, count(*) filter (where opened_order) as new_customer_orders
         from customers c
        where c.first_batch_id = b.batch_id and c.is_first) n
 order by b.batch_id

-- name: liability
-- Balances by funder and currency at the end of a month, or of all that was posted where none is named: months are
-- those of each batch's time zone, so no one day is the present one of them all.
select funder, currency, valued,
       sum(issued_debit_minor - issued_credit_minor)::bigint as issued_minor,
       sum(outstanding_credit_minor - outstanding_debit_minor)::bigint as outstanding_minor,
       sum(redeemed_credit_minor - redeemed_debit_minor)::bigint as redeemed_minor,
       sum(unspent_credit_minor - unspent_debit_minor)::bigint as unspent_minor,
       sum(breakage_credit_minor - breakage_debit_minor)::bigint as breakage_minor,
       sum(withdrawn_credit_minor - withdrawn_debit_minor)::bigint as withdrawn_minor,
       sum(coupons_issued)::bigint as coupons_issued,
       sum(coupons_issued - coupons_used + coupons_restored - coupons_expired - coupons_voided)::bigint
           as coupons_outstanding
  from liability
 where merchant_id = %(merchant_id)s and (%(at)s::date is null or month <= %(at)s)
   and (%(batch_id)s::text is null or batch_id = %(batch_id)s)
 group by funder, currency, valued
 order by funder, currency, valued

-- name: wallet_summary
-- What a user may use, by state at an instant and by currency: the same coupons as the wallet lists. A coupon is worth
-- what is left on it, or the most that it can take off; of some only a basket can tell.
select w.state, b.currency, count(*) as coupons,
       coalesce(sum(coalesce(w.balance_minor, b.worth_minor)), 0)::bigint as worth_minor,
       count(*) filter (where coalesce(w.balance_minor, b.worth_minor) is null) as not_valued,
       min(w.valid_until) as first_ends_at
  from (select batch_id, balance_minor, valid_until,
               effective_state(state, valid_from, valid_until, lock_ends_at, %(now)s) as state
          from wallet
         where merchant_id = %(merchant_id)s and user_id = %(user_id)s
         union all
        select c.batch_id, c.balance_minor, c.valid_until,
               effective_state(c.state, c.valid_from, c.valid_until, c.lock_ends_at, %(now)s)
          from shared_coupons s
          join coupon_status c on c.coupon_id = s.coupon_id
         where s.merchant_id = %(merchant_id)s and s.user_id = %(user_id)s) as w
  left join batch_balance b on b.batch_id = w.batch_id
 group by w.state, b.currency
 order by w.state, b.currency
