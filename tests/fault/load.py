"""What a schedule prepares and asks for besides messages; every call is made again until it is answered."""

from __future__ import annotations

import io
import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from consumers.messages import Wire
from ledger import use_cases
from ledger.alerts import Alerts
from ledger.application import Ledger
from ledger.batch import BatchPlan
from ledger.benefit import Benefit
from ledger.errors import ServiceError
from ledger.issuance.uploads import take_file
from ledger.reminders import Reminders
from ledger.request import Request
from ledger.rules import RulePlan
from ledger.telling import channels
from ledger.terms import Terms
from ledger.use_cases import issuing
from tests.fault.hook import Hook
from tests.fault.schedule import Schedule
from tests.receivers.receiver import Receiver

T = TypeVar("T")

SOURCE = "/fault"
ANSWER_SECONDS = 60.0
EVENTS_TOLD = ("batch.started", "coupon.used")
"""What the merchant's channel wants, beside alerts and reminders."""
BESIDE_THE_LOG = "register"
"""The one request of a schedule that has an effect and no event."""
FULL, LOW, EMPTY = 10, 5, 4
"""Quantities of the batch whose stock swings: what it is planned with, its threshold, and what is below it."""


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
    hook: Hook
    flash: str = ""
    welcome: str = ""
    claimed: str = ""
    listed: str = ""
    reminded: str = ""
    swinging: str = ""
    """The batch whose stock falls below its threshold again and again."""
    job_id: str = ""
    channel_id: str = ""
    poison_ids: list[str] = field(default_factory=list)
    orders: list[Order] = field(default_factory=list)
    messages: list[tuple[str, Wire]] = field(default_factory=list)
    """Topic and message, each once; they are sent twice and more."""
    message_ids: dict[str, list[str]] = field(default_factory=dict)
    """By topic, the ids."""
    acknowledged: dict[str, str] = field(default_factory=dict)
    """Key of a claim to the coupon that was answered."""
    trouble: list[str] = field(default_factory=list)

    @property
    def hook_path(self) -> str:
        """Where the merchant's webhooks go."""
        return f"/{self.merchant_id}"

    def alert_ids(self) -> set[str]:
        """Every crossing of a threshold: of the batches that are issued from once, and each of the one that swings."""
        batches = [self.flash, self.welcome, self.claimed, *([self.listed] if self.schedule.job_rows else [])]
        crossings = {f"{batch_id}-stock_below-1" for batch_id in batches}
        return crossings | {f"{self.swinging}-stock_below-{n}" for n in range(1, self.schedule.crossings + 1)}


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


def prepare(ledger: Ledger, schedule: Schedule, merchant_id: str, receiver: Receiver, hook: Hook) -> Load:
    """A channel, batches, rules, coupons of the orders, and the messages."""
    shop = Shop(ledger, merchant_id)
    load = Load(schedule, merchant_id, hook)
    load.channel_id = channels.register(
        ledger,
        Request(merchant_id, "fault", BESIDE_THE_LOG),
        name="Everything",
        kind="webhook",
        target=receiver.url(load.hook_path, "localhost"),
        wants=[*EVENTS_TOLD, "alert", "reminder"],
    ).answer["channel_id"]
    load.flash = shop.batch(
        quantity=schedule.quantity,
        per_user_limit=schedule.per_user_limit,
        alerts=Alerts(stock_below=schedule.quantity - schedule.issued // 2),
    )
    first_issue = Alerts(stock_below=1_000_000)
    load.welcome = shop.batch(alerts=first_issue)
    load.claimed = shop.batch(alerts=first_issue)
    load.listed = shop.batch(per_user_limit=None, alerts=first_issue)
    load.swinging = shop.batch(quantity=FULL, alerts=Alerts(stock_below=LOW))
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
    return load


def upload(load: Load, ledger: Ledger) -> None:
    """A file of users as a job, twice, the second time in another form; the ledger's trouble is waited out."""
    if not load.schedule.job_rows:
        return
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


def swing(load: Load, ledger: Ledger) -> None:
    """Take the batch's stock below its threshold and back, over the schedule's time."""
    pause = load.schedule.load_seconds / (2 * load.schedule.crossings)
    for number in range(2 * load.schedule.crossings):
        request = Request(load.merchant_id, "fault", f"swing-{number}")
        before, after = (EMPTY, FULL) if number % 2 else (FULL, EMPTY)
        work = use_cases.change_quantity(request, load.swinging, expected=before, target=after)
        _again(lambda work=work: ledger.do(work))
        time.sleep(pause)


def _again(do: Callable[[], T]) -> T:
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
