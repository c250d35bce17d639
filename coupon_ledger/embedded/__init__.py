"""The real PostgreSQL 18 and Apache Kafka 4.3.1 as child servers of one command, for one machine.

Both come from Python wheels (and, for Kafka, jars fetched once and checked against a committed lock), listen
on this machine only, keep their data in a state folder, and never outlive the command that started them.
"""

from __future__ import annotations

from coupon_ledger.embedded.kafka import EmbeddedKafka
from coupon_ledger.embedded.life import EmbeddedServerError
from coupon_ledger.embedded.postgres import EmbeddedPostgres

__all__ = ["EmbeddedKafka", "EmbeddedPostgres", "EmbeddedServerError"]
