-- name: coupon
-- One coupon, with its state at an instant.
select coupon_id, merchant_id, batch_id, template_id, template_version, user_id,
       effective_state(state, valid_from, valid_until, lock_ends_at, %(now)s) as state, state as stored_state,
       valid_from, valid_until, order_id, holder_id, lock_id, lock_ends_at, redemption_id, discount_minor,
       balance_minor, issued_at, version, position
  from coupon_status
 where coupon_id = %(coupon_id)s and merchant_id = %(merchant_id)s

-- name: wallet
-- A user's coupons, and those that friends share with the user, in some states at an instant, by expiry, after a
-- cursor. One statement is one snapshot of the three read models.
select *
  from (select coupon_id, batch_id, template_id, template_version,
               effective_state(state, valid_from, valid_until, lock_ends_at, %(now)s) as state,
               valid_from, valid_until, order_id, holder_id, lock_ends_at, discount_minor, balance_minor, issued_at,
               version, null as shared_by
          from wallet
         where merchant_id = %(merchant_id)s and user_id = %(user_id)s
           and (valid_until, coupon_id) > (%(after_valid_until)s, %(after_coupon_id)s)
         union all
        select c.coupon_id, c.batch_id, c.template_id, c.template_version,
               effective_state(c.state, c.valid_from, c.valid_until, c.lock_ends_at, %(now)s),
               c.valid_from, c.valid_until, c.order_id, c.holder_id, c.lock_ends_at, c.discount_minor, c.balance_minor,
               c.issued_at, c.version, c.user_id
          from shared_coupons s
          join coupon_status c on c.coupon_id = s.coupon_id
         where s.merchant_id = %(merchant_id)s and s.user_id = %(user_id)s
           and (c.valid_until, c.coupon_id) > (%(after_valid_until)s, %(after_coupon_id)s)) as w
 where state = any(%(states)s)
   and (%(of_batch_id)s::text is null or batch_id = %(of_batch_id)s)
   and (%(ends_before)s::timestamptz is null or valid_until < %(ends_before)s)
 order by valid_until, coupon_id
 limit %(limit)s

-- name: balance
-- A batch's stored counters, with the coupons moved over whose state the clock has changed since: what leaves one
-- counter enters another, so the sum stays what was issued. One statement is one snapshot of both read models.
select b.batch_id, b.merchant_id, b.template_id, b.template_version, b.campaign, b.name,
       case when b.state in ('RUNNING', 'PAUSED') and %(now)s >= b.claim_until then 'ENDED' else b.state end as state,
       b.claim_from, b.claim_until, b.created_at, b.quantity, b.budget_minor, b.issued,
       waiting.pending + ended.pending as pending,
       b.unused - waiting.pending - due.expired + ended.total - ended.pending - ended.expired as unused,
       b.locked - ended.total as locked,
       b.used,
       b.expired + due.expired + ended.expired as expired,
       b.voided, b.returned, b.discount_minor, b.returned_minor, b.merchant_funded_minor, b.platform_funded_minor,
       b.currency, b.worth_minor, b.at_stake_minor - due.worth_minor - ended.expired_worth_minor as at_stake_minor,
       b.orders, b.orders_told, b.paid_minor, b.position
  from batch_balance b
 cross join lateral (
       select count(*) as pending from coupon_status c
        where c.batch_id = b.batch_id and c.state = 'UNUSED' and c.valid_from > %(now)s and c.valid_until > %(now)s
       ) as waiting
 cross join lateral (
       select count(*) as expired,
              coalesce(sum(coalesce(c.balance_minor, b.worth_minor)), 0)::bigint as worth_minor
         from coupon_status c
        where c.batch_id = b.batch_id and c.state = 'UNUSED' and c.valid_until <= %(now)s
       ) as due
 cross join lateral (
       select count(*) as total,
              count(*) filter (where c.valid_until <= %(now)s) as expired,
              coalesce(sum(coalesce(c.balance_minor, b.worth_minor)) filter (where c.valid_until <= %(now)s), 0)::bigint
                  as expired_worth_minor,
              count(*) filter (where c.valid_until > %(now)s and c.valid_from > %(now)s) as pending
         from coupon_status c
        where c.batch_id = b.batch_id and c.state = 'LOCKED' and c.lock_ends_at <= %(now)s
       ) as ended
 where b.batch_id = %(batch_id)s and b.merchant_id = %(merchant_id)s

