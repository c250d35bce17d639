"""Results as a person reads them: tables in the terminal, and Markdown for docs/performance.md."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Column, Table

from benchmarks.results import Judgement, Row, best, judge, ratios

BEGIN, END = "<!-- bench -->", "<!-- /bench -->"
NOT_DURABLE_MARK = "†"
NOT_DURABLE = f"{NOT_DURABLE_MARK} not durable with the ledger: what it acknowledges must still be carried over."
COUNTED = (
    "CPU is that of the contender's Python processes, without the database server. relational and skip_locked have the"
    " best of several pool sizes, 4 to 32 connections a process."
)
NOT_EXACT = "A struck rate is of a contender whose outcome was not exact."


def row_table(rows: Sequence[Row]) -> Table:
    """All rows, for the terminal."""
    table = Table(
        "case", "contender", *(_right(name) for name in _FIGURES), "exact", caption=f"{NOT_DURABLE} {NOT_EXACT}"
    )
    for row in rows:
        rate = _rate(row) if row.exact else f"[strike]{_rate(row)}[/strike]"
        table.add_row(row.case, _name(row), *_figures(row, rate), "yes" if row.exact else "[bold red]NO[/bold red]")
    return table


def ratio_table(rows: Sequence[Row]) -> Table:
    """Ratios of the best process counts."""
    table = Table("ratio", _right("x"))
    for key, ratio in ratios(rows).items():
        table.add_row(key, f"{ratio:,}")
    return table


def target_table(rows: Sequence[Row]) -> Table:
    """The targets that something was measured for."""
    table = Table("target", _right("wanted"), _right("measured"), "met")
    for judgement in judge(rows):
        table.add_row(*_judged(judgement)[:3], "yes" if judgement.met else "[bold red]no[/bold red]")
    return table


def markdown(rows: Sequence[Row], command: str) -> str:
    """The best process count of each contender in each case, the targets, and the command that made them."""
    made = f"Made by `{command}`; of each contender the row of its best number of processes."
    parts = [" ".join((made, COUNTED, NOT_EXACT, NOT_DURABLE))]
    chosen = best(rows)
    for case in dict.fromkeys(row.case for row in chosen):
        lines = [["contender", *_FIGURES, "exact"]]
        for row in chosen:
            if row.case == case:
                rate = _rate(row) if row.exact else f"~~{_rate(row)}~~"
                lines.append([_name(row), *_figures(row, rate), "yes" if row.exact else "**no**"])
        parts.append(f"### `{case}`\n\n{_markdown_table(lines)}")
    if judgements := judge(rows):
        lines = [["target", "wanted", "measured", "met"], *(_judged(judgement) for judgement in judgements)]
        parts.append(f"### Targets\n\n{_markdown_table(lines)}")
    return "\n\n".join(parts)


def replaced(document: str, text: str) -> str:
    """The document with the text between its two markers. Raises ``ValueError`` unless each is there once."""
    if document.count(BEGIN) != 1 or document.count(END) != 1:
        raise ValueError(f"the document must hold {BEGIN} and {END} once each")
    before, rest = document.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{text}\n{END}{after}"


_FIGURES = ("callers", "processes", "rate/s", "p50 ms", "p99 ms", "CPU s/1,000")


def _figures(row: Row, rate: str) -> list[str]:
    latencies = ["" if value is None else f"{value:,.1f}" for value in (row.p50_ms, row.p99_ms)]
    return [f"{row.callers:,}", str(row.processes), rate, *latencies, f"{row.cpu_s_per_1000:.3f}"]


def _rate(row: Row) -> str:
    return f"{row.rate_per_s:,.0f}"


def _name(row: Row) -> str:
    return f"{row.contender} {NOT_DURABLE_MARK}" if row.contender.startswith("redis") else row.contender


def _judged(judgement: Judgement) -> list[str]:
    return [judgement.what, judgement.wanted, f"{judgement.measured:g}", "yes" if judgement.met else "**no**"]


def _markdown_table(lines: Sequence[Sequence[str]]) -> str:
    head, *body = (f"| {' | '.join(cells)} |" for cells in lines)
    rule = "|" + "|".join("---:" if name in _FIGURES else "---" for name in lines[0]) + "|"
    return "\n".join([head, rule, *body])


def _right(name: str) -> Column:
    return Column(name, justify="right")
