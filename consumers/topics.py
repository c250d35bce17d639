"""The topics that the ledger reads, their dead-letter topics, and those that it writes.

A topic's name ends with its major version. The partition count of a keyed topic never changes: the key decides the
partition, so another count would break the order of a key's messages.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from typing import Any

from kafka import KafkaAdminClient
from kafka.errors import TopicAlreadyExistsError

from ledger.errors import LedgerError

ISSUANCE = "coupons.issuance.v1"
"""Requests to issue one coupon to one user; the key is the user."""
ORDERS = "orders.events.v1"
"""What happened to orders; the key is the order."""
MEMBERS = "members.events.v1"
"""What happened to members; the key is the user."""

REMINDERS = "coupons.reminders.v1"
"""Reminders that are due; the key is the user. The ledger both writes and reads it."""

ALERTS = "coupons.alerts.v1"
"""Thresholds that batches crossed; the key is the batch."""
EVENTS = "ledger.events.v1"
"""Every event of the log, in the published shape; the key is the event's stream."""
EVENTS_MESSAGE_LIMIT_BYTES = 4 * 1_048_576
"""The broker's limit for one batch of events. Terms may list many products, and none may hold up the log: the longest
body of the API makes an event of little more than one MiB."""

PARTITIONS = {ISSUANCE: 4, ORDERS: 4, MEMBERS: 4, REMINDERS: 4}
PUBLISHED = {EVENTS: 4, ALERTS: 1}
"""Topics that the ledger only writes, which therefore have no dead letters."""
CONFIGS = {EVENTS: {"max.message.bytes": str(EVENTS_MESSAGE_LIMIT_BYTES)}}
"""Where a topic needs another setting than its broker's default."""
BROKERS_DEFAULT = -1
"""Replication as the cluster has it configured."""


class TopicMismatch(LedgerError):
    """A topic exists with another partition count than the ledger's contract says."""


def dead_letter_topic(topic: str) -> str:
    """Where copies of a topic's dead letters go."""
    return f"{topic}.dlq"


def ensure_topics(
    bootstrap: str | list[str], prefix: str = "", *, replication: int = BROKERS_DEFAULT, **connection: Any
) -> None:
    """Create every topic that is missing, and wait until each has leaders.

    ``prefix`` goes before each name, so that several ledgers share a cluster. ``connection`` is handed to
    kafka-python's admin client (security settings). Raises ``TopicMismatch`` and ``kafka.errors.KafkaError``.
    """
    wanted = {f"{prefix}{name}": count for name, count in PARTITIONS.items()}
    wanted |= {dead_letter_topic(name): 1 for name in list(wanted)}
    wanted |= {f"{prefix}{name}": count for name, count in PUBLISHED.items()}
    configs = {f"{prefix}{name}": config for name, config in CONFIGS.items()}
    with closing(KafkaAdminClient(bootstrap_servers=bootstrap, **connection)) as admin:
        missing = wanted.keys() - set(admin.list_topics())
        if missing:
            _create(
                admin,
                {
                    name: {
                        "num_partitions": wanted[name],
                        "replication_factor": replication,
                        "configs": configs.get(name, {}),
                    }
                    for name in missing
                },
            )
        _check_counts(wanted, admin.describe_topics(list(wanted)))


def _create(admin: Any, topics: dict[str, dict[str, Any]]) -> None:
    try:
        admin.create_topics(topics, wait_for_metadata=True)
    except TopicAlreadyExistsError:
        # Another process makes them at this moment; what it left out is made one by one.
        for name, options in topics.items():
            try:
                admin.create_topics({name: options})
            except TopicAlreadyExistsError:
                continue
        admin.wait_for_topics(list(topics))


def _check_counts(wanted: dict[str, int], described: Iterable[dict[str, Any]]) -> None:
    for topic in described:
        name, count = topic["name"], len(topic["partitions"])
        if count != wanted[name]:
            raise TopicMismatch(f"topic {name} has {count} partitions, and the ledger needs {wanted[name]}")
