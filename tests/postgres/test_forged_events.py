"""One list of forged events for both readings of the log, so that they cannot drift apart.

What ``verify`` and the offline audit find is the first event that is wrong. Where one of them rightly cannot know, the
list says so.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import psycopg
import pytest

from coupon_ledger_audit.broken import Broken
from coupon_ledger_audit.fold import Fold
from ledger.application import Ledger
from ledger.benefit import Benefit
from ledger.database import Database
from projections.verify.report import IDS, Report
from projections.verify.run import verify
from tests.postgres.forging import PLANNER, POLICY, SUBMITTER, Forger, Story, forging

OF_LOG = [id for id in IDS if id not in ("I10", "I15")]
OFF = {**vars(Benefit(kind="amount_off", value_minor=500)), "products": []}
FAR = "9999-12-31T00:00:00+00:00"
ZONE = "zones are those of the auditor's machine: one without data is told, and not judged"
NO_LIMIT = "a limit that nobody can reach limits nothing"


class Forged(NamedTuple):
    """An edit of events; what each reading calls it; and why one of them does not tell it."""

    check: str
    rule: str
    edit: Callable[[Forger], int]
    """Answers the position of the first event that is wrong then."""
    why: str = ""
    at_issue: bool = False
    """Whether the audit meets it only when the first coupon is issued by it."""


def coupon(name: str, verb: str, nth: int = 1, **fields: Any) -> Callable[[Forger], int]:
    return lambda by: by.coupon(name, verb, nth, **fields)


def plan(verb: str = "created", nth: int = 1, **fields: Any) -> Callable[[Forger], int]:
    return lambda by: by.batch(by.story.plain, verb, nth, **fields)


def terms(**fields: Any) -> Callable[[Forger], int]:
    return lambda by: by.terms(by.story.plain, **fields)


def moved(field: str, **by: float) -> Callable[[dict[str, Any]], str]:
    return lambda payload: (datetime.fromisoformat(payload[field]) + timedelta(**by)).isoformat()


def _started_unapproved(by: Forger) -> int:
    by.batch(by.story.given, "created", needs_approval=True)
    return by.batch(by.story.given, "started")


def _raised_as_it_runs(by: Forger) -> int:
    by.batch(by.story.plain, "quantity_changed", 2, quantity_before=60)
    return by.batch(by.story.plain, "quantity_changed", quantity=60)


def _raised_unreviewed(by: Forger) -> int:
    by.batch(by.story.plain, "quantity_changed", 2, quantity=60)
    by.batch(by.story.plain, "quantity_changed", 3, quantity_before=60)
    return by.batch(by.story.plain, "resumed")


def _same_redemption(by: Forger) -> int:
    [(id,)] = by.connection.execute(
        "select payload->>'redemption_id' from event_log where stream = %s and topic = 'coupon.used'",
        (by.story.stream("buyer_refund"),),
    )
    return by.coupon("used", "used", redemption_id=id)


def _late(name: str) -> Callable[[Forger], int]:
    def edit(by: Forger) -> int:
        by.coupon(name, "locked", lock_ends_at=lambda payload: payload["occurred_at"])
        return by.coupon(name, "used", late=True)

    return edit


def _late_refused(by: Forger) -> int:
    by.terms(by.story.given, late_confirm="refuse")
    return by.position("late", "used")


def _not_to_be_given(by: Forger) -> int:
    by.terms(by.story.given, transferable=False)
    return by.position("late", "transferred")


def _not_to_be_shared(by: Forger) -> int:
    by.terms(by.story.given, shareable=False)
    return by.position("shared", "shared")


def _revived(verb: str) -> Callable[[Forger], int]:
    """The lock is over when the order names it again."""

    def edit(by: Forger) -> int:
        by.coupon("held", "locked", lock_ends_at=lambda payload: payload["occurred_at"])
        extended = by.position("held", "lock_extended")
        if verb == "lock_extended":
            return extended
        by.coupon("held", "locked", lock_ends_at=moved("lock_ends_at", seconds=11))
        by.coupon("held", "lock_extended", lock_ends_at=moved("occurred_at", seconds=1))
        return by.position("held", "unlocked")

    return edit


def _made_again_later(by: Forger) -> int:
    """By the same request, but when the coupon is over."""
    return by.coupon(
        "held",
        "locked",
        2,
        occurred_at=moved("occurred_at", days=40),
        lock_ends_at=moved("lock_ends_at", days=40),
    )


def _grace_left_out(by: Forger) -> int:
    """The first credit is for the reason that has a grace, and so long that it moves the end."""
    by.terms(by.story.voucher, return_policy=vars(POLICY) | {"grace_days": 30})
    by.coupon("voucher", "credited", reason="merchant_refund")
    return by.position("voucher", "locked", 3)


def _grace_not_given(by: Forger) -> int:
    by.coupon("graced", "credited", 2, reason="order_cancelled")
    return by.coupon("graced", "extended", occurred_at=moved("valid_until_before", seconds=1))


def _grace_on_what_was_over(by: Forger) -> int:
    later = {"occurred_at": moved("occurred_at", days=2)}
    by.coupon("graced", "credited", 2, **later)
    return by.coupon("graced", "extended", **later, valid_until=moved("valid_until", days=2))


def _grace_later(by: Forger) -> int:
    later = {name: moved(name, days=20) for name in ("occurred_at", "valid_until")}
    return by.coupon("graced", "extended", **later)


def _half_a_coupon_by_line(value: Any) -> list[dict[str, Any]]:
    return [{"line_id": "1", "product_id": "p", "discount_minor": value}]


FORGED: dict[str, Forged] = {
    # --- plans ----------------------------------------------------------------------------------------------
    "a zone of nowhere": Forged("catalogue", "", plan(time_zone="Nowhere"), ZONE),
    "a zone that is a folder": Forged("catalogue", "", plan(time_zone="America"), ZONE),
    "a zone that is a number": Forged("catalogue", "form", plan(time_zone=1), at_issue=True),
    "a quantity as text": Forged("catalogue", "I2", plan(quantity="9")),
    "a quantity that is true": Forged("catalogue", "I2", plan(quantity=True)),
    "a limit as text": Forged("catalogue", "form", plan(per_user_limit="9"), at_issue=True),
    "a limit beyond bounds": Forged("catalogue", "", plan(per_user_limit=2**63), NO_LIMIT),
    "a limit of a day beyond bounds": Forged("catalogue", "", plan(per_day_limit=2**64 - 1), NO_LIMIT),
    "a budget that is negative": Forged("catalogue", "I17", plan(budget_minor=-1)),
    "a changed quantity as text": Forged("catalogue", "I2", plan("quantity_changed", quantity="9")),
    "a duration beyond bounds": Forged("catalogue", "I7", plan(valid_for_seconds=2**62), at_issue=True),
    "a coupon that is valid for ever": Forged("catalogue", "I7", plan(valid_for_seconds=None)),
    "started without approval": Forged("plans", "I2", _started_unapproved),
    "approved by who submitted it": Forged("plans", "I2", plan("approved", actor=SUBMITTER)),
    "approved by who planned it": Forged("plans", "I2", plan("approved", actor=PLANNER)),
    "raised while it runs as approved": Forged("plans", "I2", _raised_as_it_runs),
    "raised without a review": Forged("plans", "I2", _raised_unreviewed),
    "a worth as text": Forged("catalogue", "I17", terms(benefit=OFF | {"value_minor": "500"})),
    "a worth that has a point": Forged("catalogue", "I17", terms(benefit=OFF | {"value_minor": 500.0})),
    # --- issued ---------------------------------------------------------------------------------------------
    "valid for fifty years": Forged(
        "I7", "I7", coupon("used", "issued", valid_until=moved("valid_until", days=18_262))
    ),
    "valid for a moment more": Forged(
        "I7", "I7", coupon("used", "issued", valid_until=moved("valid_until", microseconds=1))
    ),
    "valid since long ago": Forged("I7", "I7", coupon("used", "issued", valid_from="2020-01-01T00:00:00+00:00")),
    "valid without the delay": Forged(
        "I7", "I7", coupon("voucher", "issued", valid_from=moved("valid_from", seconds=-60))
    ),
    "valid for days after the day's close": Forged(
        "I7", "I7", coupon("shared", "issued", valid_until=moved("valid_until", days=2))
    ),
    "a time that no clock shows": Forged(
        "catalogue", "I7", coupon("used", "issued", occurred_at="0001-01-01T00:00:00+14:00")
    ),
    "a time without a zone": Forged("I7", "form", coupon("used", "issued", valid_until="2026-04-01T00:00:00")),
    # --- held -----------------------------------------------------------------------------------------------
    "a lock that promises too much": Forged(
        "I17",
        "I17",
        coupon("used", "locked", discount_minor=50_000, allocation=_half_a_coupon_by_line(50_000)),
    ),
    "a lock that promises less than nothing": Forged(
        "I17", "I17", coupon("used", "locked", discount_minor=-5, allocation=[])
    ),
    "a lock that promises more than is left": Forged(
        "I17", "I17", coupon("voucher", "locked", 2, discount_minor=900, allocation=_half_a_coupon_by_line(900))
    ),
    "a lock below the minimum spend": Forged("I17", "I17", coupon("order_cancelled", "locked", order_total_minor=999)),
    "a lock of an unknown total": Forged("I17", "I17", coupon("order_cancelled", "locked", order_total_minor=None)),
    "a lock without an end": Forged("I4", "I4", coupon("order_cancelled", "locked", lock_ends_at=FAR)),
    "a lock that is over before it begins": Forged(
        "I4", "I4", coupon("let go", "locked", lock_ends_at=moved("occurred_at", seconds=-1))
    ),
    "a lock that is shortened": Forged(
        "I4", "I4", coupon("held", "lock_extended", lock_ends_at=moved("lock_ends_at", hours=-2))
    ),
    "a lock that is extended for days": Forged(
        "I4", "I4", coupon("held", "lock_extended", lock_ends_at=moved("occurred_at", days=1))
    ),
    "a lock that is made again for days": Forged(
        "I4", "I4", coupon("held", "locked", 2, lock_ends_at=moved("occurred_at", days=1))
    ),
    "a lock that is made again for less": Forged(
        "I4", "I4", coupon("held", "locked", 2, lock_ends_at=moved("occurred_at", seconds=1))
    ),
    "a lock that is over while it lasts": Forged(
        "I6", "I6", coupon("let go", "unlocked", occurred_at=moved("occurred_at", seconds=-150))
    ),
    "a lock that is extended when it is over": Forged("I6", "I6", _revived("lock_extended")),
    "a lock that is made again when it is over": Forged("I6", "I6", _revived("unlocked")),
    "a lock that is made again later, after the end": Forged("I7", "I7", _made_again_later),
    "a lock that is let go when it is over": Forged("I6", "I6", coupon("let go", "unlocked", reason="left")),
    # --- used -----------------------------------------------------------------------------------------------
    "a late use where none counts": Forged("I6", "I6", _late("used")),
    "a late use that the terms refuse": Forged("I6", "I6", _late_refused),
    "a use in time that says it is late": Forged("I6", "I6", coupon("used", "used", late=True)),
    "a late use that says it is not": Forged("I6", "I6", coupon("late", "used", late=False)),
    "one redemption of two coupons": Forged("I5", "I5", _same_redemption),
    "shares of funders that contradict the terms": Forged(
        "I17", "I17", coupon("used", "used", merchant_funded_minor=500, platform_funded_minor=0)
    ),
    "an amount as text": Forged("I17", "I17", coupon("used", "used", discount_minor="500")),
    "an amount that is true": Forged("I17", "I17", coupon("used", "used", order_total_minor=True)),
    "an amount that has a point": Forged("I17", "I17", coupon("used", "used", discount_minor=500.0)),
    "a paid amount that has a point": Forged("I17", "I17", coupon("used", "used", paid_minor=0.5)),
    "a share of a funder that has a point": Forged("I17", "I17", coupon("used", "used", merchant_funded_minor=166.0)),
    "a line that has a point": Forged("I17", "I17", coupon("used", "used", allocation=_half_a_coupon_by_line(500.0))),
    "lines that make up for each other": Forged(
        "I17",
        "I17",
        coupon("used", "used", allocation=[*_half_a_coupon_by_line(600), *_half_a_coupon_by_line(-100)]),
    ),
    "a use of too small an order": Forged("I17", "I17", coupon("used", "used", order_total_minor=900)),
    # --- given back -----------------------------------------------------------------------------------------
    "restored where the terms keep it": Forged(
        "I7", "I7", coupon("buyer_refund", "returned", restored=True, returned_minor=0)
    ),
    "money back where the terms keep it": Forged("I17", "I17", coupon("buyer_refund", "returned", returned_minor=500)),
    "kept where the terms restore it": Forged("I7", "I7", coupon("order_cancelled", "returned", restored=False)),
    "returned for no known reason": Forged("I7", "form", coupon("order_cancelled", "returned", reason="storm")),
    "a return that has a point": Forged("I17", "I17", coupon("order_cancelled", "returned", returned_minor=500.0)),
    "a grace that nobody gave": Forged(
        "I7", "I7", coupon("order_cancelled", "returned", valid_until=moved("valid_until", days=1))
    ),
    "a grace of years": Forged(
        "I7", "I7", coupon("merchant_refund", "returned", valid_until=moved("valid_until", days=700))
    ),
    "a credit of more than was spent": Forged("I17", "I17", coupon("voucher", "credited", balance_minor=900)),
    "a balance that has a point": Forged("I17", "I17", coupon("voucher", "debited", balance_minor=600.0)),
    # --- given away, extended -------------------------------------------------------------------------------
    "given where the terms forbid it": Forged("custody", "I6", _not_to_be_given),
    "shared where the terms forbid it": Forged("custody", "I6", _not_to_be_shared),
    "an extension that shortens": Forged(
        "I7", "I7", coupon("extended", "extended", valid_until=moved("valid_until_before", days=-1))
    ),
    "a grace after a credit that is left out": Forged("I7", "I7", _grace_left_out),
    "a grace after a credit that nobody gave": Forged("I7", "I7", _grace_not_given),
    "a grace on what was over": Forged("I7", "I7", _grace_on_what_was_over),
    "a grace after a credit, weeks later": Forged("I7", "I7", _grace_later),
    "a grace after a credit that is too long": Forged(
        "I7", "I7", coupon("graced", "extended", valid_until=moved("valid_until", days=1))
    ),
    "an extension of what is over": Forged(
        "I7", "I7", coupon("extended", "extended", occurred_at=moved("valid_until_before", days=1))
    ),
}


@pytest.fixture(scope="module")
def story(shared_ledger: Ledger) -> Story:
    return Story(shared_ledger)


def first_wrong(report: Report) -> tuple[str, int | None]:
    """The check and position of the first event that is wrong."""
    first = report.first_wrong
    return ("", None) if first is None else (first.id, first.first_bad_position)


def audited(connection: psycopg.Connection[Any]) -> tuple[str, int | None]:
    """The same as the offline audit has it: its rule, by its short name."""
    fold = Fold(whole=True)
    query = """
        select notification_id, originator_id, originator_version, topic, convert_from(state, 'utf8'),
               (extract(epoch from recorded_at) * 1000000)::bigint
          from events order by notification_id"""
    for position, stream, version, topic, state, recorded_at_us in connection.execute(query):
        try:
            fold.add(stream, version, topic, state, recorded_at_us)
        except Broken as broken:
            return broken.rule.split()[0], position
    fold.conserve()
    return "", None


def test_the_story_is_right_by_both_readings(story: Story, shared_database: Database) -> None:
    report = verify(shared_database, only=OF_LOG)
    assert report.ok, [check.findings for check in report.checks if not check.ok]
    with forging(shared_database, story) as by:
        assert audited(by.connection) == ("", None)


@pytest.mark.parametrize("name", FORGED)
def test_what_is_forged_is_found_by_both_readings(story: Story, shared_database: Database, name: str) -> None:
    forged = FORGED[name]
    with forging(shared_database, story) as by:
        position = forged.edit(by)
        told = by.position("order_cancelled", "issued") if forged.at_issue else position
        report = verify(shared_database, only=OF_LOG)
        assert first_wrong(report) == (forged.check, position), [each.findings for each in report.checks if not each.ok]
        assert audited(by.connection) == (forged.rule, told if forged.rule else None)
        assert bool(forged.why) == (not forged.rule)


def test_a_grace_is_not_left_out_at_the_end(story: Story, shared_database: Database) -> None:
    """No later event of the coupon shows it."""
    with forging(shared_database, story) as by:
        credited, extended = by.position("graced", "credited", 2), by.position("graced", "extended")
        by.connection.execute("delete from events where notification_id = %s", (extended,))
        report = verify(shared_database, only=["I7"])
        assert first_wrong(report) == ("I7", credited)
        with pytest.raises(Broken, match="the grace after a return is left out"):
            audited(by.connection)
    assert verify(shared_database, only=OF_LOG).ok
