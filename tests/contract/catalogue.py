"""The event contracts, made from the catalogue: JSON Schemas, a story that has every event, and docs/events.md.

``python -m tests.contract.catalogue`` (with DATABASE_URL) writes what is missing. It never rewrites a contract that is
there: rows of that version are stored for ever. Whoever changes a payload raises ``class_version``, writes the upcaster
and runs it again.
"""

from __future__ import annotations

import inspect
import os
import types
import uuid
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import orjson

from ledger import subjects, use_cases
from ledger.alerts import Alerts
from ledger.application import Ledger
from ledger.audience import Audience, Facts
from ledger.basket import Basket, Line
from ledger.batch import BatchPlan
from ledger.benefit import Benefit
from ledger.coupon import Redemption
from ledger.database import Database
from ledger.events import EVENTS, Event
from ledger.migrate import migrate
from ledger.personal_keys import PersonalKeys
from ledger.reminders import Reminders
from ledger.request import Request
from ledger.rules import RulePlan
from ledger.scope import Scope, UseHours
from ledger.store import Store
from ledger.terms import ReturnPolicy, Terms
from ledger.use_cases.codes import record_codes
from tests.conftest import drop_ledger
from tests.unit.specs import after

FOLDER = Path(__file__).parent / "events"
DOCUMENT = Path(__file__).parents[2] / "docs" / "events.md"
COLUMNS = ("originator_id", "originator_version")
"""Fields that have a column of their own and are not in the payload."""
COMMON = ("merchant_id", "actor", "request_id", "occurred_at")
NESTED: Mapping[str, Any] = {"terms": Terms}
"""Payload fields whose form a value object fixes, so that its change is a change of the event too."""
SCALARS = {
    str: {"type": "string"},
    int: {"type": "integer"},
    bool: {"type": "boolean"},
    datetime: {"type": "string", "format": "date-time"},
}


HEAD = """\
Every fact that the ledger can record, as stored. Made from `ledger/events/` by `python -m tests.contract.catalogue`;
a test compares it.

Each event also has its stream, its version in the stream, its position in the log, when the store took it
(`recorded_at`), and in its payload `merchant_id`, `actor`, `request_id` and `occurred_at` (business time). Money is in
integer minor units, shares are permyriad (1/10,000), times are UTC. A `?` marks what may be null. The JSON Schema and a
stored sample of each version are in `tests/contract/events`."""


def path_of(topic: str, version: int) -> Path:
    """Where the contract of an event's version is kept."""
    return FOLDER / f"{topic}.v{version}.json"


def schema_of(kind: type[Any]) -> dict[str, Any]:
    """The JSON Schema of a stored payload: every field is there, and no other."""
    hints = get_type_hints(kind)
    properties = {f.name: _schema(f.name, hints[f.name]) for f in fields(kind) if f.name not in COLUMNS}
    if getattr(kind, "class_version", 1) > 1:
        properties["class_version"] = {"const": kind.class_version}
    return {
        "type": "object",
        "properties": dict(sorted(properties.items())),
        "required": sorted(properties),
        "additionalProperties": False,
    }


def _schema(name: str, hint: Any) -> dict[str, Any]:
    if name in NESTED:
        return schema_of(NESTED[name])
    if is_dataclass(hint) and isinstance(hint, type):
        return schema_of(hint)
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin in (Union, types.UnionType):
        one, none = (_schema(name, argument) for argument in arguments if argument is not type(None)), type(None)
        assert none in arguments
        schema = next(one)
        return schema | {"type": [schema["type"], "null"]}
    if origin in (list, tuple):
        return {"type": "array", "items": _schema("", arguments[0])}
    if origin is dict:
        return {"type": "object"}
    return dict(SCALARS[hint])


