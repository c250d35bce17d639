"""What must be true after a schedule, by the names of the promises.

- I1: issued is the sum of states, by the log and by the read model. I10: read models are folds of the log.
- I2: as much as was to be had, never more than the batch. I3: never more than the user's limit.
- I4 to I7: one hold, one use, by the holder, and nothing leaves a final state: each event is a step of ``Fold``.
- I8, I9: streams are linear, positions have no holes, and who follows the log misses none.
- I11: one effect a request. I12: each message has its effect, or is accounted for.
- I13: what was acknowledged is in the log. I14: what was not is decided by asking again.
- Alerts, webhooks and copies of dead letters: each is there by its id, and each delivery is settled once.
"""

from __future__ import annotations

import base64
import time
from collections import Counter
from collections.abc import Iterator

from kafka import KafkaConsumer, TopicPartition

from consumers import topics
from consumers.inputs import INPUTS
from projections.catalogue import PROJECTIONS
from projections.rebuild import rebuild
from projections.verify.report import IDS
from projections.verify.run import verify
from tests.fault.load import SOURCE, Load
from tests.fault.told import Told
from tests.fault.world import World
from tests.property.fold import Fold

DRAIN_SECONDS = 90.0


class Checks:
    """Everything that was seen of one world so far."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.fold = Fold(world.ledger.store)
        self.told = Told(world)
        self.published: set[int] = set()
        self.last_published: dict[bytes, int] = {}
        self._follower = KafkaConsumer(
            bootstrap_servers=world.settings.bootstrap_servers, auto_offset_reset="earliest", enable_auto_commit=False
        )
        topic = world.settings.topic_prefix + topics.EVENTS
        self._follower.assign([TopicPartition(topic, n) for n in range(topics.PUBLISHED[topics.EVENTS])])

    def close(self) -> None:
        """Let the broker go."""
        self.told.close()
        self._follower.close(timeout_ms=5_000)

    def drained(self) -> str | None:
        """Wait until everything that was asked is done; after the bound, what is not."""
        ends_at = time.monotonic() + DRAIN_SECONDS
        while (waits := self._waits()) is not None and time.monotonic() < ends_at:
            self.world.revive()
            time.sleep(0.2)
        return waits

    def _waits(self) -> str | None:
        return ", ".join(each for each in self._behind() if each) or None

    def _head(self) -> int:
        [(head,)] = self.world.ask("select coalesce(max(notification_id), 0) from events")
        return int(head)

    def _behind(self) -> Iterator[str]:
        prefix = self.world.settings.topic_prefix
        places = [
            (input.group, prefix + input.topic, n) for input in INPUTS for n in range(topics.PARTITIONS[input.topic])
        ]
        ends = self._follower.end_offsets([TopicPartition(topic, n) for _, topic, n in places])
        stored = {
            (group, topic, n): offset
            for group, topic, n, offset in self.world.ask(
                "select consumer_group, topic, partition, next_offset from kafka_offsets"
            )
        }
        for group, topic, n in places:
            missing = ends[TopicPartition(topic, n)] - stored.get((group, topic, n), 0)
            if missing:
                yield f"{missing} messages of {topic}/{n}"
        for (waiting,) in self.world.ask("select count(*) from waiting_messages"):
            yield f"{waiting} messages wait for others" if waiting else ""
        for (jobs,) in self.world.ask("select count(*) from issuance_jobs where state = 'RUNNING'"):
            yield f"{jobs} jobs are not finished" if jobs else ""
        soon = "select count(*) from reminders where due_at <= clock_timestamp() + interval '5 seconds'"
        for (reminders,) in self.world.ask(soon):
            yield f"{reminders} reminders are due" if reminders else ""
        head = self._head()
        for name, position in self.world.ask("select name, position from followers"):
            yield f"{name} is {head - position} events behind" if position < head else ""
        for name, state, position in self.world.ask("select name, state, position from projection_checkpoints"):
            yield f"{name} is {state} and {head - position} events behind" if position < head else ""
        yield from self.told.waits()

    def violations(self, load: Load) -> list[str]:
        """What is not true."""
        found = list(load.trouble)
        self.world.reconnect()
        try:
            self.fold.catch_up()
        except (AssertionError, ValueError) as error:
            found.append(f"I4 to I9: {error}")
        for check in (
            self._flash,
            self._verified,
            self._balances,
            self._orders,
            self._members,
            self._claims,
            self._job,
            self._reminders,
            self._messages,
            self._publication,
            self.told.violations,
        ):
            found += check(load)
        return found

    def _flash(self, load: Load) -> Iterator[str]:
        schedule, issued = load.schedule, self.fold.issued[load.flash]
        if issued.total() != schedule.issued:
            yield f"I2: {issued.total()} coupons of {load.flash}, and {schedule.issued} were to be had"
        most = max(issued.values(), default=0)
        if most > schedule.per_user_limit:
            yield f"I3: a user has {most} coupons of {load.flash}"

    def _verified(self, load: Load) -> Iterator[str]:
        """All that the ledger's own verification knows; read models are folded anew at the end."""
        for check in verify(self.world.settings.database(), only=set(IDS) - {"I10", "I15"}).checks:
            for finding in check.findings:
                yield f"{check.id}: at {finding.position}, {finding.stream}: {finding.expected}; {finding.found}"

    def _balances(self, load: Load) -> Iterator[str]:
        for batch_id in (load.flash, load.welcome, load.claimed, load.listed):
            shown = dict(
                self.world.ask("select state, count(*) from coupon_status where batch_id = %s group by 1", batch_id)
            )
            logged = dict(self.fold.states_of(batch_id))
            if shown != logged:
                yield f"I1, I10: {batch_id} shows {shown}, and the log says {logged}"

    def _orders(self, load: Load) -> Iterator[str]:
        states = dict(
            self.world.ask(
                "select coupon_id, state from coupon_status where coupon_id = any(%s)",
                [order.coupon_id for order in load.orders],
            )
        )
        for order in load.orders:
            if states.get(order.coupon_id) != order.state:
                yield f"I12: {order.id} was {order.story}, and its coupon is {states.get(order.coupon_id)}"

    def _members(self, load: Load) -> Iterator[str]:
        issued = self.fold.issued[load.welcome]
        if issued != Counter({f"member-{n}": 1 for n in range(load.schedule.members)}):
            yield f"I12: {issued.total()} welcome coupons for {load.schedule.members} members"

    def _claims(self, load: Load) -> Iterator[str]:
        found = dict(
            self.world.ask(
                "select payload->>'request_id', stream from event_log"
                " where topic = 'coupon.issued' and payload->>'batch_id' = %s",
                load.claimed,
            )
        )
        for key, coupon_id in load.acknowledged.items():
            if found.get(key) != f"coupon-{coupon_id}":
                yield f"I13: {key} was answered {coupon_id}, and the log has {found.get(key)}"
        issued = self.fold.issued[load.claimed]
        if issued != Counter({f"claimer-{n}": 1 for n in range(load.schedule.claims)}):
            yield f"I14: {issued.total()} coupons for {load.schedule.claims} claims"

    def _job(self, load: Load) -> Iterator[str]:
        rows, issued = load.schedule.job_rows, self.fold.issued[load.listed]
        if issued != Counter({f"listed-{n}": 1 for n in range(rows)}):
            yield f"I12: {issued.total()} coupons for the {rows} rows of {load.job_id}"
        counted = self.world.ask(
            "select coalesce(sum(rows), 0) from issuance_job_outcomes where job_id = %s and code = ''", load.job_id
        )
        if counted != [(rows,)]:
            yield f"I12: {load.job_id} counts {counted} of {rows} rows"

    def _reminders(self, load: Load) -> Iterator[str]:
        told = Counter(
            user
            for (user,) in self.world.ask("select user_id from user_messages where merchant_id = %s", load.merchant_id)
        )
        if told != Counter({f"owner-{n}": 1 for n in range(load.schedule.members)}):
            yield f"I12: {told.total()} reminders for {load.schedule.members} owners of two coupons each"

    def _messages(self, load: Load) -> Iterator[str]:
        dead = {
            base64.b64decode(dict(headers)["ce_id"]).decode(): reason
            for headers, reason in self.world.ask("select headers, reason from dead_letters")
        }
        # What issues a new coupon is known by its coupon, and has no row in requests.
        done = {
            id.removeprefix(f"{SOURCE} ").partition(" ")[0]
            for (id,) in self.world.ask(
                "select request_id from requests where merchant_id = %(merchant)s union"
                " select payload->>'request_id' from event_log where payload->>'merchant_id' = %(merchant)s",
                merchant=load.merchant_id,
            )
        }
        for id in load.message_ids[topics.ISSUANCE]:
            reason = dead.get(id)
            if (id in done) == (reason in ("sold_out", "user_limit_reached")):
                yield f"I12: message {id} {'has an effect and' if id in done else 'has no effect and'} is {reason}"
        for id in load.message_ids[topics.ORDERS]:
            if id not in done or id in dead:
                yield f"I12: message {id} {'has' if id in done else 'has no'} effect, dead: {dead.get(id)}"

    def _publication(self, load: Load) -> Iterator[str]:
        head = self._head()
        ends_at = time.monotonic() + 20
        while len(self.published) < head and time.monotonic() < ends_at:
            for records in self._follower.poll(timeout_ms=200).values():
                for record in records:
                    position = int(dict(record.headers)["ce_id"])
                    if position in self.published:
                        continue
                    self.published.add(position)
                    if self.last_published.get(record.key, 0) > position:
                        yield f"I9: position {position} was published after {self.last_published[record.key]}"
                    self.last_published[record.key] = position
        if missing := head - len(self.published):
            yield f"I9: {missing} of {head} events were not published"

    def final(self) -> list[str]:
        """Every read model folded anew, and compared row by row."""
        found = []
        for projection in PROJECTIONS:
            if not rebuild(self.world.settings.database(), projection).same:
                found.append(f"I10: {projection.name} is not the fold of the log")
        return found
