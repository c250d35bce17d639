"""What a schedule sends, and what was answered: every message at least twice, every call again until it is answered."""

from __future__ import annotations

import io
import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import Any

from kafka import KafkaProducer
from kafka.errors import KafkaError

from consumers import payloads, topics
from consumers.messages import Wire, encode
from ledger import use_cases
from ledger.application import Ledger
from ledger.batch import BatchPlan
from ledger.benefit import Benefit
from ledger.errors import ServiceError
from ledger.issuance_uploads import take_file
from ledger.reminders import Reminders
from ledger.request import Request
from ledger.rules import RulePlan
from ledger.terms import Terms
from ledger.use_cases import issuing
from tests.fault.schedule import Schedule

SOURCE = "/fault"
ANSWER_SECONDS = 60.0


@dataclass
class Order:
    """An order over one coupon, and what its messages amount to."""

    id: str
    coupon_id: str
    story: str

    @property
    def state(self) -> str:
        """The coupon's state at the end."""
        return {"used": "USED", "held": "LOCKED"}.get(self.story, "UNUSED")


@dataclass
class Load:
    """Everything that one schedule asks for."""

    schedule: Schedule
    merchant_id: str
    flash: str = ""
    welcome: str = ""
    claimed: str = ""
    listed: str = ""
    reminded: str = ""
    job_id: str = ""
    poison: int = 0
    orders: list[Order] = field(default_factory=list)
    messages: list[tuple[str, Wire]] = field(default_factory=list)
    """Topic and message, each once; they are sent twice and more."""
    message_ids: dict[str, list[str]] = field(default_factory=dict)
    """By topic, the ids."""
    acknowledged: dict[str, str] = field(default_factory=dict)
    """Key of a claim to the coupon that was answered."""
    trouble: list[str] = field(default_factory=list)


class Shop:
    """Prepares what a load needs, before anything breaks."""

    def __init__(self, ledger: Ledger, merchant_id: str) -> None:
        self.ledger = ledger
        self.merchant_id = merchant_id
        self._number = 0

    def request(self) -> Request:
        self._number += 1
        return Request(self.merchant_id, "fault", f"setup-{self._number}")

    def batch(self, terms: Terms | None = None, **plan: Any) -> str:
        """The id of a new batch that runs."""
        terms = terms or Terms(benefit=Benefit(kind="amount_off", value_minor=500), currency="EUR")
        template = self.ledger.do(use_cases.create_template(self.request(), name="Five off", terms=terms))
        plan = {"name": "Batch", "quantity": 1_000_000, "valid_for_seconds": 86_400, **plan}
        work = use_cases.create_batch(
            self.request(), BatchPlan(**plan), template_id=template.answer["template_id"], accept_risk=True
        )
        batch_id: str = self.ledger.do(work).answer["batch_id"]
        self.ledger.do(use_cases.start_batch(self.request(), batch_id))
        return batch_id


def prepare(ledger: Ledger, schedule: Schedule, merchant_id: str) -> Load:
    """Batches, rules, coupons of the orders, and the messages."""
    shop = Shop(ledger, merchant_id)
    load = Load(schedule, merchant_id)
    load.flash = shop.batch(quantity=schedule.quantity, per_user_limit=schedule.per_user_limit)
    load.welcome = shop.batch()
    load.claimed = shop.batch()
    load.listed = shop.batch(per_user_limit=None)
    held = shop.batch(per_user_limit=None)
    # Their reminders are due in a few seconds, while things break.
    soon = Terms(
        benefit=Benefit(kind="amount_off", value_minor=500), currency="EUR", reminders=Reminders(days_before=(1,))
    )
    load.reminded = shop.batch(soon, valid_for_seconds=86_400 + 2, per_user_limit=None)
    ledger.do(issuing.issue(shop.request(), load.reminded, 2 * [f"owner-{n}" for n in range(schedule.members)]))
    rule = RulePlan(trigger="registered", batch_id=load.welcome)
    ledger.do(use_cases.create_rule(shop.request(), rule))
    coupons = ledger.do(
        issuing.issue(shop.request(), held, [f"buyer-{number}" for number in range(len(schedule.stories))])
    ).answer["coupons"]
    for number, (story, coupon) in enumerate(zip(schedule.stories, coupons, strict=True)):
        load.orders.append(Order(f"{merchant_id}-order-{number}", coupon["coupon_id"], story))
    _messages(load, Random(schedule.seed))
    return load


