"""Case projections: our runner with every read model beside the library's with one, on the same log in the same run.

The library's is written as its documentation shows it: a view on its PostgreSQL tracking recorder, one statement an
event, in the transaction of its tracking. It is stopped when its time is over; ours folds the whole log, in all read
models of the release, and is compared with a replay.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

import psycopg
from eventsourcing.application import Application
from eventsourcing.persistence import Tracking
from eventsourcing.postgres import PostgresApplicationRecorder, PostgresDatastore, PostgresTrackingRecorder
from eventsourcing.projection import Projection, ProjectionRunner
from psycopg.conninfo import conninfo_to_dict
from psycopg.sql import SQL, Identifier

from benchmarks.lived import store_lives
from benchmarks.options import Options
from benchmarks.results import Row
from benchmarks.servers import schema, settle
from consumers.worker import calm_the_collector
from ledger.database import PROJECTOR_ROLE, Database
from ledger.events import CouponIssued, Event
from ledger.migrate import migrate
from projections import replay
from projections.catalogue import PROJECTIONS
from projections.models.moves import COUPON_EVENTS
from projections.runner import Runner

SCHEMA = "bench_projections"


def measure(options: Options) -> Iterator[Row]:
    """Rows ``projections``: events folded a second."""
    with schema(options.url, SCHEMA):
        migrate(options.url, SCHEMA)
        store_lives(options.url, SCHEMA, options.projected)
        options.tell(f"{options.projected:,} events stored")
        yield _library(options, "library_runner")
        settle(options.url)
        # Rows are derived, so our projector does not wait for its commits; the library has no setting for that.
        os.environ["PGOPTIONS"] = "-c synchronous_commit=off"
        try:
            yield _library(options, "library_runner_async")
        finally:
            del os.environ["PGOPTIONS"]
        settle(options.url)
        yield _ledger(options)


def _ledger(options: Options) -> Row:
    calm_the_collector()  # as the process of the service does
    cpu, began_at = time.process_time(), time.perf_counter()
    runner = Runner(Database(options.url, SCHEMA, PROJECTOR_ROLE))
    head = runner.catch_up()
    seconds, cpu = time.perf_counter() - began_at, time.process_time() - cpu
    found = replay.compare(Database(options.url, SCHEMA, PROJECTOR_ROLE), PROJECTIONS)
    exact = all(each.position == head and each.differing == 0 for each in found)
    return _row("ledger", head, seconds, cpu, exact=exact)


def _library(options: Options, contender: str) -> Row:
    with psycopg.connect(options.url, autocommit=True) as connection:
        for (name,) in connection.execute(_LIBRARYS).fetchall():
            connection.execute(SQL("drop table {}").format(Identifier(SCHEMA, name)))
        connection.execute(
            f'create table "{SCHEMA}".library_view (coupon_id text primary key, state text, '
            "order_id text, valid_until timestamptz, position bigint)"
        )
    cpu, began_at = time.process_time(), time.perf_counter()
    with ProjectionRunner(
        application_class=Log, projection_class=CouponStates, view_class=CouponStateView, env=_environment(options.url)
    ) as runner:
        time.sleep(options.seconds)
        seconds, cpu = time.perf_counter() - began_at, time.process_time() - cpu
        position = runner.view.max_tracking_id("Log") or 0
    with psycopg.connect(options.url, autocommit=True) as connection:
        [(coupons, issued)] = connection.execute(_CHECK).fetchall()
    return _row(contender, position, seconds, cpu, exact=position > 0 and coupons == issued)


def _row(contender: str, events: int, seconds: float, cpu: float, *, exact: bool) -> Row:
    return Row(
        case="projections",
        contender=contender,
        callers=1,
        processes=1,
        rate_per_s=round(events / seconds, 1),
        p50_ms=None,
        p99_ms=None,
        cpu_s_per_1000=round(cpu / max(events, 1) * 1_000, 4),
        exact=exact,
    )


class LogRecorder(PostgresApplicationRecorder):
    """The library's own recorder, on the ledger's table."""

    def __init__(self, datastore: PostgresDatastore, **_: Any) -> None:
        super().__init__(datastore, events_table_name="events")
        self.channel_name = f"{SCHEMA}_events"


class Log(Application[str]):
    """The ledger's log, as the library reads an application's."""


class CouponStateView(PostgresTrackingRecorder):
    """Where each coupon stands."""

    def fold(self, event: Any, position: int, tracking: Tracking) -> None:
        """Write one event and its tracking in one transaction."""
        with self.datastore.transaction(commit=True) as cursor:
            self._insert_tracking(cursor, tracking)
            if isinstance(event, CouponIssued):
                cursor.execute(_INSERT, (event.originator_id, event.valid_until, position), prepare=True)
            else:
                changed = (event.TOPIC, getattr(event, "order_id", None), position, event.originator_id)
                cursor.execute(_UPDATE, changed, prepare=True)


class CouponStates(Projection[CouponStateView]):
    """Coupon status, event by event."""

    name = "couponstates"
    topics = tuple(event.TOPIC for event in COUPON_EVENTS)

    def process_event(self, domain_event: Event, tracking: Tracking) -> None:
        """Fold one event."""
        self.view.fold(domain_event, tracking.notification_id, tracking)


def _environment(url: str) -> dict[str, str]:
    place = conninfo_to_dict(url)
    return {
        "PERSISTENCE_MODULE": "eventsourcing.postgres",
        "APPLICATION_RECORDER_TOPIC": "benchmarks.projections:LogRecorder",
        "MAPPER_TOPIC": "ledger.mapper:EventMapper",
        "ORIGINATOR_ID_TYPE": "text",
        "LOG_CREATE_TABLE": "n",
        "POSTGRES_DBNAME": str(place.get("dbname", "postgres")),
        "POSTGRES_HOST": str(place.get("host", "")),
        "POSTGRES_PORT": str(place.get("port", 5432)),
        "POSTGRES_USER": str(place.get("user", "")),
        "POSTGRES_PASSWORD": str(place.get("password") or "none"),
        "POSTGRES_SCHEMA": SCHEMA,
    }


_LIBRARYS = f"""
select tablename from pg_tables
 where schemaname = '{SCHEMA}' and (tablename = 'library_view' or tablename like '%tracking%')
"""
_VIEW = SQL("{}.library_view").format(Identifier(SCHEMA))
_INSERT = SQL("insert into {} (coupon_id, state, valid_until, position) values (%s, 'coupon.issued', %s, %s)").format(
    _VIEW
)
_UPDATE = SQL("update {} set state = %s, order_id = %s, position = %s where coupon_id = %s").format(_VIEW)
_CHECK = f"""
select (select count(*) from "{SCHEMA}".library_view),
       (select count(*) from "{SCHEMA}".events where topic = 'coupon.issued' and notification_id <=
            (select max(notification_id) from "{SCHEMA}".couponstates_tracking where application_name = 'Log'))
"""
