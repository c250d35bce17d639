-- Personal data. What a deployment must keep of a user is in the log under a key of the user's own, and that key is
-- here, beside the log: without its row nobody can read it again (docs/privacy.md).
create table subject_keys (
    merchant_id text        not null,
    user_id     text        not null,
    key_id      text        not null,         -- the server's key that wraps it
    wrapped     bytea       not null,         -- AES-256-GCM: nonce, the user's data key, tag
    created_at  timestamptz not null default clock_timestamp(),
    primary key (merchant_id, user_id)
);
create index subject_keys_by_key on subject_keys (key_id);

-- An erasure finds what is to be sent to the user by these.
create index deliveries_of_user on deliveries (merchant_id, user_id) where user_id is not null;

grant select, insert, delete, update (key_id, wrapped) on subject_keys to coupon_ledger_app;
grant delete on inbox_users to coupon_ledger_app;
