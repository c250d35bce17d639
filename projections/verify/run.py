"""A verification: one moment of the database, all questions, and how far each part of the work is."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from ledger.database import Database
from projections.seal.check import check as check_seal
from projections.seal.errors import NotSealed
from projections.seal.trust import Trust, check_trust
from projections.verify import beside, guards
from projections.verify.models import check_models, replaying
from projections.verify.plans import Plans
from projections.verify.report import GIVEN, IDS, OF_DATABASE, Findings, Report, outcomes
from projections.verify.rows import Reader
from projections.verify.snapshot import Books, Moment, moment
from projections.verify.walk import walk

Progress = Callable[[str, int, int], None]
"""Is told (part, done, all); parts are log, guards, seal, last checkpoint and read models."""


def verify(
    database: Database,
    *,
    seal: Path | None = None,
    trust: Trust | None = None,
    only: Collection[str] = IDS,
    progress: Progress = lambda _part, _done, _total: None,
) -> Report:
    """Ask all questions, or ``only`` these (``report.CHECKS``), of the log as it is at this moment.

    All of it is one snapshot, taken without a lock that a writer would wait for; but the read models, which a process
    of its own compares at their own positions. ``seal`` is the sealer's folder. With ``trust`` the log must be sealed,
    with one of those keys; without it the seal is believed with whatever keys the database names. Memory does not grow
    with the log, and the database needs room for temporary tables of about a quarter of it.

    Raises ``psycopg.Error`` where the database cannot be read, and ``ValueError`` for trust in a seal that is not
    looked at.
    """
    if trust is not None and (seal is None or "I15" not in only):
        raise ValueError("keys are given, and no seal is looked at")
    began = time.monotonic()
    found = Findings(only)
    with ExitStack() as stack:
        models = (
            stack.enter_context(replaying(database, partial(progress, "read models"))) if found.asks("I10") else None
        )
        looked = stack.enter_context(moment(database))
        if not found.ids <= {"I10", "I15", "I12"}:
            _check_log(looked, found, progress)
        if found.asks("I12"):
            beside.check_messages(looked, found)
        if found.asks("I15"):
            _check_seal(looked, seal, trust, found, progress)
        if models is not None:
            check_models(looked, models.result(), found)
        keys = None if not found.asks("I15") else OF_DATABASE if trust is None else GIVEN
        return Report(looked.head, looked.now, time.monotonic() - began, keys, outcomes(found))


def _check_log(looked: Moment, found: Findings, progress: Progress) -> None:
    plans, reader = Plans(), Reader()
    plans.read(looked.connection, reader, found)
    held = walk(looked, plans, reader, Books(looked.connection), found, partial(progress, "log"))
    steps: tuple[Callable[[], None], ...] = (
        lambda: guards.check_positions(looked, found),
        lambda: guards.check_batches(looked, plans, found),
        lambda: guards.check_quota(looked, found),
        lambda: guards.check_redemptions(looked, found),
        lambda: guards.check_holds(looked, held, found),
        lambda: guards.check_requests(looked, found),
        lambda: beside.check_codes(looked, plans, found),
        lambda: beside.check_jobs(looked, plans, found),
    )
    for number, step in enumerate(steps, 1):
        step()
        progress("guards", number, len(steps))


def _check_seal(looked: Moment, folder: Path | None, trust: Trust | None, found: Findings, progress: Progress) -> None:
    unlike = [] if trust is None else list(check_trust(looked.connection, trust, partial(progress, "last checkpoint")))
    for finding in unlike:
        found.add("I15", finding.position, None, "what was sealed by the keys given", finding.what)
    if folder is None:
        found.notes["I15"] = "not sealed: no folder of a seal was named"
        return
    try:
        wrong = check_seal(looked.connection, folder, partial(progress, "seal"))
    except NotSealed:
        found.notes["I15"] = "not sealed"
        return
    [(sealed,)] = looked.connection.execute("select coalesce(max(size), 0) from checkpoints").fetchall()
    found.looked_at["I15"] += sealed
    notes = [f"sealed up to {sealed}"] if sealed < looked.head else []
    if trust is not None and trust.last and not unlike:
        notes.append(f"beginning with the {max(each.size for each in trust.last)} events of a checkpoint that was kept")
    found.notes["I15"] = ", ".join(notes)
    for finding in wrong:
        found.add("I15", finding.position, None, "what was sealed", finding.what)
