"""I10: the read models folded again from the log, in a process of its own, for that takes as long as all else."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection as Pipe
from typing import Any

from ledger.database import PROJECTOR_ROLE, Database
from projections import replay
from projections.catalogue import PROJECTIONS
from projections.replay import Compared
from projections.verify.report import Findings
from projections.verify.snapshot import Moment, rows
from projections.verify.walk import Progress

END_SECONDS = 5
"""For so long a process that was told to end is waited for."""


class Replaying:
    """A replay at work elsewhere. What it says is heard at once, so that it never waits to be heard."""

    def __init__(self, pipe: Pipe, progress: Progress) -> None:
        self._pipe = pipe
        self._progress = progress
        self._result: list[Compared] | str = "the process that replayed the log ended before it was done"
        self._hearing = threading.Thread(target=self._hear, daemon=True)
        self._hearing.start()

    def result(self) -> list[Compared] | str:
        """What it compared, or why it could not."""
        self._hearing.join()
        return self._result

    def _hear(self) -> None:
        said: Any = None
        with suppress(EOFError, OSError):
            while isinstance(said := self._pipe.recv(), tuple):
                self._progress(*said)
            self._result = said


@contextmanager
def replaying(database: Database, progress: Progress) -> Iterator[Replaying]:
    """Begin, and end it whatever happens."""
    context = get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_replay, args=(database, theirs))  # no daemon, for it starts others
    process.start()
    theirs.close()
    hearing = Replaying(ours, progress)
    try:
        yield hearing
    finally:
        process.terminate()
        process.join(END_SECONDS)
        if process.is_alive():
            process.kill()
            process.join()
        hearing.result()
        ours.close()


def _replay(database: Database, pipe: Pipe) -> None:
    try:
        projector = Database(database.url, database.schema, PROJECTOR_ROLE)
        with projector.connect() as connection:
            live = {(name, version) for name, version, *_ in rows(connection, _STANDING)}
        comparable = [projection for projection in PROJECTIONS if (projection.name, projection.version) in live]
        pipe.send(replay.compare(projector, comparable, lambda done, total: pipe.send((done, total))))
    except Exception as error:
        detail = getattr(error, "detail", None) or f"{type(error).__name__}: {error}"
        pipe.send(" ".join(str(detail).split()))


def check_models(moment: Moment, compared: list[Compared] | str, found: Findings) -> None:
    """Rows that differ, and checkpoints that stand still or stand where no event is."""
    live = rows(moment.connection, _STANDING)
    _note_what_is_not_live(moment, live, found)
    for name, _, state, position, fault in live:
        if state != "RUNNING":
            found.add("I10", position + 1, name, "a read model that follows the log", f"{state}: {fault}")
        elif position > moment.head:
            found.add("I10", None, name, f"a position up to {moment.head}", f"position {position}")
    if isinstance(compared, str):
        found.add("I10", None, None, "a log that can be folded again", compared)
        return
    for model in compared:
        found.looked_at["I10"] += model.live_rows
        if model.differing:
            told = f"{model.differing} rows differ, first {model.first_key}: {model.live_row}"
            expected = f"the fold of the log to {model.position}: {model.folded_row}"
            found.add("I10", _moved_at(model), model.name, expected, told)


def _moved_at(model: Compared) -> int | None:
    """Which event moved the first row that differs last, by the fold; by the live row where the fold has none."""
    position = (model.folded_row or model.live_row or {}).get("position")
    return position if isinstance(position, int) and 1 <= position <= model.position else None


def _note_what_is_not_live(moment: Moment, live: list[tuple[Any, ...]], found: Findings) -> None:
    versions = {name: version for name, version, *_ in live}
    others = [each.name for each in PROJECTIONS if versions.get(each.name) != each.version]
    behind = [name for name, _, _, position, _ in live if position < moment.head]
    notes = [
        f"of this release's version there is no {', '.join(others)}" if others else "",
        f"behind the log are {', '.join(behind)}" if behind else "",
    ]
    found.notes["I10"] = "; ".join(note for note in notes if note)


_STANDING = "select name, version, state, position, fault from projection_checkpoints order by name, version"
