"""Rows of the bench, and what follows from them: ratios and the targets that they meet."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

RESULTS = Path(__file__).parent / "results.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One contender under one load."""

    case: str
    contender: str
    callers: int
    processes: int
    """Of the client, or of what serves it, where that is the question (HTTP workers, consumers)."""
    rate_per_s: float
    """Operations acknowledged inside the measured seconds, a second."""
    p50_ms: float | None
    """``None`` where an operation has no latency of its own, as in bulk."""
    p99_ms: float | None
    cpu_s_per_1000: float
    """CPU seconds of the contender's Python processes for 1,000 operations; database servers are not counted."""
    exact: bool
    """The outcome was checked: nothing over-issued, nothing lost, as many as were acknowledged."""


def case_of(row_case: str) -> str:
    """The case of the command line that a row's case belongs to."""
    if row_case.endswith("_1ms"):
        return "commit_latency"
    return next((case for case in ("growth", "http", "bulk", "kafka", "seal") if row_case.startswith(case)), row_case)


def size_name(count: int) -> str:
    """10000 is 10k, 1000000 is 1m: how a case's name tells a number of stored events."""
    for unit, letter in ((1_000_000, "m"), (1_000, "k")):
        if count >= unit and count % unit == 0:
            return f"{count // unit}{letter}"
    return str(count)


def _size(name: str) -> int:
    unit = {"k": 1_000, "m": 1_000_000}.get(name[-1])
    return int(name[:-1]) * unit if unit else int(name)


def best(rows: Iterable[Row]) -> list[Row]:
    """Of each case, number of callers and contender the row of its best process count; an inexact one never wins."""
    chosen: dict[tuple[str, int, str], Row] = {}
    for row in rows:
        key = (row.case, row.callers, row.contender)
        if key not in chosen or (row.exact, row.rate_per_s) > (chosen[key].exact, chosen[key].rate_per_s):
            chosen[key] = row
    return list(chosen.values())


def ratios(rows: Iterable[Row]) -> dict[str, float]:
    """The ledger's rate over each rival's (``claims.64.ledger/app_save``), and over its own at the smallest log
    (``growth.claims.64.10m/10k``). Inexact rows have none; over HTTP it is one worker beside one worker.
    """
    compared = [row for row in rows if row.exact and not (row.case.startswith("http") and row.processes > 1)]
    compared = [row for row in compared if row.case != "kafka_steady"]  # its rate is given, and its times count
    rates = {(row.case, row.callers, row.contender): row.rate_per_s for row in best(compared)}
    found = {
        f"{case}.{callers}.ledger/{contender}": _ratio(rates[case, callers, "ledger"], rate)
        for (case, callers, contender), rate in rates.items()
        if contender != "ledger" and (case, callers, "ledger") in rates
    }
    by_size: dict[tuple[str, int], dict[str, float]] = {}
    for (case, callers, contender), rate in rates.items():
        if contender == "ledger" and (match := re.fullmatch(r"growth_(\w+)_(\d+[km]?)", case)):
            by_size.setdefault((match[1], callers), {})[match[2]] = rate
    for (case, callers), sizes in by_size.items():
        smallest, *larger = sorted(sizes, key=_size)
        for name in larger:
            found[f"growth.{case}.{callers}.{name}/{smallest}"] = _ratio(sizes[name], sizes[smallest])
    return found


def _ratio(ours: float, theirs: float) -> float:
    """Two decimals, or two digits where that would show nothing."""
    ratio = ours / theirs if theirs else float("inf")
    return round(ratio, 2) if ratio >= 0.1 else float(f"{ratio:.2g}")


@dataclass(frozen=True, slots=True)
class Target:
    """A figure to reach."""

    key: str
    """Regular expression of the ratios that it is about."""
    at_least: float


TARGETS = (
    Target(r"claims\.64\.ledger/app_save", 40),
    Target(r"claims\.64\.ledger/relational", 8),
    Target(r"claims\.64\.ledger/redis_always", 1),
    Target(r"claims\.1\.ledger/relational", 0.8),
    Target(r"lock_confirm\.64\.ledger/app_save", 10),
    Target(r"bulk\.\d+\.ledger/copy", 0.4),
    Target(r"http_claims\.1\.ledger/bare_flask", 0.6),
    Target(r"http_claims\.64\.ledger/bare_flask", 1),
    Target(r"projections\.1\.ledger/library_runner", 15),
    Target(r"growth\.\w+\.\d+\.10m/10k", 0.85),
)
CLAIM_P99_LIMIT_MS = 50.0
"""Of the ledger's claims from 64 callers."""
QUOTE_P99_LIMIT_MS = 5.0
"""Of CPU, for a quote of 30 coupons and 40 lines."""
VISIBLE_P99_LIMIT_MS = 250.0
"""From a produced message to the row that a reader sees, at 500 messages a second."""
SEALED_P99_LIMIT_MS = 1_000.0
"""Of the first event that no checkpoint covers, its age at 500 writes a second."""
PER_S = {"projections": 11_112, "verify": 16_667}
"""Events a second: a million folded by all read models in 90 seconds, and checked in 60."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """A target and what was measured for it."""

    what: str
    wanted: str
    measured: float
    met: bool


def judge(rows: Sequence[Row]) -> list[Judgement]:
    """Each target for which something was measured."""
    found = ratios(rows)
    judgements = [
        Judgement(key, f"at least {target.at_least:g}", ratio, ratio >= target.at_least)
        for target in TARGETS
        for key, ratio in found.items()
        if re.fullmatch(target.key, key)
    ]
    limits = {
        ("claims", 64, "ledger"): CLAIM_P99_LIMIT_MS,
        ("quote", 1, "ledger"): QUOTE_P99_LIMIT_MS,
        ("kafka_steady", 1, "ledger_visible"): VISIBLE_P99_LIMIT_MS,
        ("seal_steady", 1, "ledger"): SEALED_P99_LIMIT_MS,
    }
    for row in best(rows):
        if row.contender == "ledger" and (wanted := PER_S.get(row.case)):
            met = row.exact and row.rate_per_s >= wanted
            judgements.append(Judgement(f"{row.case}.rate_per_s", f"at least {wanted:,}", row.rate_per_s, met))
        limit = limits.get((row.case, row.callers, row.contender))
        if limit is not None and row.p99_ms is not None:
            met = row.exact and row.p99_ms < limit
            name = row.case if row.contender == "ledger" else f"{row.case}.{row.contender}"
            judgements.append(Judgement(f"{name}.{row.callers}.p99_ms", f"under {limit:g}", row.p99_ms, met))
    return judgements


def write(path: Path, rows: Sequence[Row]) -> None:
    """Write rows and ratios as JSON."""
    result = {"rows": [asdict(row) for row in rows], "ratios": ratios(rows)}
    path.write_text(json.dumps(result, indent=1) + "\n", "utf-8")


def read(path: Path) -> list[Row]:
    """The rows of such a file; none where there is no file."""
    if not path.exists():
        return []
    return [Row(**row) for row in json.loads(path.read_text("utf-8"))["rows"]]
