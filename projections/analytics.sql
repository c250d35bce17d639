-- name: batches
create or replace view {analytics}.batches with (security_invoker = true) as
select merchant_id, batch_id, template_id, template_version, campaign, name,
       case when state in ('RUNNING', 'PAUSED') and statement_timestamp() >= claim_until then 'ENDED'
            else state
       end as state,
       created_at, claim_from, claim_until, quantity, budget_minor, issued, unused, locked, used, expired, voided,
       returned, discount_minor, merchant_funded_minor, platform_funded_minor, returned_minor, currency, worth_minor,
       at_stake_minor, orders, orders_told, paid_minor, position
  from {batch_balance};
comment on view {analytics}.batches is
    'One row a batch: what was planned, and where its coupons are. issued = unused + locked + used + expired + voided.';
comment on column {analytics}.batches.merchant_id is 'Whose batch it is.';
comment on column {analytics}.batches.batch_id is 'The batch.';
comment on column {analytics}.batches.template_id is 'Its template.';
comment on column {analytics}.batches.template_version is 'The version of it that its coupons keep.';
comment on column {analytics}.batches.campaign is 'The label that it shares with other batches; empty without one.';
comment on column {analytics}.batches.name is 'What people call it.';
comment on column {analytics}.batches.state is
    'DRAFT, IN_REVIEW, APPROVED, RUNNING, PAUSED, STOPPED or ENDED, by the clock at the start of the statement.';
comment on column {analytics}.batches.created_at is 'When it was planned.';
comment on column {analytics}.batches.claim_from is 'From when coupons may be had; null for at once.';
comment on column {analytics}.batches.claim_until is 'Until when, exclusive; null for ever.';
comment on column {analytics}.batches.quantity is 'Coupons that may be issued at most.';
comment on column {analytics}.batches.budget_minor is 'What they may be worth together; null without a budget.';
comment on column {analytics}.batches.issued is 'Coupons issued.';
comment on column {analytics}.batches.unused is
    'Of these, unused as written down: also those not valid yet, and those whose expiry is not written down.';
comment on column {analytics}.batches.locked is 'Locked as written down.';
comment on column {analytics}.batches.used is 'Used.';
comment on column {analytics}.batches.expired is 'Expired as written down.';
comment on column {analytics}.batches.voided is 'Voided.';
comment on column {analytics}.batches.returned is 'Returns, in whole or in part, and credits of vouchers.';
comment on column {analytics}.batches.discount_minor is 'What all uses took off.';
comment on column {analytics}.batches.merchant_funded_minor is 'The merchant''s part of that.';
comment on column {analytics}.batches.platform_funded_minor is 'The platform''s part.';
comment on column {analytics}.batches.returned_minor is 'What returns gave back of the discount.';
comment on column {analytics}.batches.currency is 'Of the amounts: ISO 4217.';
comment on column {analytics}.batches.worth_minor is
    'The most that one coupon can take off: its face value; null where the basket alone bounds it.';
comment on column {analytics}.batches.at_stake_minor is
    'What the unused and locked ones are worth; 0 where that is unknown.';
comment on column {analytics}.batches.orders is 'Orders that used coupons of the batch.';
comment on column {analytics}.batches.orders_told is 'Of these, the ones told with their first coupon what was paid.';
comment on column {analytics}.batches.paid_minor is 'What was paid for those, as told then.';
comment on column {analytics}.batches.position is 'The position in the log of the last event of this row.';

-- name: coupons
-- Of the wallet, for its key begins with the merchant; who asks for nothing of coupon_status does not even read it.
create or replace view {analytics}.coupons with (security_invoker = true) as
select w.coupon_id, w.merchant_id, w.batch_id, w.template_id, w.template_version, w.user_id,
       effective_state(w.state, w.valid_from, w.valid_until, w.lock_ends_at, statement_timestamp()) as state,
       w.issued_at, w.valid_from, w.valid_until, w.order_id, w.holder_id, w.lock_ends_at, c.redemption_id,
       w.discount_minor, w.balance_minor, w.version, c.position
  from {wallet} w
  left join {coupon_status} c on c.coupon_id = w.coupon_id;