-- name: balances
-- A merchant's batches with their counters as stored.
select batch_id, merchant_id, template_id, template_version, campaign, name, state, claim_from, claim_until,
       created_at, quantity, budget_minor, issued, 0::bigint as pending, unused, locked, used, expired, voided,
       returned, discount_minor, returned_minor, merchant_funded_minor, platform_funded_minor, currency, worth_minor,
       at_stake_minor, orders, orders_told, paid_minor, position
  from batch_balance
 where merchant_id = %(merchant_id)s and batch_id > %(after)s
 order by batch_id
 limit %(limit)s

-- name: templates
-- A merchant's templates as their newest versions name them, from the log: streams lie together by category.
select substr(first.originator_id, 10) as template_id, last.version, last.payload->>'name' as name,
       first.occurred_at as created_at, (last.payload->>'occurred_at')::timestamptz as revised_at
  from (select originator_id, (convert_from(state, 'utf8')::jsonb->>'occurred_at')::timestamptz as occurred_at
          from events
         where originator_id > 'template-' || %(after)s and originator_id < 'template-g'  -- after every hexadecimal digit
           and originator_version = 1
           and convert_from(state, 'utf8')::jsonb->>'merchant_id' = %(merchant_id)s
         order by originator_id
         limit %(limit)s) first
 cross join lateral (
       select version, payload from event_log
        where stream = first.originator_id order by version desc limit 1) last
 order by first.originator_id

-- name: batches
-- A merchant's batches in some states at an instant, or in any, after an id.
select *
  from (select batch_id, template_id, template_version, campaign, name,
               case when state in ('RUNNING', 'PAUSED') and %(now)s >= claim_until then 'ENDED' else state end as state,
               quantity, budget_minor, issued, claim_from, claim_until, created_at
          from batch_balance
         where merchant_id = %(merchant_id)s and batch_id > %(after)s) as b
 where %(batch_states)s::text[] is null or state = any(%(batch_states)s)
 order by batch_id
 limit %(limit)s

-- name: due
-- Coupons whose validity is over and not yet written down, oldest first, after a cursor.
select valid_until, coupon_id, version, merchant_id, batch_id, user_id
  from coupon_status
 where state = 'UNUSED' and valid_until <= %(now)s
   and (valid_until, coupon_id) > (%(after_valid_until)s, %(after_coupon_id)s)
 order by valid_until, coupon_id
 limit %(limit)s

-- name: ended_locks
-- Coupons whose lock is over and not yet written down, oldest first, after a cursor.
select lock_ends_at, coupon_id, version, merchant_id, order_id, lock_id, valid_until
  from coupon_status
 where state = 'LOCKED' and lock_ends_at <= %(now)s
   and (lock_ends_at, coupon_id) > (%(after_lock_ends_at)s, %(after_coupon_id)s)
 order by lock_ends_at, coupon_id
 limit %(limit)s

-- name: status
-- Where each projection stands; seconds are the age of the first event that it has not folded.
select c.name, c.version, c.state, c.position, head.position - c.position as lag_events,
       coalesce(greatest(extract(epoch from clock_timestamp() - e.recorded_at), 0), 0)::float8 as lag_seconds,
       (select count(*) from projection_skips s where s.name = c.name and s.version = c.version) as skips,
       c.fault, c.updated_at
  from projection_checkpoints c
 cross join (select coalesce(max(notification_id), 0) as position from events) as head
  left join events e on e.notification_id = c.position + 1
 order by c.name, c.version

-- name: inspect
-- One projection, the event that stopped it, and the table that its last rebuild put aside.
select c.name, c.version, c.state, c.position, head.position - c.position as lag_events,
       coalesce(greatest(extract(epoch from clock_timestamp() - n.recorded_at), 0), 0)::float8 as lag_seconds,
       (select count(*) from projection_skips s where s.name = c.name and s.version = c.version) as skips, c.fault,
       case when c.state = 'FAULTED' then c.position + 1 end as event_position, e.originator_id as event_stream,
       e.originator_version as event_version, e.topic as event_topic, e.recorded_at as event_recorded_at,
       e.state as event_payload, b.version as before_version, b.position as before_position
  from projection_checkpoints c
 cross join (select coalesce(max(notification_id), 0) as position from events) as head
  left join events n on n.notification_id = c.position + 1
  left join events e on e.notification_id = c.position + 1 and c.state = 'FAULTED'
  left join projections_before b on b.name = c.name
 where c.name = %(name)s

-- name: skips
-- What operators let projections pass over.
select name, version, position, topic, reason, actor, skipped_at
  from projection_skips
 where %(name)s::text is null or name = %(name)s
 order by name, position, id
