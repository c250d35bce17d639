-- How often rules could not issue, and why: one row a rule and refusal, so that it grows with neither members nor
-- orders. It is for operators to look at; nothing is decided by it.
create table rule_refusals (
    merchant_id     text        not null,
    rule_id         text        not null,
    code            text        not null,      -- the refusal's code, such as sold_out
    refused         bigint      not null check (refused > 0),
    last_request_id text        not null,      -- rule and cause of the last one
    last_detail     text        not null,
    last_at         timestamptz not null default clock_timestamp(),
    primary key (merchant_id, rule_id, code)
) with (fillfactor = 50);

grant select, insert, update on rule_refusals to coupon_ledger_app;