comment on view {analytics}.coupons is 'One row a coupon, as it is now.';
comment on column {analytics}.coupons.coupon_id is 'The coupon.';
comment on column {analytics}.coupons.merchant_id is 'Whose ledger it is in.';
comment on column {analytics}.coupons.batch_id is 'The batch that it was issued of.';
comment on column {analytics}.coupons.template_id is 'The template of the batch.';
comment on column {analytics}.coupons.template_version is 'The version of the template that it keeps for ever.';
comment on column {analytics}.coupons.user_id is 'Its owner: the shop''s own id of the user.';
comment on column {analytics}.coupons.state is
    'PENDING, UNUSED, LOCKED, USED, EXPIRED or VOIDED, by the clock at the start of the statement.';
comment on column {analytics}.coupons.issued_at is 'When the user got it.';
comment on column {analytics}.coupons.valid_from is 'From when it may be used.';
comment on column {analytics}.coupons.valid_until is 'Until when, exclusive.';
comment on column {analytics}.coupons.order_id is 'The order that holds or used it; null where none does.';
comment on column {analytics}.coupons.holder_id is 'The friend who holds or used it; null where its owner does.';
comment on column {analytics}.coupons.lock_ends_at is 'When the hold ends, or ended without being let go.';
comment on column {analytics}.coupons.redemption_id is 'The use; null unless it is USED.';
comment on column {analytics}.coupons.discount_minor is 'What its present use took off; 0 unless it is USED.';
comment on column {analytics}.coupons.balance_minor is
    'Left on a voucher that was spent in part; null before it was.';
comment on column {analytics}.coupons.version is 'Events of the coupon so far.';
comment on column {analytics}.coupons.position is 'The position of the last of them in the log.';

-- name: order_coupons
create or replace view {analytics}.order_coupons with (security_invoker = true) as
select merchant_id, order_id, coupon_id, batch_id, user_id, holder_id,
       case when state = 'LOCKED' and lock_ends_at <= statement_timestamp() then 'UNLOCKED' else state end as state,
       first_locked_at, locked_at, lock_ends_at, unlocked_at, used_at, returned_at, channel, redemption_id, currency,
       found_minor, discount_minor, merchant_funded_minor, platform_funded_minor, undone_minor, returned_minor,
       order_total_minor, paid_minor, late, uses, position
  from {order_coupons};
comment on view {analytics}.order_coupons is 'One row for each order and coupon: what the order did with it last.';
comment on column {analytics}.order_coupons.merchant_id is 'Whose ledger it is in.';
comment on column {analytics}.order_coupons.order_id is 'The order, as its system knows it.';
comment on column {analytics}.order_coupons.coupon_id is 'The coupon.';
comment on column {analytics}.order_coupons.batch_id is 'The batch of the coupon.';
comment on column {analytics}.order_coupons.user_id is 'The coupon''s owner when the order locked or spent it.';
comment on column {analytics}.order_coupons.holder_id is 'Who used it: the owner, or a friend with whom it is shared.';
comment on column {analytics}.order_coupons.state is
    'LOCKED, UNLOCKED, USED, DEBITED (a part of a voucher) or RETURNED, by the clock at the start of the statement.';
comment on column {analytics}.order_coupons.first_locked_at is 'When this order locked it first.';
comment on column {analytics}.order_coupons.locked_at is 'When it did so last.';
comment on column {analytics}.order_coupons.lock_ends_at is 'When that lock ends or ended.';
comment on column {analytics}.order_coupons.unlocked_at is
    'When the order let it go; null where it did not, or nobody wrote down that its lock ended.';
comment on column {analytics}.order_coupons.used_at is 'When the order was paid; null where it was not.';
comment on column {analytics}.order_coupons.returned_at is 'When the use was undone last, in part or whole.';
comment on column {analytics}.order_coupons.channel is 'online or in_store; null where nobody said.';
comment on column {analytics}.order_coupons.redemption_id is 'The use.';
comment on column {analytics}.order_coupons.currency is 'Of the amounts: ISO 4217; null until it is used.';
comment on column {analytics}.order_coupons.found_minor is
    'What the ledger found it to take off at the lock, where it was asked.';
comment on column {analytics}.order_coupons.discount_minor is 'What it took off the order.';
comment on column {analytics}.order_coupons.merchant_funded_minor is 'The merchant''s part of that.';
comment on column {analytics}.order_coupons.platform_funded_minor is 'The platform''s part.';
comment on column {analytics}.order_coupons.undone_minor is 'Of the discount, what returns undid.';
comment on column {analytics}.order_coupons.returned_minor is 'Of that, what the return policy gave back.';
comment on column {analytics}.order_coupons.order_total_minor is
    'The order before coupons, as told; null where nobody said.';
