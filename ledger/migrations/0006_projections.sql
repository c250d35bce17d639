-- Where each version of each read model stands. It moves in the transaction of the rows.
create table projection_checkpoints (
    name       text        not null,
    version    integer     not null,
    position   bigint      not null default 0,
    state      text        not null default 'RUNNING' check (state in ('RUNNING', 'FAULTED')),
    fault      text,                           -- the error of the event after position, when FAULTED
    updated_at timestamptz not null default clock_timestamp(),
    primary key (name, version)
) with (fillfactor = 50);

-- A coupon's state at an instant, from its row in a read model: the rule of Coupon.state_at in ledger/coupon.py.
-- One expression, so that the planner puts it in place of the call.
create function effective_state(
    stored_state text, valid_from timestamptz, valid_until timestamptz, lock_ends_at timestamptz, at timestamptz
) returns text language sql immutable parallel safe as $$
    select case
        when stored_state in ('VOIDED', 'USED', 'EXPIRED') then stored_state
        when stored_state = 'LOCKED' and at < lock_ends_at then 'LOCKED'
        when at >= valid_until then 'EXPIRED'
        when at < valid_from then 'PENDING'
        else 'UNUSED'
    end
$$;
