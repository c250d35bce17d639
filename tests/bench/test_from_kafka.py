"""The Kafka bench really runs from a broker to the log and the read models, beside a rival that keeps its count."""

from __future__ import annotations

from benchmarks import from_kafka, results, servers
from benchmarks.options import Options


def test_both_take_every_message(database_url: str) -> None:
    options = Options(url=database_url, redis=servers.redis_server, seconds=0.4, bulk_rows=300)
    rows = list(from_kafka.measure(options))
    assert [(row.case, row.contender) for row in rows] == [
        ("kafka_backlog", "ledger"),
        ("kafka_steady", "ledger"),
        ("kafka_steady", "ledger_visible"),
        ("kafka_backlog", "transaction_each"),
        ("kafka_steady", "transaction_each"),
    ]
    assert all(row.exact and row.rate_per_s > 0 for row in rows)
    assert all(0 < row.p50_ms <= row.p99_ms for row in rows if row.case == "kafka_steady")
    assert set(results.ratios(rows)) == {"kafka_backlog.1.ledger/transaction_each"}
    assert {results.case_of(row.case) for row in rows} == {"kafka"}
    assert [(each.what, each.wanted) for each in results.judge(rows)] == [
        ("kafka_steady.ledger_visible.1.p99_ms", "under 250")
    ]