comment on column {analytics}.order_coupons.paid_minor is
    'What was paid for the whole order, as told; null where nobody said. Count an order once.';
comment on column {analytics}.order_coupons.late is 'Whether it was used after the lock''s end.';
comment on column {analytics}.order_coupons.uses is 'How often this order used it: again after a return.';
comment on column {analytics}.order_coupons.position is 'The position in the log of the last event of this row.';

-- name: customers
create or replace view {analytics}.customers with (security_invoker = true) as
select merchant_id, user_id, currency, is_first, first_used_at, first_day, first_order_id, first_batch_id,
       first_channel, last_used_at, uses, orders, orders_told, discount_minor, paid_minor, position, first_issued_as,
       opened_order
  from {customers};
comment on view {analytics}.customers is 'One row for each user who ever used a coupon, and currency.';
comment on column {analytics}.customers.merchant_id is 'The merchant.';
comment on column {analytics}.customers.user_id is 'Who used the coupons: their owner, or a friend.';
comment on column {analytics}.customers.currency is 'Of the amounts: ISO 4217.';
comment on column {analytics}.customers.is_first is
    'True on one row of each user: the one of the user''s first use at the merchant.';
comment on column {analytics}.customers.first_used_at is 'When it was, in this currency.';
comment on column {analytics}.customers.first_day is 'The same as a day in the time zone of the batch.';
comment on column {analytics}.customers.first_order_id is 'The order of it.';
comment on column {analytics}.customers.first_batch_id is
    'The batch of its coupon: it won a new customer where is_first is true.';
comment on column {analytics}.customers.first_channel is 'online or in_store.';
comment on column {analytics}.customers.last_used_at is 'When the user used a coupon last.';
comment on column {analytics}.customers.uses is 'Of coupons, and of parts of vouchers.';
comment on column {analytics}.customers.orders is 'The orders with them.';
comment on column {analytics}.customers.orders_told is 'Of these, the ones told with their first coupon what was paid.';
comment on column {analytics}.customers.discount_minor is 'What the coupons took off; returns are not taken out of it.';
comment on column {analytics}.customers.paid_minor is 'What was paid for those, as told then.';
comment on column {analytics}.customers.position is 'The position in the log of the last event of this row.';
comment on column {analytics}.customers.first_issued_as is
    'How the coupon of the first use had reached its user: issue, claim, ...';
comment on column {analytics}.customers.opened_order is
    'Whether the first use was the first of its order in the batch.';

-- name: daily_statistics
create or replace view {analytics}.daily_statistics with (security_invoker = true) as
select d.merchant_id, d.batch_id, d.day, d.channel, d.currency, d.issued, d.locked, d.unlocked, d.used, d.debited,
       d.online, d.in_store, d.returned, d.restored, d.expired, d.voided, d.discount_minor, d.merchant_funded_minor,
       d.platform_funded_minor, d.returned_minor, d.orders, d.orders_told, d.paid_minor, d.position, d.first_uses,
       d.discount_told_minor, d.new_customers, d.new_customer_orders,
       d.issued * 10000 / nullif(b.quantity, 0) as claim_rate_permyriad,
       d.first_uses * 10000 / nullif(d.issued, 0) as use_rate_permyriad,
       d.paid_minor * 10000 / nullif(d.discount_told_minor, 0) as return_on_spend_permyriad,
       d.new_customer_orders * 10000 / nullif(d.orders, 0) as new_customer_order_share_permyriad
  from (select s.*,
               (select count(*) from {customers} c
                 where c.first_batch_id = s.batch_id and c.first_day = s.day and c.first_issued_as = s.channel
                   and c.is_first) as new_customers,
               (select count(*) from {customers} c
                 where c.first_batch_id = s.batch_id and c.first_day = s.day and c.first_issued_as = s.channel
                   and c.is_first and c.opened_order) as new_customer_orders
          from {daily_statistics} s) d
  left join {batch_balance} b on b.batch_id = d.batch_id;
comment on view {analytics}.daily_statistics is
    'One row for each batch, day and channel of issue; every count and amount may be summed over rows, no rate may.';
