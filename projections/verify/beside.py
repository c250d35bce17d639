"""Tables beside the log that must say what it says: codes, jobs, and where consumers stand."""

from __future__ import annotations

from projections.verify.plans import Codes, Job, Plans
from projections.verify.report import Findings
from projections.verify.snapshot import Moment, rows


def check_codes(moment: Moment, plans: Plans, found: Findings) -> None:
    """Sets, their codes, and the coupons that were given for them."""
    stored = {id: row for id, *row in rows(moment.connection, _CODE_SETS)}
    found.looked_at["codes"] += len(stored)
    for codes in plans.codes.values():
        row = stored.get(codes.id)
        stream = f"codes-{codes.id}"
        if row is None:
            found.add("codes", codes.generated_at, stream, "a row of the set", "none")
            continue
        for expected, is_found in _unlike_set(codes, *row):
            found.add("codes", codes.generated_at, stream, expected, is_found)
        if codes.kind != "generic" and codes.exchanged > codes.count:
            found.add(
                "codes", codes.last_exchanged_at, stream, f"at most {codes.count} exchanged", str(codes.exchanged)
            )
    for codes_id, count in rows(moment.connection, _CODES_OF_NO_SET):
        found.add("I18", None, f"codes-{codes_id}", "no codes of a set that is not there", str(count))
    for stream, codes_id, position in rows(moment.connection, _EXCHANGED_FOR_NONE):
        found.add("codes", position, stream, f"a code of the set {codes_id} that names this coupon", "none")


def _unlike_set(
    codes: Codes, merchant_id: str, batch_id: str, kind: str, count: int, stored: int, salted: bool, there: int
) -> list[tuple[str, str]]:
    unlike = []
    if (merchant_id, batch_id, kind, count) != (codes.merchant_id, codes.batch_id, codes.kind, codes.count):
        unlike.append((f"{codes.count} {codes.kind} codes of {codes.batch_id}", f"{count} {kind} codes of {batch_id}"))
    # Codes of a revoked set may be taken over into another.
    if stored != count or there > count or (there < count and codes.revoked_at is None):
        unlike.append((f"{count} codes", f"{there} codes, and {stored} said to be"))
    if codes.exported and salted:
        unlike.append(("codes that nobody can make again, for they were handed over", "what they are made from"))
    return unlike


def check_jobs(moment: Moment, plans: Plans, found: Findings) -> None:
    """Jobs, and what they count."""
    stored = {id: row for id, *row in rows(moment.connection, _JOBS)}
    found.looked_at["jobs"] += len(stored)
    for job in plans.jobs.values():
        stream = f"job-{job.id}"
        row = stored.get(job.id)
        if row is None:
            found.add("jobs", job.started_at, stream, "a row of the job", "none")
            continue
        for position, expected, is_found in _unlike_job(job, *row):
            found.add("jobs", position, stream, expected, is_found)
    for id in sorted(stored.keys() - plans.jobs.keys()):
        found.add("I18", None, f"job-{id}", "no row of a job that never started", "one")


def _unlike_job(
    job: Job, merchant_id: str, batch_id: str, state: str, accepted: int, issued: int, refused: int
) -> list[tuple[int, str, str]]:
    unlike = []
    logged = (job.merchant_id, job.batch_id, job.state, job.rows)
    if logged != (merchant_id, batch_id, state, accepted):
        unlike.append((job.started_at, f"{logged}", f"{(merchant_id, batch_id, state, accepted)}"))
    if issued != job.issued:
        unlike.append((job.started_at, f"{job.issued} coupons issued, as the log has them", f"{issued} counted"))
    if job.finished is not None and job.finished_at is not None and job.finished != (issued, refused):
        unlike.append((job.finished_at, f"{issued} issued and {refused} refused", f"{job.finished} told at its end"))
    return unlike


def check_messages(moment: Moment, found: Findings) -> None:
    """I12: what waits and what is dead, against where the consumers stand."""
    [(offsets,)] = rows(moment.connection, "select count(*) from kafka_offsets")
    found.looked_at["I12"] += offsets
    if not offsets:
        found.notes["I12"] = "no consumer has read anything yet"
    for group, topic, partition, offset, table, next_offset in rows(moment.connection, _AHEAD):
        place = f"{group} {topic}/{partition} offset {offset}"
        found.add("I12", None, place, f"before the consumer's offset {next_offset}", f"in {table}")
    for group, topic, partition, offset in rows(moment.connection, _WAITING_AND_DEAD):
        found.add("I12", None, f"{group} {topic}/{partition} offset {offset}", "one of them", "waiting, and dead")


_CODE_SETS = """
select s.codes_id, s.merchant_id, s.batch_id, s.kind, s.count, s.stored, s.salt is not null, coalesce(c.there, 0)
  from code_sets s
  left join (select codes_id, count(*)::int as there from codes group by codes_id) c using (codes_id)
"""

_CODES_OF_NO_SET = """
select codes_id, count(*) from codes c where not exists (select from code_sets s where s.codes_id = c.codes_id)
 group by codes_id order by codes_id limit 20
"""

# A coupon's id is made from its code's hash as ledger.use_cases.codes.coupon_of makes it. A code that was exchanged
# stays in its set, whatever becomes of that.
_EXCHANGED_FOR_NONE = """
select x.stream, x.codes_id, x.position
  from exchanged x
 where not exists (
    select from codes c
     where c.codes_id = x.codes_id
       and x.stream = 'coupon-' || left(x.batch_id, 8)
           || left(encode(sha256(convert_to(
                concat_ws(E'\\x1f', x.batch_id, ' code ' || encode(c.code_hash, 'hex'), '0'), 'utf8')), 'hex'), 18))
"""

_JOBS = """
select j.job_id, j.merchant_id, j.batch_id, j.state, j.accepted, o.issued, o.refused
  from issuance_jobs j
 cross join lateral (select coalesce(sum(rows) filter (where code = ''), 0)::int as issued,
                            coalesce(sum(rows) filter (where code <> ''), 0)::int as refused
                       from issuance_job_outcomes o where o.job_id = j.job_id) o
"""

_AHEAD = """
select m.consumer_group, m.topic, m.partition, m."offset", m.place, o.next_offset
  from (select consumer_group, topic, partition, "offset", 'waiting_messages' as place from waiting_messages
        union all
        select consumer_group, topic, partition, "offset", 'dead_letters' from dead_letters) m
  left join kafka_offsets o using (consumer_group, topic, partition)
 where o.next_offset is null or m."offset" >= o.next_offset
 order by 1, 2, 3, 4
"""

_WAITING_AND_DEAD = """
select w.consumer_group, w.topic, w.partition, w."offset"
  from waiting_messages w
  join dead_letters d using (consumer_group, topic, partition, "offset")
 where d.settled_at is null
"""