def _messages(load: Load, chance: Random) -> None:
    merchant_id, schedule = load.merchant_id, load.schedule
    asks = [
        payloads.IssueRequested(merchant_id=merchant_id, batch_id=load.flash, user_id=f"user-{user}")
        for user in range(schedule.users)
        for _ in range(schedule.asks)
    ]
    chance.shuffle(asks)
    _add(load, topics.ISSUANCE, "ask", asks)
    members = [
        payloads.MemberRegistered(merchant_id=merchant_id, user_id=f"member-{user}") for user in range(schedule.members)
    ]
    _add(load, topics.MEMBERS, "member", members)
    told: list[list[payloads.Payload]] = []
    for order in load.orders:
        story = _story(merchant_id, order)
        if chance.random() < schedule.early:
            story.reverse()
        told.append(story)
    # Orders are mixed with each other, but each order's messages keep the order in which they are told.
    mixed: list[payloads.Payload] = []
    while told := [story for story in told if story]:
        mixed.append(chance.choice(told).pop(0))
    _add(load, topics.ORDERS, "order", mixed)


def _add(load: Load, topic: str, word: str, said: Sequence[payloads.Payload]) -> None:
    ids = [f"{load.merchant_id}-{word}-{number}" for number in range(len(said))]
    load.message_ids[topic] = ids
    now = datetime.now(UTC)
    load.messages += [
        (topic, encode(payload, source=SOURCE, id=id, time=now)) for payload, id in zip(said, ids, strict=True)
    ]


def _story(merchant_id: str, order: Order) -> list[payloads.Payload]:
    named = {"merchant_id": merchant_id, "order_id": order.id}
    user_id = f"buyer-{order.id.rpartition('-')[2]}"
    ttl = 86_400 if order.story == "held" else 3_600
    said: list[payloads.Payload] = [
        payloads.OrderCreated(
            **named, user_id=user_id, coupon_ids=[order.coupon_id], order_total_minor=5_000, ttl_seconds=ttl
        )
    ]
    if order.story in ("used", "refunded"):
        redemption = payloads.RedeemedCoupon(coupon_id=order.coupon_id, discount_minor=500)
        said.append(payloads.OrderPaid(**named, redemptions=[redemption], order_total_minor=5_000, paid_minor=4_500))
    if order.story == "refunded":
        said.append(payloads.OrderRefunded(**named, coupon_ids=[order.coupon_id], reason="merchant_refund"))
    if order.story == "cancelled":
        said.append(payloads.OrderCancelled(**named, coupon_ids=[order.coupon_id]))
    if order.story == "timed_out":
        said.append(payloads.OrderPaymentTimeout(**named, coupon_ids=[order.coupon_id]))
    return said


