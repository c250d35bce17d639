"""Rules: what they may be, how they are created and stopped, and what they issue for an occasion."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from ledger import errors, use_cases
from ledger.audience import Facts
from ledger.commit import Unit
from ledger.events import BatchPaused, BatchStopped, RuleCreated, RuleStopped
from ledger.request import Request
from ledger.rules import RULE_LIMIT, Occasion, RulePlan, Rules
from ledger.work import Loaded, fold
from tests.unit.specs import (
    BATCH,
    INSTANT,
    MERCHANT,
    T0,
    TERMS,
    Command,
    Fact,
    MemoryBackend,
    Story,
    after,
    bind,
    created_batch,
    created_template,
    numbered,
    running_batch,
)

STREAM = f"rules-{MERCHANT}"
PAYLOAD: dict[str, Any] = {
    "trigger": "registered",
    "batch_id": BATCH,
    "receiver": "user",
    "min_paid_minor": 0,
    "tiers": [],
    "currency": None,
}
REQUEST = Request(MERCHANT, "consumer:members", "/shop 1", at=T0)


def rule(id: str = "r-1", at: datetime = T0, **payload: Any) -> Fact:
    return Fact(RuleCreated, STREAM, {"rule_id": id, **PAYLOAD, **payload}, at)


def stopped(id: str = "r-1") -> Fact:
    return Fact(RuleStopped, STREAM, {"rule_id": id, "reason": "over"})


def create(**plan: Any) -> Command:
    return Command(use_cases.create_rule, {"plan": RulePlan(trigger="registered", batch_id=BATCH, **plan)})


STOP = Command(use_cases.stop_rule, {"rule_id": "r-1", "reason": "over"})
FULL = [rule(f"r-{number}") for number in range(RULE_LIMIT)]
STOPPED_BATCH = [*running_batch(), Fact(BatchStopped, f"batch-{BATCH}", {"reason": "over"})]
PAUSED_BATCH = [*running_batch(), Fact(BatchPaused, f"batch-{BATCH}", {"reason": "lunch"})]
FOR_POINTS = [created_template(replace(TERMS, points_price=300)), *running_batch()[1:]]

RULE_STORIES = [
    Story("the first", running_batch(), create(), [Fact(RuleCreated, STREAM, PAYLOAD)], {"batch_id": BATCH}),
    Story("another", [*running_batch(), rule()], create(), [Fact(RuleCreated, STREAM, PAYLOAD)]),
    Story("on a draft", [created_template(), created_batch()], create(), [Fact(RuleCreated, STREAM)]),
    Story("on a paused batch", PAUSED_BATCH, create(), [Fact(RuleCreated, STREAM)]),
    Story("on a stopped batch", STOPPED_BATCH, create(), errors.BatchStateConflict, facts={"state": "STOPPED"}),
    Story("on a batch that is over", running_batch(claim_until=T0), create(), errors.BatchStateConflict),
    Story("on a batch whose coupons cost points", FOR_POINTS, create(), errors.InvalidField,
          facts={"field": "batch_id"}),
    Story("on no batch", [rule()], create(), errors.BatchNotFound),
    Story("one too many", [*running_batch(), *FULL], create(), errors.RuleLimitReached, facts={"limit": RULE_LIMIT}),
    Story("in the place of one", [*running_batch(), *FULL, stopped("r-9")], create(), [Fact(RuleCreated, STREAM)]),
    Story("it is stopped", [rule("r-0"), rule()], STOP, [stopped()], {"rule_id": "r-1"}),
    Story("it is stopped twice", [rule(), stopped()], STOP, errors.RuleNotFound, facts={"id": "r-1"}),
    Story("none is stopped", [], STOP, errors.RuleNotFound),
]  # fmt: skip


@pytest.mark.parametrize("story", RULE_STORIES, ids=lambda story: story.name)
def test_story(story: Story) -> None:
    story.tell(MemoryBackend())


def test_a_batch_of_another_merchant_is_not_there() -> None:
    backend = MemoryBackend()
    backend.given(numbered(bind(running_batch(), "")))
    command = bind(create(), "")
    with pytest.raises(errors.BatchNotFound):
        backend.perform(Command(command.use_case, command.arguments, merchant_id="merchant-2"))


def test_a_reason_is_needed_to_stop() -> None:
    with pytest.raises(errors.InvalidField):
        use_cases.stop_rule(REQUEST, "r-1", reason="")


@pytest.mark.parametrize(
    ("plan", "field"),
    [
        ({"trigger": "birthday"}, "trigger"),
        ({"receiver": "friend"}, "receiver"),
        ({"receiver": "referrer"}, "receiver"),
        ({"trigger": "order_paid", "receiver": "referrer"}, "receiver"),
        ({"trigger": "order_paid", "min_paid_minor": -1}, "min_paid_minor"),
        ({"trigger": "order_paid", "min_paid_minor": 1.0}, "min_paid_minor"),
        ({"trigger": "order_paid", "min_paid_minor": 10**12}, "min_paid_minor"),
        ({"min_paid_minor": 1}, "min_paid_minor"),
        ({"trigger": "order_paid", "min_paid_minor": 1}, "currency"),
        ({"trigger": "order_paid", "currency": "eur"}, "currency"),
        ({"currency": "EUR"}, "currency"),
        ({"tiers": ("gold",)}, "tiers"),
        ({"trigger": "tier_changed", "tiers": ("",)}, "tiers"),
        ({"trigger": "tier_changed", "tiers": ("gold",) * 101}, "tiers"),
    ],
)
def test_a_plan_has_bounds(plan: dict[str, Any], field: str) -> None:
    with pytest.raises(errors.InvalidField) as refused:
        RulePlan(**{"trigger": "registered", "batch_id": "b", **plan})
    assert refused.value.facts["field"] == field


def test_nobody_refers_themselves() -> None:
    with pytest.raises(errors.InvalidField):
        Occasion(trigger="referred", user_id="u", referrer_id="u")


# --- what they issue ---------------------------------------------------------------------------------


def awards(occasion: Occasion, *facts: Fact) -> list[tuple[str, str, str]]:
    """Rule, user and request of each coupon."""
    rules = fold(Rules(STREAM), numbered(bind(facts, "")))
    return [(award.rule.rule_id, award.user_id, award.request_id) for award in rules.awards(occasion)]


ALL = [
    rule("r-1"),
    rule("r-2", trigger="referred"),
    rule("r-3", trigger="referred", receiver="referrer"),
    rule("r-4", trigger="tier_changed"),
    rule("r-5", trigger="tier_changed", tiers=["gold", "platinum"]),
    rule("r-6", trigger="order_paid"),
    rule("r-7", trigger="order_paid", min_paid_minor=5_000),
    rule("r-8"),
    stopped("r-8"),
    rule("r-9", trigger="order_paid", min_paid_minor=4_000, currency="EUR"),
]


@pytest.mark.parametrize(
    ("occasion", "expected"),
    [
        ({"trigger": "registered"}, [("r-1", "new", " rule r-1 registered new")]),
        (
            {"trigger": "referred", "referrer_id": "old"},
            [("r-2", "new", " rule r-2 referred new"), ("r-3", "old", " rule r-3 referred new")],
        ),
        ({"trigger": "tier_changed", "tier": "silver"}, [("r-4", "new", " rule r-4 tier_changed new")]),
        (
            {"trigger": "tier_changed", "tier": "gold"},
            [("r-4", "new", " rule r-4 tier_changed new"), ("r-5", "new", " rule r-5 tier_changed new")],
        ),
        (
            {"trigger": "order_paid", "order_id": "o", "paid_minor": 4_999},
            [("r-6", "new", " rule r-6 order_paid o")],
        ),
        (
            {"trigger": "order_paid", "order_id": "o", "paid_minor": 5_000},
            [("r-6", "new", " rule r-6 order_paid o"), ("r-7", "new", " rule r-7 order_paid o")],
        ),
        (
            {"trigger": "order_paid", "order_id": "o", "paid_minor": 4_000, "currency": "JPY"},
            [("r-6", "new", " rule r-6 order_paid o")],
        ),
        (
            {"trigger": "order_paid", "order_id": "o", "paid_minor": 4_000, "currency": "EUR"},
            [("r-6", "new", " rule r-6 order_paid o"), ("r-9", "new", " rule r-9 order_paid o")],
        ),
    ],
)
def test_each_rule_that_matches_issues_one(occasion: dict[str, Any], expected: list[tuple[str, str, str]]) -> None:
    assert awards(Occasion(user_id="new", **occasion), *ALL) == expected


def test_each_side_of_a_referral_has_its_own_facts() -> None:
    new, old = Facts(newcomer=True), Facts(tier="gold")
    occasion = Occasion(trigger="referred", user_id="n", facts=new, referrer_id="o", referrer_facts=old)
    found = fold(Rules(STREAM), numbered(bind(ALL, ""))).awards(occasion)
    assert [award.facts for award in found] == [new, old]


def test_a_rule_has_no_say_in_what_happened_before_it() -> None:
    facts = [rule(at=after(1))]
    for at, count in ((after(1) - INSTANT, 0), (after(1), 1), (None, 1)):
        assert len(awards(Occasion(trigger="registered", user_id="u", at=at), *facts)) == count


def test_what_is_issued_is_the_batchs_coupon_and_reads_the_rules() -> None:
    events = numbered(bind([*running_batch(), *ALL], ""))
    streams = {id: [event for event in events if event.originator_id == id] for id in ("batch-b", STREAM)}
    backend = MemoryBackend()
    backend.given(events)
    rules = fold(Rules(STREAM), streams[STREAM])
    occasion = Occasion(trigger="registered", user_id="new", facts=Facts(newcomer=True))
    ((_, work),) = use_cases.issue_by_rules(REQUEST, rules, occasion)
    unit = work.decide(Loaded(MERCHANT, T0, {}, backend._batch, lambda *_: TERMS))
    assert isinstance(unit, Unit)
    (issued,) = unit.events
    assert (
        vars(issued).items()
        >= {
            "merchant_id": MERCHANT,
            "actor": "consumer:members",
            "request_id": " rule r-1 registered new",
            "batch_id": "b",
            "user_id": "new",
            "channel": "rule.registered",
        }.items()
    )
    assert unit.reads == {"batch-b": 2, STREAM: len(ALL)}
    assert (unit.stock, unit.request) == ({"b": 1}, None)
