-- A till redeems in the shop and does nothing else, so it has a role of its own.
alter table api_keys drop constraint api_keys_role_check;
alter table api_keys add constraint api_keys_role_check
    check (role in ('operator', 'orders', 'till', 'shopper-app', 'auditor', 'analyst'));

-- Lets codes of revoked sets go, so that they can be taken over into another set in the same transaction. The service
-- may not delete codes: here it loses none that could still be exchanged, and a code of a live set stays what it is.
-- Each is named with the set that it was seen in, for it may have been taken over meanwhile. That a single-use code was
-- exchanged is known by its coupon's stream, and for the caller to look at first (ledger/code_jobs.py); codes of a
-- revoked set are exchanged no more, so what it sees stays so.
create function release_codes(of_merchant text, hashes bytea[], sets text[]) returns void
language sql security definer
set search_path from current
set enable_seqscan = off  -- a plan made while a table was empty must not outlive its growth
as $$
delete from codes c
 using unnest(hashes, sets) as q (code_hash, codes_id)
 where c.merchant_id = of_merchant
   and c.code_hash = q.code_hash
   and c.codes_id = q.codes_id
   and exists (select from events e where e.originator_id = 'codes-' || q.codes_id and e.topic = 'codes.revoked');
$$;

revoke all on function release_codes from public;
grant execute on function release_codes to coupon_ledger_app;