def send(load: Load, bootstrap: Sequence[str], prefix: str) -> None:
    """Send each message twice, the second time much later, over the schedule's time; whatever happens to the broker."""
    chance = Random(load.schedule.seed + 1)
    producer = KafkaProducer(
        bootstrap_servers=list(bootstrap),
        acks="all",
        enable_idempotence=True,
        linger_ms=5,
        delivery_timeout_ms=30_000,
        request_timeout_ms=5_000,
        max_block_ms=30_000,
    )
    try:
        again = [each for each in load.messages if chance.random() < 0.3]
        plan = [*load.messages, *load.messages, *again]
        pause = load.schedule.load_seconds / max(1, len(plan) // 50)
        for start in range(0, len(plan), 50):
            _send_all(producer, [(prefix + topic, wire) for topic, wire in plan[start : start + 50]])
            time.sleep(pause)
    finally:
        producer.close(timeout=40)


def _send_all(producer: Any, wires: Sequence[tuple[str, Wire]]) -> None:
    """Until all are acknowledged; what may have arrived is sent again, as a careful producer does."""
    left = list(wires)
    ends_at = time.monotonic() + ANSWER_SECONDS
    while left:
        assert time.monotonic() < ends_at, "the broker did not come back"
        failed = []
        futures = []
        for topic, wire in left:
            try:
                futures.append((topic, wire, producer.send(topic, **wire._asdict())))
            except KafkaError:
                failed.append((topic, wire))
        for topic, wire, future in futures:
            try:
                future.get(timeout=35)
            except KafkaError:
                failed.append((topic, wire))
        left = failed


def upload(load: Load, ledger: Ledger) -> None:
    """A file of users as a job, twice, the second time in another form; the ledger's trouble is waited out."""
    users = [f"listed-{number}" for number in range(load.schedule.job_rows)]
    files: list[tuple[Any, bytes]] = [
        ("csv", "\n".join(["user_id", *users]).encode()),
        ("ndjson", "\n".join(json.dumps({"user_id": user}) for user in users).encode()),
    ]
    for number, (form, content) in enumerate(files):
        job_id = _again(
            lambda form=form, content=content, number=number: take_file(
                ledger,
                lambda digest: Request(load.merchant_id, "fault", f"upload-{number}", digest),
                load.listed,
                io.BytesIO(content),
                form,
                gzipped=False,
            ).answer["job_id"]
        )
        if load.job_id and job_id != load.job_id:
            load.trouble.append(f"I11: the same file became the jobs {load.job_id} and {job_id}")
        load.job_id = job_id


def _again(do: Callable[[], str]) -> str:
    ends_at = time.monotonic() + ANSWER_SECONDS
    while True:
        try:
            return do()
        except ServiceError:
            if time.monotonic() > ends_at:
                raise
            time.sleep(0.1)


def claim(load: Load, url: str, token: str, clients: int = 4) -> list[threading.Thread]:
    """Clients that claim over HTTP, each call with a key, again and again until it is answered."""
    numbers = iter(range(load.schedule.claims))
    taking = threading.Lock()
    pause = load.schedule.load_seconds * clients / max(1, load.schedule.claims)

    def run() -> None:
        while True:
            with taking:
                number = next(numbers, None)
            if number is None:
                return
            key = f"{load.merchant_id}-claim-{number}"
            try:
                load.acknowledged[key] = _claim(url, token, load.claimed, key, f"claimer-{number}")
            except Exception as error:
                load.trouble.append(f"I14: the claim {key} was never answered: {error}")
            time.sleep(pause)

    threads = [threading.Thread(target=run) for _ in range(clients)]
    for thread in threads:
        thread.start()
    return threads


def _claim(url: str, token: str, batch_id: str, key: str, user_id: str) -> str:
    asked = urllib.request.Request(
        f"{url}/v1/batches/{batch_id}/claims",
        data=json.dumps({"user_id": user_id}).encode(),
        headers={
            "Authorization": f"Bearer {token}",
            "Content-Type": "application/json",
            "Idempotency-Key": key,
        },
    )
    ends_at = time.monotonic() + ANSWER_SECONDS
    while True:
        try:
            with urllib.request.urlopen(asked, timeout=10) as answer:
                coupon_id: str = json.load(answer)["coupon_id"]
                return coupon_id
        except urllib.error.HTTPError as error:
            problem = json.load(error)
            if error.code < 500 and problem.get("code") != "request_in_progress":
                raise AssertionError(f"{error.code} {problem}") from None
        except OSError as error:
            problem = {"detail": str(error)}
        if time.monotonic() > ends_at:
            raise AssertionError(f"no answer in {ANSWER_SECONDS:.0f} s: {problem}")
        time.sleep(0.1)
