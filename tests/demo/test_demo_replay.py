"""The replay into a real ledger, its messages handed over without a broker; and what reconciling finds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, NamedTuple

import psycopg
import pytest

from consumers.inbox import Inbox
from consumers.inputs import ISSUANCE, ORDERS, Input
from consumers.messages import Wire, decode, encode
from consumers.payloads import IssueRequested, OrderCreated, OrderPaid
from coupon_ledger.demo import waiting
from coupon_ledger.demo.dataset import Offer, load_offers, load_redemptions
from coupon_ledger.demo.orders import Order, build_orders
from coupon_ledger.demo.reconcile import Figure, reconcile
from coupon_ledger.demo.replay import (
    CHANNEL,
    SOURCE,
    BatchIds,
    Running,
    create_batches,
    expire,
    issuances,
    order_messages,
)
from coupon_ledger.demo.waiting import Stalled, wait_for_group, wait_for_projections
from ledger.application import Ledger
from projections.runner import Runner

CAMPAIGNS = (1, 5)
"""Small ones, with redemptions and repeats."""
MERCHANT = "grocer"


class Record(NamedTuple):
    """A message as a consumer gets it."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Any


class Year:
    """The chosen campaigns in a ledger, step by step."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.told: list[tuple[str, int, int]] = []
        self.system = Running(
            ledger=ledger,
            merchant_id=MERCHANT,
            bootstrap="",
            issuance_topic=ISSUANCE.topic,
            issuance_group=ISSUANCE.group,
            orders_topic=ORDERS.topic,
            orders_group=ORDERS.group,
            progress=lambda *told: self.told.append(told),
        )
        self.offers = load_offers(CAMPAIGNS)
        self.orders = build_orders(self.offers, load_redemptions(CAMPAIGNS))
        self.batch_ids: BatchIds = {}
        self._offsets: dict[str, int] = defaultdict(int)

    def play(self, *, without: Iterable[Order] = (), short_of: Offer | None = None) -> list[Figure]:
        """Everything but the broker, leaving out some orders and one coupon of an offer; and the figures then."""
        self.batch_ids = create_batches(self.system, self.offers)
        for offer in self.offers:
            wires = issuance_wires(offer, self.batch_ids[offer.key])
            self.take(ISSUANCE, wires[1:] if offer is short_of else wires)
        messages = [
            message
            for order in self.orders
            if order not in without
            for message in order_messages(MERCHANT, order, self.batch_ids[order.offer])
        ]
        self.take(ORDERS, [wire for _, wire in sorted(messages)])
        self.fold()
        expire(self.system)
        self.fold()
        return reconcile(self.ledger, self.batch_ids, CAMPAIGNS)

    def take(self, input: Input, wires: list[Wire]) -> None:
        first = self._offsets[input.topic]
        records = [Record(input.topic, 0, first + number, 0, *wire) for number, wire in enumerate(wires)]
        self._offsets[input.topic] += len(wires)
        taken = Inbox(self.ledger, input, input.group, "message").take({(input.topic, 0): records})
        assert taken.messages == len(wires)

    def fold(self) -> None:
        Runner(self.ledger.store.database).catch_up()


def issuance_wires(offer: Offer, batch_id: str) -> list[Wire]:
    users = [(f"household-{household}".encode(), 0) for household in offer.campaign.households.tolist()]
    return [wire for wire, _ in issuances(MERCHANT, offer, batch_id, users)]


@pytest.fixture
def year(ledger: Ledger) -> Year:
    return Year(ledger)


def test_the_year_reconciles_and_a_second_replay_changes_nothing(year: Year) -> None:
    figures = year.play()
    assert [figure for figure in figures if not figure.ok] == []
    ledger_says = {figure.name: figure.ledger for figure in figures}
    assert ledger_says["coupons issued"] == sum(len(offer.campaign.households) for offer in year.offers)
    assert ledger_says["orders refused, coupon already used"] == 3
    assert ledger_says["batches true to the conservation law"] == len(year.offers)
    head = year.ledger.store.head()
    assert year.play() == figures
    assert year.ledger.store.head() == head


def test_a_missing_order_is_named_with_its_batch(year: Year) -> None:
    missing = next(order for order in year.orders if order.discount_minor)
    again = [order for order in year.orders if (order.offer, order.household) == (missing.offer, missing.household)]
    assert again == [missing], "an order that no other one repeats"
    figures = {figure.name: figure for figure in year.play(without=[missing])}
    assert {name for name, figure in figures.items() if not figure.ok} == {
        "coupons used", "coupons expired", "discount given, US cents", "campaigns with the data set's redemptions"
    }  # fmt: skip
    used = figures["coupons used"]
    campaign_id, upc = missing.offer
    batch = f"batch {year.batch_ids[missing.offer]} (campaign {campaign_id}, coupon {upc})"
    assert used.ledger == used.data_set - 1
    assert len(used.differences) == 1
    assert used.differences[0].startswith(f"{batch}: used ")
    assert figures["campaigns with the data set's redemptions"].differences[0].startswith(f"campaign {campaign_id}: ")


def test_a_missing_coupon_is_named_with_its_batch(year: Year) -> None:
    redeemed = {order.offer for order in year.orders}
    offer = next(offer for offer in year.offers if offer.key not in redeemed)
    figures = {figure.name: figure for figure in year.play(short_of=offer)}
    issued = figures["coupons issued"]
    assert issued.ledger == issued.data_set - 1
    assert [year.batch_ids[offer.key] in place for place in issued.differences] == [True]
    assert figures["batches true to the conservation law"].ok


def test_a_read_model_that_lies_is_found(year: Year) -> None:
    year.play()
    database = year.ledger.store.database
    batch_id = year.batch_ids[year.offers[0].key]
    with psycopg.connect(database.url, options=f"-c search_path={database.schema}") as connection:
        connection.execute(
            "update batch_balance_v3 set unused = unused + 1, expired = expired - 1 where batch_id = %s", (batch_id,)
        )
    figures = {figure.name: figure for figure in reconcile(year.ledger, year.batch_ids, CAMPAIGNS)}
    balances = figures["batches whose balance is that of the log"]
    assert balances.ledger == balances.data_set - 1
    assert [batch_id in place for place in balances.differences] == [True]
    assert figures["batches true to it by the log alone"].ok


def test_a_message_that_is_dead_for_another_reason_is_told(year: Year) -> None:
    stranger = encode(
        IssueRequested(merchant_id=MERCHANT, batch_id="no-such-batch", user_id="household-1"),
        source=SOURCE,
        id="stranger",
        time=year.offers[0].campaign.starts_at,
    )
    year.take(ISSUANCE, [stranger])
    dead = year.play()[-1]
    assert dead.ledger == 1
    assert "batch_not_found" in dead.differences[0]


def test_messages_are_those_of_the_contract(year: Year) -> None:
    offer = year.offers[0]
    household = offer.campaign.households.tolist()[0]
    wire = issuance_wires(offer, "b" * 26)[0]
    whole = encode(
        IssueRequested(merchant_id=MERCHANT, batch_id="b" * 26, user_id=f"household-{household}", channel=CHANNEL),
        source=SOURCE,
        id=f"{offer.campaign.id}-{offer.coupon_upc}:household-{household}",
        time=offer.campaign.starts_at,
    )
    assert (wire.key, wire.value, dict(wire.headers)) == (whole.key, whole.value, dict(whole.headers))
    assert decode(Record("", 0, 0, 0, *wire)).time == offer.campaign.starts_at


def test_an_order_names_the_coupon_that_its_household_was_sent(year: Year) -> None:
    batch_id = "b" * 26
    for order in year.orders:
        offer = next(offer for offer in year.offers if offer.key == order.offer)
        place = offer.campaign.households.tolist().index(order.household)
        record = Record("", 0, 0, 0, *issuance_wires(offer, batch_id)[place])
        work = ISSUANCE.asked(record, "test", "message", order.paid_at).work
        assert work is not None
        (created_at, created), (paid_at, paid) = order_messages(MERCHANT, order, batch_id)
        told, settled = (decode(Record("", 0, 0, 0, *wire)).payload for wire in (created, paid))
        assert isinstance(told, OrderCreated)
        assert isinstance(settled, OrderPaid)
        assert work.streams == (f"coupon-{told.coupon_ids[0]}",)
        assert [redemption.coupon_id for redemption in settled.redemptions] == told.coupon_ids
        assert created_at < paid_at
        redemption = settled.redemptions[0]
        assert redemption.discount_minor == sum(part.discount_minor for part in redemption.allocation)
        assert settled.order_total_minor == sum(line.amount_minor for line in told.lines)
        assert settled.paid_minor == settled.order_total_minor - redemption.discount_minor


def test_a_group_that_does_not_move_is_told(year: Year, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "STALL_SECONDS", 0.3)
    with pytest.raises(Stalled, match="nobody on orders has not moved for 0 s, with 7 to go"):
        wait_for_group(year.ledger, "nobody", "orders", {0: 7}, 7, year.system.progress, "Orders")
    assert year.told[-1] == ("Orders", 0, 7)


def test_a_faulted_projection_is_told(year: Year) -> None:
    create_batches(year.system, year.offers[:1])
    database = year.ledger.store.database
    with psycopg.connect(database.url, options=f"-c search_path={database.schema}") as connection:
        connection.execute(
            "insert into projection_checkpoints (name, version, state, fault) values ('wallet', 1, 'FAULTED', 'bad')"
        )
    with pytest.raises(Stalled, match="the projection wallet stopped after position 0: bad"):
        wait_for_projections(year.ledger, year.system.progress, "Read models")


def test_waiting_ends_when_the_group_is_there(year: Year) -> None:
    batch_ids = create_batches(year.system, year.offers[:1])
    wires = issuance_wires(year.offers[0], batch_ids[year.offers[0].key])
    year.take(ISSUANCE, wires)
    sent = len(wires)
    wait_for_group(year.ledger, ISSUANCE.group, ISSUANCE.topic, {0: sent}, sent, year.system.progress, "Issued")
    assert year.told[-1] == ("Issued", sent, sent)
