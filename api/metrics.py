"""What the service measures, for Prometheus. Every figure is read from the database, so any API process tells all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from flask import Blueprint, Response
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

from api.exchange import ledger
from ledger.store import Store
from projections import standings
from projections.seal import standing as sealing

metrics = Blueprint("metrics", __name__)


@metrics.get("/metrics")
def get_metrics() -> Response:
    """All figures in the Prometheus text format, as they are now."""
    registry = CollectorRegistry()
    registry.register(_Figures(ledger().store))
    return Response(generate_latest(registry), content_type=CONTENT_TYPE_PLAIN_0_0_4)


class _Figures(Collector):
    def __init__(self, store: Store) -> None:
        self._store = store

    def describe(self) -> Iterator[Metric]:
        """Nothing: registering must not read the database."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Read everything with one connection. Raises ``Unavailable``, so that a scrape fails as a whole."""
        head = self._store.head()
        with self._store.connection() as connection:
            models = standings.read_models(connection)
            followers = standings.followers(connection)
            letters = standings.open_letters(connection)
            consumers = standings.consumers(connection, letters)
            told = list(_of_telling(connection))
            seal, anchors = sealing.standing(connection), sealing.anchors(connection)
        yield _gauge("log_head_position", "Position of the last event of the log.", (), [((), head)])
        named = [((model.name, str(model.version)), model) for model in models]
        yield _gauge(
            "projection_lag_events",
            "Events that a read model has not folded.",
            ("projection", "version"),
            [(labels, model.lag_events) for labels, model in named],
        )
        yield _gauge(
            "projection_lag_seconds",
            "Age of the first event that a read model has not folded.",
            ("projection", "version"),
            [(labels, model.lag_seconds) for labels, model in named],
        )
        yield _gauge(
            "projection_faulted",
            "1 where a read model stopped at an event that it cannot fold.",
            ("projection", "version"),
            [(labels, model.state == "FAULTED") for labels, model in named],
        )
        yield _gauge(
            "projection_outdated",
            "1 where a read model is live in another version than this release has, and is to be rebuilt.",
            ("projection", "version"),
            [(labels, model.state == "OUTDATED") for labels, model in named],
        )
        yield _gauge(
            "projection_skips",
            "Events that an operator let a read model pass over.",
            ("projection", "version"),
            [(labels, model.skips) for labels, model in named],
        )
        yield _gauge(
            "follower_lag_events",
            "Events that a follower of the log, such as the publisher, is not done with.",
            ("follower",),
            [((follower.name,), follower.lag_events) for follower in followers],
        )
        yield from _of_consumers(consumers)
        yield from _of_seal(seal, anchors)
        yield _gauge(
            "open_dead_letters",
            "Messages that could have no effect, and that nobody settled.",
            ("topic", "reason"),
            list(_by_reason(letters).items()),
        )
        yield from told


def _by_reason(letters: Iterable[standings.OpenLetters]) -> Counter[tuple[str, str]]:
    found: Counter[tuple[str, str]] = Counter()
    for each in letters:
        found[each.topic, each.reason] += each.count
    return found


def _of_consumers(consumers: Sequence[standings.ConsumerStanding]) -> Iterator[Metric]:
    labels = ("group", "topic", "partition")
    named = [((each.consumer_group, each.topic, str(each.partition)), each) for each in consumers]
    yield _gauge(
        "consumer_lag_messages",
        "Messages of a partition that its consumer group has not taken, when it looked last.",
        labels,
        [(values, each.lag) for values, each in named],
    )
    yield _gauge(
        "consumer_seen_age_seconds",
        "How long ago a consumer looked how far the partition goes; it does so every few seconds.",
        labels,
        [(values, each.seen_seconds_ago) for values, each in named],
    )
    yield _gauge(
        "waiting_messages",
        "Messages that came too early, and wait for what they need.",
        labels,
        [(values, each.waiting) for values, each in named],
    )


def _of_seal(seal: sealing.SealStanding, anchors: Sequence[sealing.AnchorStanding]) -> Iterator[Metric]:
    for name, help, value in (
        ("seal_position", "Position up to which a checkpoint was signed.", seal.size),
        ("seal_lag_events", "Events that no checkpoint covers.", seal.unsealed_events),
        ("seal_lag_seconds", "Age of the first event that no checkpoint covers.", seal.unsealed_seconds),
        ("seal_stopped", "1 where the log is not what was sealed, and nothing is signed.", seal.state == "STOPPED"),
    ):
        yield _gauge(name, help, (), [((), value)])
    yield _gauge(
        "seal_unanchored_seconds",
        "Age of the first checkpoint that a place outside does not have.",
        ("place",),
        [((anchor.place,), anchor.unanchored_seconds) for anchor in anchors],
    )


def _of_telling(connection: standings.Connection) -> Iterator[Metric]:
    due = [(("disabled" if each.disabled else "enabled",), each) for each in standings.deliveries_due(connection)]
    yield _gauge(
        "deliveries_due",
        "Deliveries that could be sent now, on channels that are enabled or not; of each channel 10,000 at most.",
        ("channels",),
        [(labels, each.count) for labels, each in due],
    )
    yield _gauge(
        "deliveries_due_age_seconds",
        "How long the first of them has been due.",
        ("channels",),
        [(labels, each.oldest_seconds) for labels, each in due],
    )
    for name, help, count in (
        ("deliveries_given_up", "Deliveries that nobody retried; 10,000 at most.", standings.deliveries_given_up),
        ("channels_disabled", "Channels that nobody enabled again.", standings.channels_disabled),
        ("reminders_overdue", "Reminders that are due and not sent; 10,000 at most.", standings.reminders_overdue),
        ("job_rows_waiting", "Rows of running issuance jobs that have not settled.", standings.job_rows_waiting),
    ):
        yield _gauge(name, help, (), [((), count(connection))])


def _gauge(
    name: str, help: str, labels: Sequence[str], samples: Sequence[tuple[Sequence[str], float | None]]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"coupon_ledger_{name}", help, labels=labels)
    for values, value in samples:
        if value is not None:
            family.add_metric(values, value)
    return family