comment on column {analytics}.daily_statistics.merchant_id is 'Whose batch it is.';
comment on column {analytics}.daily_statistics.batch_id is 'The batch.';
comment on column {analytics}.daily_statistics.day is 'In the batch''s time zone, by when things happened.';
comment on column {analytics}.daily_statistics.channel is 'How the coupons reached their users: issue, claim, ...';
comment on column {analytics}.daily_statistics.currency is 'Of the amounts: ISO 4217.';
comment on column {analytics}.daily_statistics.issued is 'Coupons issued.';
comment on column {analytics}.daily_statistics.locked is 'Locks, also by the same order again.';
comment on column {analytics}.daily_statistics.unlocked is 'Locks that were let go or ended.';
comment on column {analytics}.daily_statistics.used is 'Uses that ended the coupon.';
comment on column {analytics}.daily_statistics.debited is 'Parts of vouchers that orders spent.';
comment on column {analytics}.daily_statistics.online is 'Of used and debited, those of web shops.';
comment on column {analytics}.daily_statistics.in_store is 'And those at tills.';
comment on column {analytics}.daily_statistics.returned is 'Returns, in whole or in part, and credits of vouchers.';
comment on column {analytics}.daily_statistics.restored is 'Of them, those that made a used coupon unused again.';
comment on column {analytics}.daily_statistics.expired is 'Coupons whose expiry was written down.';
comment on column {analytics}.daily_statistics.voided is 'Coupons voided.';
comment on column {analytics}.daily_statistics.discount_minor is 'What the uses took off.';
comment on column {analytics}.daily_statistics.merchant_funded_minor is 'The merchant''s part of that.';
comment on column {analytics}.daily_statistics.platform_funded_minor is 'The platform''s part.';
comment on column {analytics}.daily_statistics.returned_minor is 'What returns and credits gave back.';
comment on column {analytics}.daily_statistics.orders is
    'Orders that used coupons of the batch, each counted with its first one.';
comment on column {analytics}.daily_statistics.orders_told is 'Of these, the ones told with their first coupon what was paid.';
comment on column {analytics}.daily_statistics.paid_minor is 'What was paid for those, as told then.';
comment on column {analytics}.daily_statistics.position is 'The position in the log of the last event of this row.';
comment on column {analytics}.daily_statistics.first_uses is
    'Coupons used for the first time, in whole or in part, whenever they were issued.';
comment on column {analytics}.daily_statistics.discount_told_minor is
    'Of the discount, that of uses with which it was told what was paid.';
comment on column {analytics}.daily_statistics.new_customers is
    'Users whose first use at the merchant was one of this row.';
comment on column {analytics}.daily_statistics.new_customer_orders is
    'Of the orders, those whose first coupon of the batch was such a use.';
comment on column {analytics}.daily_statistics.claim_rate_permyriad is
    'issued of the batch''s quantity, in 1/10,000; rates of several rows are those of their sums.';
comment on column {analytics}.daily_statistics.use_rate_permyriad is
    'first_uses of issued, in 1/10,000; that of one day may be over 10,000.';
comment on column {analytics}.daily_statistics.return_on_spend_permyriad is
    'paid_minor of discount_told_minor, in 1/10,000.';
comment on column {analytics}.daily_statistics.new_customer_order_share_permyriad is
    'new_customer_orders of orders, in 1/10,000.';

-- name: funnel
create or replace view {analytics}.funnel with (security_invoker = true) as
select merchant_id, batch_id, issued, locked, used, returned, used_again, seconds_to_use_total, position
  from {funnel};
comment on view {analytics}.funnel is
    'One row a batch that issued anything: how many coupons ever reached each step, whatever became of them later.';
comment on column {analytics}.funnel.merchant_id is 'Whose batch it is.';
comment on column {analytics}.funnel.batch_id is 'The batch.';
comment on column {analytics}.funnel.issued is 'Coupons issued.';
comment on column {analytics}.funnel.locked is 'Of these, ever locked by an order.';
comment on column {analytics}.funnel.used is 'Ever used, or spent in part.';
comment on column {analytics}.funnel.returned is 'Ever returned, in whole or in part.';
comment on column {analytics}.funnel.used_again is 'Used more than once: after a return, or in parts.';
comment on column {analytics}.funnel.seconds_to_use_total is
    'From issue to first use, summed over the coupons ever used: divide by used.';
comment on column {analytics}.funnel.position is 'The position in the log of the last event of this row.';