def stored_story(database: Database) -> dict[str, dict[str, Any]]:
    """Every topic's last row, after a story in which everything happens: templates, batches and coupons."""
    ledger = Ledger(Store(database))
    numbers = iter(range(1, 100))

    def ask(use_case: Any, days: float = 0, *, by: str = "key:demo", **arguments: Any) -> dict[str, Any]:
        request = Request("merchant-1", by, f"request-{next(numbers)}", "0" * 64, after(days))
        return ledger.do(use_case(request, **arguments)).answer

    terms = Terms(
        benefit=Benefit(kind="percent_off", percent_permyriad=1_000, max_discount_minor=2_000),
        currency="EUR",
        min_spend_minor=1_000,
        scope=Scope(products=("0001", "0002"), shops=("shop-1",)),
        return_policy=ReturnPolicy(buyer_refund="restore_with_grace", grace_days=7),
        merchant_share_permyriad=6_000,
    )
    template = ask(use_cases.create_template, name="Ten percent off", terms=terms)["template_id"]
    ask(
        use_cases.revise_template,
        template_id=template,
        name="Ten percent off",
        description="Ten off.\nOnce.",
        terms=replace(
            terms,
            scope=Scope(channels=("online",)),
            use_hours=(UseHours(weekdays=(1, 2, 3, 4, 5)), UseHours(weekdays=(6, 7), from_minute=480)),
            time_zone="Europe/Madrid",
            late_confirm="accept",
            transferable=True,
            shareable=True,
            reminders=Reminders(days_before=(7, 1), quiet_from_minute=1_320, quiet_until_minute=480),
        ),
    )
    plan = BatchPlan(
        name="Spring",
        campaign="spring",
        quantity=4,
        per_user_limit=2,
        claim_until=after(30),
        valid_until=after(60),
        valid_for_seconds=864_000,
        time_zone="Europe/Madrid",
        ends_at_day_close=True,
        budget_minor=8_000,
        audience=Audience(tiers=("gold",)),
        needs_approval=True,
        alerts=Alerts(stock_below=2, budget_spent_permyriad=9_000, claims_per_minute=1_000),
    )
    batch = {"batch_id": ask(use_cases.create_batch, plan=plan, template_id=template)["batch_id"]}
    ask(use_cases.submit_batch, **batch)
    ask(use_cases.reject_batch, by="key:second", reason="too few", **batch)
    ask(use_cases.change_quantity, expected=4, target=5, **batch)
    ask(use_cases.change_budget, expected_minor=8_000, target_minor=10_000, **batch)
    ask(use_cases.submit_batch, **batch)
    ask(use_cases.approve_batch, by="key:second", **batch)
    ask(use_cases.start_batch, **batch)
    ask(use_cases.pause_batch, reason="stock check", **batch)
    ask(use_cases.resume_batch, **batch)
    rule = ask(use_cases.create_rule, plan=RulePlan(trigger="registered", receiver="user", **batch))["rule_id"]
    ask(use_cases.stop_rule, rule_id=rule, reason="over")
    rows: dict[str, Any] = {"rows": 3, "rejected_rows": 1, "digest": "0" * 64}
    job = {"job_id": ask(use_cases.start_job, **rows, **batch)["job_id"]}
    ask(use_cases.finish_job, issued=2, refused=1, **job)
    ask(use_cases.undo_job, reason="wrong users", **job)
    ask(use_cases.end_undo, voided=1, kept=1, **job)
    codes = {"codes_id": "0" * 26}
    ask(record_codes, kind="unique", count=3, **codes, **batch)
    ask(use_cases.confirm_code_export, **codes)
    ask(use_cases.revoke_codes, reason="leaked", **codes)
    gold = Facts(tier="gold")
    used, dropped, lapsed = (
        ask(use_cases.claim, user_id=f"user-{n}", channel="app", facts=gold, **batch)["coupon_id"] for n in (1, 2, 3)
    )
    order: dict[str, Any] = {"order_id": "order-1", "coupon_ids": [used]}
    total: dict[str, Any] = {"order_total_minor": 12_345}
    ask(use_cases.share, 1, coupon_id=used, user_id="user-1", with_user_ids=["user-4", "user-5"])
    ask(use_cases.transfer, 1, coupon_id=used, user_id="user-1", to_user_id="user-6")
    ask(use_cases.extend, 1, coupon_id=used, valid_until=after(20), reason="late delivery")
    ask(use_cases.lock, 1, user_id="user-6", quote_digest="sha256:0", **order, **total)
    ask(use_cases.lock, 1, user_id="user-6", ttl_seconds=3_600, **order, **total)
    ask(use_cases.unlock, 1, reason="payment_timeout", **order)
    lines = (
        Line(line_id="1", product_id="0001", unit_price_minor=10_000),
        Line(line_id="2", product_id="0002", unit_price_minor=2_345),
    )
    ask(use_cases.lock, 1, user_id="user-6", basket=Basket(lines=lines, currency="EUR"), **order)
    redemption = Redemption(coupon_id=used, discount_minor=None)
    ask(use_cases.confirm, 1, order_id="order-1", redemptions=[redemption], paid_minor=11_111, **total)
    ask(use_cases.return_coupons, 5, reason="buyer_refund", lines=[{"line_id": "2"}], **order)
    ask(use_cases.void, 2, coupon_id=dropped, reason="fraud")
    ask(use_cases.expire, 20, coupon_id=lapsed)
    ask(use_cases.stop_batch, 20, reason="over", **batch)

    voucher = Benefit(kind="cash_voucher", value_minor=2_000, leaves_balance=True)
    offer = {
        "name": "Voucher",
        "description": "Money.\nSpend it in parts.",
        "terms": Terms(benefit=voucher, currency="EUR"),
    }
    template = ask(use_cases.create_template, **offer)["template_id"]
    money = BatchPlan(name="Vouchers", quantity=1, valid_for_seconds=864_000)
    batch = {"batch_id": ask(use_cases.create_batch, plan=money, template_id=template)["batch_id"]}
    ask(use_cases.start_batch, **batch)
    spent = ask(use_cases.claim, 1, user_id="user-1", **batch)["coupon_id"]
    early = replace(money, name="Summer", claim_from=after(30))
    opening = {"batch_id": ask(use_cases.create_batch, plan=early, template_id=template)["batch_id"]}
    ask(use_cases.request_claim_reminder, 3, user_id="user-1", **opening)
    ask(use_cases.cancel_claim_reminder, 4, user_id="user-1", **opening)
    ask(use_cases.redeem, 2, order_id="order-2", coupon_id=spent, user_id="user-1", discount_minor=1_500, **total)
    ask(use_cases.return_coupons, 3, order_id="order-2", coupon_ids=[spent], reason="order_cancelled")
    keys = PersonalKeys.parse("contract=" + "0" * 32)
    request = Request("merchant-1", "key:demo", "request-note", "0" * 64, after(5))
    subjects.note(ledger, keys, request, "user-1", "Called about the voucher.")
    subjects.erase(ledger, "merchant-1", "key:demo", "user-1", " erase 0")
    with ledger.store.connection() as connection:
        rows = connection.execute(
            "select topic, originator_id as stream, originator_version as version, state"
            " from events order by notification_id"
        ).fetchall()
    ledger.close()
    return {row["topic"]: {**row, "state": orjson.loads(row["state"])} for row in rows}


