"""Messages that can have no effect are kept with a reason, copied, and never hold up their partition."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from consumers.asked import Asked
from consumers.dead_letter_copies import COPY_LIMIT_BYTES
from consumers.inputs import ISSUANCE, ORDERS
from consumers.messages import VALUE_LIMIT_BYTES, Message, Wire
from consumers.payloads import OrderPaid, RedeemedCoupon
from ledger import use_cases
from ledger.application import Ledger
from ledger.request import Request
from ledger.work import Loaded
from tests.conftest import Shop
from tests.kafka.broker import MERCHANT, Broker, consume, issue, message, running, wait_until
from tests.kafka.test_orders import created

Sql = Callable[..., list[tuple[Any, ...]]]


def with_header(wire: Wire, name: str, value: bytes | None) -> Wire:
    """The message with one header changed, or without it."""
    headers = [(key, old) for key, old in wire.headers if key != name]
    return wire._replace(headers=headers if value is None else [*headers, (name, value)])


def poisons(batch: str) -> list[tuple[Wire, str]]:
    """Messages that the issuance topic cannot take, each with its reason."""
    good = issue(batch, 1, id="poison")
    assert good.value is not None
    return [
        (good._replace(value=b"not JSON"), "malformed_json"),
        (good._replace(value=b""), "malformed_json"),
        (good._replace(value=None), "malformed_json"),
        (good._replace(value=b"\xff\xfe"), "malformed_json"),
        (good._replace(value=b"[" * 10_000), "malformed_json"),
        (good._replace(value=b'{"merchant_id": "m\\u0000"}'), "invalid_field"),
        (good._replace(value=b'{"merchant_id": "merchant-1", "batch_id": "b"}'), "invalid_field"),
        (good._replace(value=good.value.replace(b'"user-1"', b"1")), "invalid_field"),
        (good._replace(value=good.value + b" " * VALUE_LIMIT_BYTES), "too_large"),
        (good._replace(key=b"another user"), "wrong_key"),
        (good._replace(key=None), "wrong_key"),
        (good._replace(headers=[]), "invalid_envelope"),
        (with_header(good, "ce_id", None), "invalid_envelope"),
        (with_header(good, "ce_id", b"x" * 256), "invalid_envelope"),
        (with_header(good, "ce_id", b"\xff"), "invalid_envelope"),
        (with_header(good, "ce_source", b"two words"), "invalid_envelope"),
        (with_header(good, "ce_time", b"yesterday"), "invalid_envelope"),
        (with_header(good, "ce_time", b"2026-01-01T00:00:00"), "invalid_envelope"),
        (with_header(good, "ce_specversion", b"0.3"), "invalid_envelope"),
        (with_header(good, "ce_type", None), "invalid_envelope"),
        (with_header(good, "ce_type", b""), "invalid_envelope"),
        (with_header(good, "ce_type", b"coupon.issue.requested.v2"), "unknown_type"),
        (with_header(good, "ce_type", b"order.paid.v1"), "unknown_type"),
        (with_header(good, "ce_type", b"name\x00"), "unknown_type"),
        (with_header(good, "content-type", b"application/cloudevents+json"), "unsupported_media_type"),
        (with_header(good, "zero\x00name", b"\x00")._replace(value=b"{"), "malformed_json"),
        (issue("no-such-batch", 1), "batch_not_found"),
    ]


def test_each_is_kept_with_its_reason_and_copied_unchanged(
    broker: Broker, ledger: Ledger, shop: Shop, sql: Sql
) -> None:
    batch = shop.batch(per_user_limit=None, quantity=1_000)
    bad = poisons(batch)
    wires = [wire for number, (poison, _) in enumerate(bad) for wire in (poison, issue(batch, number, id=f"{number}"))]
    broker.send(ISSUANCE.topic, wires, partition=0)
    with running(broker.worker(ledger)) as worker:
        wait_until(lambda: worker.health().messages == len(wires), "all are taken")
        wait_until(lambda: sql("select bool_and(published_at is not null) from dead_letters")[0][0], "all are copied")
    assert worker.health().effects == len(bad)
    letters = sql('select "offset", reason, key, value, detail from dead_letters order by "offset"')
    assert [(offset, reason) for offset, reason, *_ in letters] == [
        (2 * number, reason) for number, (_, reason) in enumerate(bad)
    ]
    assert [(key, value) for _, _, key, value, _ in letters] == [(wire.key, wire.value) for wire, _ in bad]
    copies = broker.records(f"{ISSUANCE.topic}.dlq", len(bad))
    assert len(copies) == len(bad)
    for (wire, reason), copy in zip(bad, copies, strict=True):
        assert (copy.key, copy.value) == (wire.key, wire.value)
        told = dict(copy.headers[len(wire.headers) :])
        assert copy.headers[: len(wire.headers)] == list(wire.headers)
        assert told["dead_letter_reason"] == reason.encode()
        assert told["dead_letter_topic"] == f"{broker.prefix}{ISSUANCE.topic}".encode()
        assert (told["dead_letter_group"], told["dead_letter_attempts"]) == (broker.group.encode(), b"1")
        assert told["dead_letter_partition"] == b"0"


def test_an_impossible_step_of_an_order_is_dead_and_the_next_order_goes_on(
    broker: Broker, ledger: Ledger, shop: Shop, sql: Sql
) -> None:
    used = shop.coupon()
    shop.ledger.do(use_cases.redeem(shop.request(), "till-1", coupon_id=used, discount_minor=1))
    wires = []
    for order, coupons in {"o-1": [used], "o-2": [used, used], "o-3": []}.items():
        redemptions = [RedeemedCoupon(coupon_id=id, discount_minor=1) for id in coupons]
        wires.append(message(OrderPaid(merchant_id=MERCHANT, order_id=order, redemptions=redemptions), order))
    broker.send(ORDERS.topic, [*wires, created("o-4", shop.coupon())], partition=0)
    health = consume(broker.worker(ledger, ORDERS), 4).health()
    assert (health.effects, health.dead, health.early) == (1, 2, 0)
    assert sql('select reason from dead_letters order by "offset"') == [("coupon_used",), ("invalid_field",)]


def test_a_letter_too_large_for_its_copy_is_announced_without_its_value(
    broker: Broker, ledger: Ledger, sql: Sql
) -> None:
    value = random.Random(1).randbytes(COPY_LIMIT_BYTES + 40_000)
    broker.send(ISSUANCE.topic, [issue("b", 1)._replace(value=value)])
    with running(broker.worker(ledger)):
        wait_until(lambda: sql("select 1 from dead_letters where published_at is not null"), "it is copied")
    assert sql("select reason, value = %s from dead_letters", value) == [("too_large", True)]
    (copy,) = broker.records(f"{ISSUANCE.topic}.dlq", 1)
    assert copy.value == b""
    assert dict(copy.headers)["dead_letter_value_left_out_bytes"] == str(len(value)).encode()


def test_a_message_that_makes_its_group_fail_is_found_and_the_others_have_their_effects(
    broker: Broker, ledger: Ledger, shop: Shop, sql: Sql
) -> None:
    """A fault that nobody foresaw, once while deciding and once inside the database."""

    def asked_by(message: Message, request: Request) -> Asked:
        asked = ISSUANCE.asked_by(message, request)
        assert asked.work is not None
        if message.request_id.endswith(" issue-13"):

            def decide(loaded: Loaded) -> Any:
                raise RuntimeError("never\x00 foreseen")

            return asked._replace(work=replace(asked.work, decide=decide))
        if message.request_id.endswith(" issue-57"):
            broken = replace(request, merchant_id="a\x00b")
            return asked._replace(work=replace(asked.work, request=broken, issues_from=None))
        return asked

    batch = shop.batch()
    broker.send(ISSUANCE.topic, [issue(batch, number) for number in range(80)], partition=0)
    health = consume(broker.worker(ledger, replace(ISSUANCE, asked_by=asked_by)), 80).health()
    assert (health.effects, health.dead) == (78, 2)
    letters = sql('select "offset", reason, detail from dead_letters order by "offset"')
    assert [letter[:2] for letter in letters] == [(13, "unexpected_error"), (57, "unexpected_error")]
    assert letters[0][2] == r"RuntimeError: never\x00 foreseen"
    assert letters[1][2].startswith("UntranslatableCharacter")  # the server holds no NUL in text
    assert sql("select count(*) from event_log where topic = 'coupon.issued'") == [(78,)]