-- name: liability
create or replace view {analytics}.liability with (security_invoker = true) as
select merchant_id, batch_id, funder, month, currency, valued, issued_debit_minor, issued_credit_minor,
       outstanding_debit_minor, outstanding_credit_minor, redeemed_debit_minor, redeemed_credit_minor,
       unspent_debit_minor, unspent_credit_minor, breakage_debit_minor, breakage_credit_minor, withdrawn_debit_minor,
       withdrawn_credit_minor, coupons_issued, coupons_used, coupons_restored, coupons_expired, coupons_voided,
       position
  from {liability};
comment on view {analytics}.liability is
    'One row for each batch, funder and month: what was posted to six accounts. Debits equal credits on every row.';
comment on column {analytics}.liability.merchant_id is 'Whose batch it is.';
comment on column {analytics}.liability.batch_id is 'The batch.';
comment on column {analytics}.liability.funder is 'Who pays: merchant or platform.';
comment on column {analytics}.liability.month is
    'The first day of the month, in the batch''s time zone. A balance is the sum of credits less debits up to it.';
comment on column {analytics}.liability.currency is 'Of the amounts: ISO 4217.';
comment on column {analytics}.liability.valued is
    'Whether the face value of a coupon is known; without, it is issued in the books by its use.';
comment on column {analytics}.liability.issued_debit_minor is 'Face value of coupons issued.';
comment on column {analytics}.liability.issued_credit_minor is 'Of coupons not valued, what returns took back.';
comment on column {analytics}.liability.outstanding_debit_minor is 'Face value that is no longer outstanding.';
comment on column {analytics}.liability.outstanding_credit_minor is 'Face value that became outstanding.';
comment on column {analytics}.liability.redeemed_debit_minor is 'Discounts that returns took back.';
comment on column {analytics}.liability.redeemed_credit_minor is 'Discounts given.';
comment on column {analytics}.liability.unspent_debit_minor is 'Of that, what returns made outstanding again.';
comment on column {analytics}.liability.unspent_credit_minor is 'Face value of used coupons that was not taken off.';
comment on column {analytics}.liability.breakage_debit_minor is 'Face value that was broken and is outstanding again.';
comment on column {analytics}.liability.breakage_credit_minor is 'Face value that expired.';
comment on column {analytics}.liability.withdrawn_debit_minor is 'Face value that was voided and is outstanding again.';
comment on column {analytics}.liability.withdrawn_credit_minor is 'Face value that was voided.';
comment on column {analytics}.liability.coupons_issued is 'Coupons; on the rows of both funders where two fund them.';
comment on column {analytics}.liability.coupons_used is 'Uses that ended a coupon.';
comment on column {analytics}.liability.coupons_restored is 'Made unused again by a return or credit.';
comment on column {analytics}.liability.coupons_expired is 'Expired.';
comment on column {analytics}.liability.coupons_voided is 'Voided.';
comment on column {analytics}.liability.position is 'The position in the log of the last event of this row.';

-- name: returns
-- As with templates below. The condition on topics is that of the index events_returns.
create or replace view {analytics}.returns with (security_barrier = true) as
select r.payload->>'merchant_id' as merchant_id, r.coupon_id, r.payload->>'order_id' as order_id,
       r.payload->>'batch_id' as batch_id, r.payload->>'user_id' as user_id,
       r.payload->>'redemption_id' as redemption_id, r.payload->>'reason' as reason,
       coalesce(r.payload->>'returned_minor', r.payload->>'credited_minor')::bigint as returned_minor,
       (r.payload->>'restored')::boolean as restored, (r.payload->>'occurred_at')::timestamptz as returned_at,
       r.position, b.currency
  from (select substr(originator_id, 8) as coupon_id, notification_id as position,
               convert_from(state, 'utf8')::jsonb as payload
          from events
         where topic in ('coupon.returned', 'coupon.credited')) r
  left join {batch_balance} b on b.batch_id = r.payload->>'batch_id'
 where r.payload->>'merchant_id' = any ((select analyst_merchants())::text[]);
comment on view {analytics}.returns is 'One row for each time that a use was undone, in part or whole.';
comment on column {analytics}.returns.merchant_id is 'Whose ledger it is in.';
comment on column {analytics}.returns.coupon_id is 'The coupon.';
comment on column {analytics}.returns.order_id is 'The order whose use it was.';
comment on column {analytics}.returns.batch_id is 'The batch of the coupon.';
comment on column {analytics}.returns.user_id is 'The coupon''s owner.';
comment on column {analytics}.returns.redemption_id is 'The use that was undone.';
comment on column {analytics}.returns.reason is 'order_cancelled, merchant_refund or buyer_refund.';
comment on column {analytics}.returns.returned_minor is
    'What it gave back: nothing where the policy keeps the coupon used.';
