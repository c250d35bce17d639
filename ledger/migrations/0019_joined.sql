-- Since when a user is there may be corrected to an earlier time, and never lies ahead.
grant update (joined_at) on inbox_users to coupon_ledger_app;
update inbox_users set joined_at = clock_timestamp() where joined_at > clock_timestamp();
