"""How much memory this command and everything that it started take together."""

from __future__ import annotations

import os
import threading
from collections import defaultdict
from pathlib import Path
from types import TracebackType
from typing import Self

SAMPLE_SECONDS = 5.0
"""One sample walks the page tables of some 25 processes, which takes 50 ms of a core."""
_PROC = Path("/proc")


class MemoryWatch:
    """Samples the proportional set size of the whole process tree; pages that processes share count once.

    Linux only: elsewhere ``peak_bytes`` stays 0.
    """

    def __init__(self) -> None:
        self.peak_bytes = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="memory", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(SAMPLE_SECONDS):
            self.peak_bytes = max(self.peak_bytes, sum(map(_set_size, _family(os.getpid()))))


def _family(root: int) -> set[int]:
    """The process and all its descendants."""
    children = defaultdict(list)
    for folder in _PROC.glob("[0-9]*"):
        try:
            # The name of the program may hold spaces and brackets; the parent's id is the second word after it.
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        children[parent].append(int(folder.name))
    found, todo = set(), [root]
    while todo:
        process = todo.pop()
        found.add(process)
        todo += children[process]
    return found


def _set_size(process: int) -> int:
    try:
        text = (_PROC / str(process) / "smaps_rollup").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("Pss:")), 0)