comment on column {analytics}.returns.restored is 'Whether it made the coupon unused again.';
comment on column {analytics}.returns.returned_at is 'When it was undone.';
comment on column {analytics}.returns.position is 'The position of the event in the log.';
comment on column {analytics}.returns.currency is
    'Of returned_minor: ISO 4217; null while the read model of batches is behind.';

-- name: templates
-- The log itself is not for analysts, so this view reads it with its owner's rights and looks for the merchant itself.
-- The barrier keeps conditions of whoever asks behind that.
create or replace view {analytics}.templates with (security_barrier = true) as
select t.payload->>'merchant_id' as merchant_id, t.template_id, t.version, t.payload->>'name' as name,
       coalesce(t.payload->>'description', '') as description,
       t.payload->'terms'->'benefit'->>'kind' as benefit_kind,
       (t.payload->'terms'->'benefit'->>'value_minor')::bigint as value_minor,
       (t.payload->'terms'->'benefit'->>'percent_permyriad')::bigint as percent_permyriad,
       (t.payload->'terms'->'benefit'->>'max_discount_minor')::bigint as max_discount_minor,
       (t.payload->'terms'->>'min_spend_minor')::bigint as min_spend_minor,
       t.payload->'terms'->>'currency' as currency,
       (t.payload->'terms'->>'merchant_share_permyriad')::bigint as merchant_share_permyriad,
       t.payload->'terms' as terms, (t.payload->>'occurred_at')::timestamptz as made_at
  from (select substr(originator_id, 10) as template_id, originator_version as version,
               convert_from(state, 'utf8')::jsonb as payload
          from events
         where originator_id > 'template-' and originator_id < 'template-g') t  -- after every hexadecimal digit
 where t.payload->>'merchant_id' = any ((select analyst_merchants())::text[]);
comment on view {analytics}.templates is 'One row a version of a template: the terms of an offer.';
comment on column {analytics}.templates.merchant_id is 'Whose template it is.';
comment on column {analytics}.templates.template_id is 'The template.';
comment on column {analytics}.templates.version is 'Its version, from 1.';
comment on column {analytics}.templates.name is 'What people call it.';
comment on column {analytics}.templates.description is 'What the offer is; empty where nobody said.';
comment on column {analytics}.templates.benefit_kind is 'amount_off, percent_off, cash_voucher, free_shipping ...';
comment on column {analytics}.templates.value_minor is 'The amount of the benefit; null for kinds without one.';
comment on column {analytics}.templates.percent_permyriad is 'The share that percent_off takes, in 1/10,000.';
comment on column {analytics}.templates.max_discount_minor is 'The most that it takes off; null without such a bound.';
comment on column {analytics}.templates.min_spend_minor is 'What must be bought to use it; 0 for anything.';
comment on column {analytics}.templates.currency is 'Of all its amounts: ISO 4217.';
comment on column {analytics}.templates.merchant_share_permyriad is
    'The part of each discount that the merchant funds, in 1/10,000; the platform funds the rest.';
comment on column {analytics}.templates.terms is 'All of the terms, as JSON, as they were written: a term that is newer than the template is missing, and means what was so before there was a choice.';
comment on column {analytics}.templates.made_at is 'When this version was made.';

-- name: freshness
create or replace view {analytics}.freshness as
select c.name as model, c.version, c.state, c.position,
       (select coalesce(max(notification_id), 0) from events) - c.position as events_behind, c.updated_at as folded_at
  from projection_checkpoints c;
comment on view {analytics}.freshness is 'One row a read model: how far behind the log the other views are.';
comment on column {analytics}.freshness.model is 'The read model.';
comment on column {analytics}.freshness.version is 'The version of it that is live.';
comment on column {analytics}.freshness.state is 'RUNNING, or FAULTED where it stopped at an event.';
comment on column {analytics}.freshness.position is 'The last position of the log that it has folded.';
comment on column {analytics}.freshness.events_behind is 'How many later ones there are.';
comment on column {analytics}.freshness.folded_at is 'When it moved last.';
