"""The replay: batches through the ledger's use cases, everything else as messages through Kafka.

Business time is the message's time, so the consumers must run with ``message`` as their business time. The database
clock is years after the last campaign, hence two rules of order: the expiry sweeper must not run before the orders
are handled (it would write down, rightly, that every coupon has expired), and it finishes the year afterwards.

Every id is derived from the data set, so a replay into the same ledger, whole or in part, has no second effect.

Issuance messages are keyed and partitioned by user. Order messages carry the order as their key, as the contract
says, but lie on the partition of the **user**: a redeemed coupon may come up again in a later order, and of the two
the earlier must be decided first.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import psycopg

from consumers.expiry import sweep
from consumers.messages import Wire, encode
from consumers.payloads import AllocationLine, IssueRequested, OrderCreated, OrderLine, OrderPaid, RedeemedCoupon
from coupon_ledger.demo.dataset import Offer, OfferKey, load_offers, load_redemptions
from coupon_ledger.demo.orders import Line, Order, build_orders
from coupon_ledger.demo.sending import Sender
from coupon_ledger.demo.waiting import Progress, wait_for_group, wait_for_projections
from ledger import use_cases
from ledger.aggregate import coupon_id
from ledger.application import Ledger
from ledger.errors import Refusal
from ledger.request import Request
from ledger.work import Receipt, Work

SOURCE = "urn:dataset:completejourney"
"""``ce_source`` of every message of the replay."""
ACTOR = "job:demo"
CHANNEL = "campaign"
_ANYBODY = "{user}"
OFFERS_A_TRANSACTION = 100
PLANNED_BEFORE = timedelta(minutes=1)
"""Templates and batches are made so long before their campaign starts."""

BatchIds = dict[OfferKey, str]


@dataclass(frozen=True, kw_only=True)
class Running:
    """The running system that the year is replayed into."""

    ledger: Ledger
    merchant_id: str
    bootstrap: str
    issuance_topic: str
    """Full names, prefix included."""
    issuance_group: str
    orders_topic: str
    orders_group: str
    progress: Progress


def replay(system: Running, campaign_ids: Collection[int] | None = None) -> BatchIds:
    """Replay these campaigns (all, when none are named) and wait until every effect and read model is there.

    Answers the batch of each offer. Raises ``UnknownCampaign``, ``Stalled``, ``KafkaError`` or a ``LedgerError``.
    """
    offers = load_offers(campaign_ids)
    batch_ids = create_batches(system, offers)
    send_issuances(system, offers, batch_ids)
    send_orders(system, build_orders(offers, load_redemptions(campaign_ids)), batch_ids)
    wait_for_projections(system.ledger, system.progress, "Read models follow")
    expire(system)
    wait_for_projections(system.ledger, system.progress, "Read models follow")
    return batch_ids


def expire(system: Running) -> None:
    """Write down every expiry that is due by the database clock. The read models must have caught up before."""
    step = "Expiries written"
    with system.ledger.store.connection() as connection:
        row = connection.execute(
            "select count(*) as due from coupon_status where state = 'UNUSED' and valid_until <= clock_timestamp()"
        ).fetchone()
    due = row["due"] if row else 0
    system.progress(step, 0, due)
    sweep(system.ledger, lambda written: system.progress(step, written, due))


def create_batches(system: Running, offers: Sequence[Offer]) -> BatchIds:
    """A template and a running batch for each offer, in few transactions."""
    batch_ids: BatchIds = {}
    for first in range(0, len(offers), OFFERS_A_TRANSACTION):
        group = offers[first : first + OFFERS_A_TRANSACTION]
        with system.ledger.store.connection() as connection, connection.transaction():
            batch_ids |= _create_group(system, group, connection)
        system.progress("Templates and batches", len(batch_ids), len(offers))
    return batch_ids


def _create_group(system: Running, offers: Sequence[Offer], connection: psycopg.Connection[Any]) -> BatchIds:
    def request(step: str, offer: Offer) -> Request:
        at = offer.campaign.starts_at - PLANNED_BEFORE
        return Request(system.merchant_id, ACTOR, f" demo {step} {_name(offer.key)}", at=at)

    def perform(works: Iterable[Work]) -> list[dict[str, Any]]:
        return [_answer(result) for result in system.ledger.do_all(list(works), connection)]

    templates = perform(
        use_cases.create_template(request("template", offer), name=offer.name, terms=offer.terms()) for offer in offers
    )
    batches = perform(
        use_cases.create_batch(request("batch", offer), offer.plan(), template_id=template["template_id"])
        for offer, template in zip(offers, templates, strict=True)
    )
    perform(
        use_cases.start_batch(request("start", offer), batch["batch_id"])
        for offer, batch in zip(offers, batches, strict=True)
    )
    return {offer.key: batch["batch_id"] for offer, batch in zip(offers, batches, strict=True)}


def _answer(result: Receipt | Refusal) -> dict[str, Any]:
    if isinstance(result, Refusal):
        raise result
    return result.answer


def send_issuances(system: Running, offers: Sequence[Offer], batch_ids: BatchIds) -> None:
    """Send one message for each coupon, campaign by campaign in order of start, and wait until all are handled."""
    total = sum(len(offer.campaign.households) for offer in offers)
    users: dict[int, tuple[bytes, int]] = {}
    with Sender(system.bootstrap, system.issuance_topic) as sender:
        for offer in offers:
            households = offer.campaign.households.tolist()
            for household in households:
                if household not in users:
                    user = user_id(household).encode()
                    users[household] = user, sender.partition_of(user)
            recipients = [users[household] for household in households]
            for wire, partition in issuances(system.merchant_id, offer, batch_ids[offer.key], recipients):
                sender.send(wire, partition)
            system.progress("Issuance messages sent", sender.sent, total)
    wait_for_group(
        system.ledger,
        system.issuance_group,
        system.issuance_topic,
        sender.ends,
        total,
        system.progress,
        "Issuance messages handled",
    )


def issuances(
    merchant_id: str, offer: Offer, batch_id: str, recipients: Iterable[tuple[bytes, int]]
) -> Iterator[tuple[Wire, int]]:
    """The messages that issue an offer to users, given as (user id, partition), each with its partition.

    One message is encoded in full, and then only the user is put in: it stands in the id and once in the value.
    """
    wire = encode(
        IssueRequested(merchant_id=merchant_id, batch_id=batch_id, user_id=_ANYBODY, channel=CHANNEL),
        source=SOURCE,
        id=issuance_id(offer.key, _ANYBODY),
        time=offer.campaign.starts_at,
    )
    assert wire.value is not None
    before, after = wire.value.split(_ANYBODY.encode())
    id_before, id_after = issuance_id(offer.key, _ANYBODY).encode().split(_ANYBODY.encode())
    headers = [header for header in wire.headers if header[0] != "ce_id"]
    for user, partition in recipients:
        yield Wire(user, before + user + after, [("ce_id", id_before + user + id_after), *headers]), partition


def send_orders(system: Running, orders: Sequence[Order], batch_ids: BatchIds) -> None:
    """Send that each order was created and paid, in order of time, and wait until all that is handled."""
    messages = sorted(
        (time, order.order_id, wire, user_id(order.household).encode())
        for order in orders
        for time, wire in order_messages(system.merchant_id, order, batch_ids[order.offer])
    )
    with Sender(system.bootstrap, system.orders_topic) as sender:
        for _, _, wire, user in messages:
            sender.send(wire, sender.partition_of(user))
        system.progress("Order messages sent", sender.sent, len(messages))
    wait_for_group(
        system.ledger,
        system.orders_group,
        system.orders_topic,
        sender.ends,
        sender.sent,
        system.progress,
        "Order messages handled",
    )


def order_messages(merchant_id: str, order: Order, batch_id: str) -> list[tuple[datetime, Wire]]:
    """The order as its system tells it: created with the coupon, and paid with the discount; each with its time."""
    user = user_id(order.household)
    coupon = coupon_id(batch_id, f"{SOURCE} {issuance_id(order.offer, user)}", 0)
    created = OrderCreated(
        merchant_id=merchant_id,
        order_id=order.order_id,
        user_id=user,
        coupon_ids=[coupon],
        order_total_minor=order.total_minor,
        lines=[
            OrderLine(
                line_id=line.line_id,
                product_id=str(line.product_id),
                quantity=max(1, line.quantity),  # the till's own entries have none
                amount_minor=line.amount_minor,
            )
            for line in order.lines
        ],
    )
    redeemed = RedeemedCoupon(
        coupon_id=coupon, discount_minor=order.discount_minor, allocation=[_part(line) for line in order.discounted]
    )
    paid = OrderPaid(
        merchant_id=merchant_id,
        order_id=order.order_id,
        redemptions=[redeemed],
        order_total_minor=order.total_minor,
        paid_minor=order.total_minor - order.discount_minor,
    )
    return [
        (order.created_at, encode(created, source=SOURCE, id=f"{order.order_id}:created", time=order.created_at)),
        (order.paid_at, encode(paid, source=SOURCE, id=f"{order.order_id}:paid", time=order.paid_at)),
    ]


def _part(line: Line) -> AllocationLine:
    return AllocationLine(
        line_id=line.line_id, product_id=str(line.product_id), discount_minor=line.coupon_discount_minor
    )


def user_id(household: int) -> str:
    """The user of a household."""
    return f"household-{household}"


def issuance_id(offer: OfferKey, user: str) -> str:
    """``ce_id`` of the message that issues an offer to a user."""
    return f"{_name(offer)}:{user}"


def _name(offer: OfferKey) -> str:
    return f"{offer[0]}-{offer[1]}"
