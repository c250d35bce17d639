"""What rules could not issue, counted by rule and refusal for operators to see (migrations/0011_rules.sql)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple

import orjson
import psycopg

from ledger.errors import Refusal
from ledger.rules import Award


class RuleRefusals(NamedTuple):
    """How often a rule could not issue for the same reason."""

    code: str
    refused: int
    last_request_id: str
    last_detail: str
    last_at: datetime


def count(connection: psycopg.Connection[Any], refused: Iterable[tuple[Award, Refusal]]) -> dict[tuple[str, str], int]:
    """Count what was refused, in the connection's transaction; says how much, by rule id and code."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for award, refusal in refused:
        rule, code = award.rule, refusal.code()
        before = rows.get((rule.rule_id, code), {"refused": 0})
        rows[rule.rule_id, code] = {
            "merchant_id": rule.merchant_id,
            "rule_id": rule.rule_id,
            "code": code,
            "refused": before["refused"] + 1,
            "request_id": award.request_id,
            "detail": refusal.detail,
        }
    if rows:
        connection.execute(_COUNT, {"rows": orjson.dumps(list(rows.values())).decode()})
    return {key: row["refused"] for key, row in rows.items()}


def by_rule(connection: psycopg.Connection[dict[str, Any]], merchant_id: str) -> dict[str, list[RuleRefusals]]:
    """A merchant's, by rule id, the newest first."""
    found: dict[str, list[RuleRefusals]] = {}
    for row in connection.execute(_BY_RULE, (merchant_id,)):
        rule_id = row.pop("rule_id")
        found.setdefault(rule_id, []).append(RuleRefusals(**row))
    return found


# Always in one order, so that two consumers never wait for each other in a ring.
_COUNT = """
insert into rule_refusals as r (merchant_id, rule_id, code, refused, last_request_id, last_detail)
select merchant_id, rule_id, code, refused, request_id, detail
  from jsonb_to_recordset(%(rows)s::jsonb)
       as n (merchant_id text, rule_id text, code text, refused bigint, request_id text, detail text)
 order by merchant_id, rule_id, code
on conflict (merchant_id, rule_id, code) do update
   set refused = r.refused + excluded.refused, last_request_id = excluded.last_request_id,
       last_detail = excluded.last_detail, last_at = excluded.last_at
"""

_BY_RULE = """
select rule_id, code, refused, last_request_id, last_detail, last_at from rule_refusals
 where merchant_id = %s order by last_at desc, code
"""
