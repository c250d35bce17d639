"""What others must have heard after a schedule: alerts, webhooks, and copies of dead letters."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from standardwebhooks import Webhook, WebhookVerificationError

from consumers import topics
from consumers.sending import webhook_id
from consumers.topics import dead_letter_topic
from tests.fault.load import EVENTS_TOLD, Load
from tests.fault.world import World

Place = tuple[str, int, int]
"""Topic, partition and offset."""
HASTE_SECONDS = 5.0

# Whoever settles a delivery a second time would leave no other trace.
_WATCH_SETTLING = (
    "create table delivery_settled (delivery_id bigint not null, state text not null)",
    """
    create function note_settled() returns trigger language plpgsql security definer as $$
    begin
        execute format('insert into %I.delivery_settled values ($1, $2)', tg_table_schema)
          using new.delivery_id, new.state;
        return null;
    end $$
    """,
    """
    create trigger note_settled after update on deliveries
       for each row when (new.settled_at is distinct from old.settled_at) execute function note_settled()
    """,
)


class Told:
    """Everything that was heard in one world so far."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._alerts: dict[str, dict[str, list[bytes]]] = defaultdict(lambda: defaultdict(list))
        """By merchant and id, in the order in which they first came."""
        self._poison: dict[str, list[Place]] = defaultdict(list)
        """By id, where it lies."""
        self._copies: dict[Place, tuple[bytes | None, bytes | None]] = {}
        """By the place of the dead letter, the key and value of its copy."""
        self._letters_seen = 0
        for statement in _WATCH_SETTLING:
            world.tell(statement)
        self._consumer = KafkaConsumer(
            bootstrap_servers=world.settings.bootstrap_servers, auto_offset_reset="earliest", enable_auto_commit=False
        )
        counts = {**topics.PARTITIONS, topics.ALERTS: 1} | {dead_letter_topic(topic): 1 for topic in topics.PARTITIONS}
        prefix = world.settings.topic_prefix
        self._places = [TopicPartition(prefix + topic, n) for topic, count in counts.items() for n in range(count)]
        self._consumer.assign(self._places)

    def close(self) -> None:
        """Let the broker go."""
        self._consumer.close(timeout_ms=5_000)

    def waits(self) -> Iterator[str]:
        """What is still to be told. Time runs fast for deliveries: their pauses and leases last for minutes."""
        self.world.tell(
            "update deliveries set due_at = due_at - make_interval(secs => %s)"
            " where state = 'due' and due_at > clock_timestamp()",
            HASTE_SECONDS,
        )
        for (due,) in self.world.ask("select count(*) from deliveries where state = 'due'"):
            yield f"{due} deliveries are due" if due else ""
        for (uncopied,) in self.world.ask("select count(*) from dead_letters where published_at is null"):
            yield f"{uncopied} dead letters have no copy" if uncopied else ""

    def violations(self, load: Load) -> Iterator[str]:
        """What was not told, or otherwise than it should be."""
        self._read_on()
        yield from self._alerts_told(load)
        yield from self._dead_letters(load)
        yield from self._deliveries(load)
        yield from self._webhooks(load)

    def _read_on(self) -> None:
        """Read to the end of the topics."""
        ends = self._consumer.end_offsets(self._places)
        while any(self._consumer.position(place) < end for place, end in ends.items()):
            for place, records in self._consumer.poll(timeout_ms=200).items():
                for record in records:
                    self._take(place.topic, record)

    def _take(self, topic: str, record: Any) -> None:
        headers = dict(record.headers)
        id = headers["ce_id"].decode()
        if topic.endswith(topics.ALERTS):
            self._alerts[json.loads(record.value)["merchant_id"]][id].append(record.value)
        elif topic.endswith(dead_letter_topic("")):
            told = {name: headers[f"dead_letter_{name}"].decode() for name in ("topic", "partition", "offset")}
            place = (told["topic"], int(told["partition"]), int(told["offset"]))
            self._copies[place] = (record.key, record.value)
        elif "-poison-" in id:
            self._poison[id].append((topic, record.partition, record.offset))

    def _alerts_told(self, load: Load) -> Iterator[str]:
        told = self._alerts[load.merchant_id]
        if told.keys() != load.alert_ids():
            yield f"alerts told are {sorted(told)}, and crossed were {sorted(load.alert_ids())}"
        for id, values in told.items():
            if len(set(values)) > 1:
                yield f"alert {id} was told in {len(set(values))} ways"
        positions = [json.loads(values[0])["position"] for values in told.values()]
        if positions != sorted(positions):
            yield f"alerts came in the order {list(told)}"

    def _dead_letters(self, load: Load) -> Iterator[str]:
        """Each message of a schedule that is dead is so once, and has its copy; and each poison message is."""
        rows = self.world.ask(
            'select id, topic, partition, "offset", key, value, reason from dead_letters where id > %s order by id',
            self._letters_seen,
        )
        letters = {(topic, partition, offset): reason for _, topic, partition, offset, *_, reason in rows}
        if len(letters) < len(rows):
            yield f"I12: {len(rows) - len(letters)} dead letters are there twice"
        for id, topic, partition, offset, key, value, _ in rows:
            self._letters_seen = id
            if self._copies.get((topic, partition, offset)) != (key, value):
                yield f"I12: dead letter {topic}/{partition}/{offset} has no copy, or another"
        for id in load.poison_ids:
            if len(self._poison[id]) < 2:
                yield f"I12: poison {id} lies in {self._poison[id]}"
            for place in self._poison[id]:
                if letters.get(place) != "malformed_json":
                    yield f"I12: poison {id} in {place} is {letters.get(place)}"

    def _deliveries(self, load: Load) -> Iterator[str]:
        """Each thing that the channel wants is one delivery, and each is settled once, as sent."""
        channel = load.channel_id
        positions = self.world.ask(
            "select position from event_log where topic = any(%s) and payload->>'merchant_id' = %s",
            list(EVENTS_TOLD),
            load.merchant_id,
        )
        wanted = {f"event {channel} {position}" for (position,) in positions}
        wanted |= {f"alert {id} {channel}" for id in load.alert_ids()}
        rows = self.world.ask(
            "select d.key, d.type, d.user_id, array(select s.state from delivery_settled s"
            " where s.delivery_id = d.delivery_id) from deliveries d where d.merchant_id = %s",
            load.merchant_id,
        )
        reminded = Counter(user for _, type, user, _ in rows if type == "reminder")
        if reminded != Counter({f"owner-{n}": 1 for n in range(load.schedule.members)}):
            yield f"I12: {reminded.total()} deliveries of reminders for {load.schedule.members} owners"
        found = {key for key, type, *_ in rows if type != "reminder"}
        if found != wanted:
            yield f"I12: deliveries are missing {sorted(wanted - found)}, and too many are {sorted(found - wanted)}"
        for key, _, _, settled in rows:
            if settled != ["sent"]:
                yield f"I12: delivery {key} was settled as {settled}"

    def _webhooks(self, load: Load) -> Iterator[str]:
        """Each delivery came, was taken, and was each time signed and the same."""
        [(secret,)] = self.world.ask("select secret from channels where channel_id = %s", load.channel_id)
        rows = self.world.ask("select key, type from deliveries where merchant_id = %s", load.merchant_id)
        types = {webhook_id(key): type for key, type in rows}
        bodies: dict[str, set[bytes]] = defaultdict(set)
        for path, headers, body in self.world.receiver.got:
            if path == load.hook_path:
                bodies[headers["webhook-id"]].add(body)
                try:
                    Webhook(secret).verify(body, headers)
                except WebhookVerificationError as error:
                    yield f"webhook {headers['webhook-id']} is not signed: {error}"
        if bodies.keys() != types.keys() or load.hook.taken.keys() != types.keys():
            yield f"{len(types)} webhooks were due, {len(bodies)} came, and {len(load.hook.taken)} were taken"
        for id, said in bodies.items():
            if {json.loads(body)["type"] for body in said} != {types.get(id)} or len(said) > 1:
                yield f"webhook {id} is a {types.get(id)}, and says {said}"