def document() -> str:
    """docs/events.md."""
    lines = ["# Events", "", *HEAD.split("\n")]
    nouns: dict[str, list[type[Event]]] = {}
    for topic, kind in EVENTS.items():
        nouns.setdefault(topic.split(".", maxsplit=1)[0], []).append(kind)
    for noun, kinds in nouns.items():
        lines += [
            "",
            f"## {noun.capitalize()}",
            "",
            "| Topic | Version | Meaning | Payload |",
            "| --- | --- | --- | --- |",
        ]
        lines += [f"| `{k.TOPIC}` | {k.class_version} | {_meaning(k)} | {_payload(k)} |" for k in kinds]
    return "\n".join(lines) + "\n"


def _meaning(kind: type[Event]) -> str:
    return (inspect.getdoc(kind) or "").split("\n\n", maxsplit=1)[0].replace("\n", " ").replace("``", "`")


def _payload(kind: type[Event]) -> str:
    own = [f for f in fields(kind) if f.name not in COLUMNS + COMMON]
    assert all(f.default is MISSING for f in own), "a stored field has no default: it is stored"
    return ", ".join(f"`{f.name}`{'?' if 'None' in str(f.type) else ''}" for f in own) or "none"


def main() -> None:
    """Write the contracts that are missing, and the document."""
    url, schema = os.environ["DATABASE_URL"], f"contract_{uuid.uuid4().hex[:8]}"
    migrate(url, schema)
    try:
        story = stored_story(Database(url, schema))
    finally:
        drop_ledger(url, schema)
    FOLDER.mkdir(exist_ok=True)
    for topic, kind in EVENTS.items():
        path = path_of(topic, kind.class_version)
        if not path.exists():
            contract = {"schema": schema_of(kind), "sample": story[topic]}
            path.write_bytes(orjson.dumps(contract, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    DOCUMENT.write_text(document(), "utf-8")


if __name__ == "__main__":
    main()
