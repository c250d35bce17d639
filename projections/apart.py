"""Work that is shared among processes, because one core decodes for one process only."""

from __future__ import annotations

import gc
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import current_process, get_context
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

T = TypeVar("T")
Progress = Callable[[int, int], None]


def in_processes(works: Sequence[Callable[[Progress], T]], progress: Progress) -> list[T]:
    """What each work returns, each done in a process of its own; the first error of any ends all.

    A work can be pickled, as its result and its errors can. What they tell of their progress is added up.
    """
    context = get_context("spawn")  # a fork would share connections and locks that threads of ours hold
    told = [(0, 0)] * len(works)
    results: dict[int, T] = {}
    pipes: dict[Connection, int] = {}
    processes = []
    try:
        for number, work in enumerate(works):
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(target=_do, args=(work, theirs), daemon=True)
            process.start()
            theirs.close()  # so that we hear of its end
            processes.append(process)
            pipes[ours] = number
        while pipes:
            for ready in wait(list(pipes)):
                assert isinstance(ready, Connection)
                number = pipes[ready]
                try:
                    word, said = ready.recv()
                except EOFError:
                    raise RuntimeError("a process ended before its work did") from None
                if word == "progress":
                    told[number] = said
                    progress(sum(done for done, _ in told), sum(total for _, total in told))
                elif word == "failed":
                    raise said
                else:
                    results[number] = said
                    del pipes[ready]
                    ready.close()
    finally:
        for process in processes:
            process.terminate()
            process.join()
        for pipe in pipes:
            pipe.close()
    return [results[number] for number in range(len(works))]


def may_have_processes() -> bool:
    """Whether this process may start others: one that ends with its own starter may not."""
    return not current_process().daemon


@contextmanager
def seldom_collected() -> Iterator[None]:
    """Look for cycles less often: chunks make thousands of objects and no cycles, and looking takes its time."""
    before = gc.get_threshold()
    gc.set_threshold(50_000, 20, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _do(work: Callable[[Progress], Any], pipe: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a whole terminal: whoever began us ends us
    try:
        pipe.send(("done", work(lambda done, total: pipe.send(("progress", (done, total))))))
    except Exception as error:
        pipe.send(("failed", error))
