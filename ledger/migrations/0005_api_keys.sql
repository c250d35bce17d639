-- Keys of callers. Only a SHA-256 of the secret is kept: it has 256 random bits, so a slow hash would add nothing.
create table api_keys (
    key_id       text        primary key,
    secret_hash  bytea       not null,
    merchant_id  text        not null,
    role         text        not null check (role in ('operator', 'orders', 'shopper-app', 'auditor', 'analyst')),
    name         text        not null,
    created_at   timestamptz not null default clock_timestamp(),
    expires_at   timestamptz,
    revoked_at   timestamptz
);
