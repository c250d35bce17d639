"""Grouping: many threads ask, one thread answers all that wait at once, so that they share a round trip."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from ledger.errors import OutcomeUnknown, ServiceError, Unavailable

ANSWER_WAIT_SECONDS = 10.0

QuestionT = TypeVar("QuestionT")
AnswerT = TypeVar("AnswerT")


class _Waiting(Generic[QuestionT, AnswerT]):
    __slots__ = ("answer", "question", "settled")

    def __init__(self, question: QuestionT) -> None:
        self.question = question
        self.answer: AnswerT | Exception | None = None
        self.settled = threading.Lock()  # a bare lock wakes a caller at half the price of a Future
        self.settled.acquire()

    def settle(self, answer: AnswerT | Exception) -> None:
        self.answer = answer
        self.settled.release()

    def pass_on(self, onward: Onward) -> None:
        self.question = onward.question
        try:
            onward.to._put(self)
        except ServiceError as error:
            self.settle(error)


@dataclass(frozen=True, slots=True)
class Onward:
    """Instead of an answer: another grouping answers this question, and the caller sleeps on until it did."""

    to: Grouping[Any, Any]
    question: Any


class Grouping(Generic[QuestionT, AnswerT]):
    """Answers what waits, a group at a time, and never waits for a group to fill."""

    def __init__(
        self,
        name: str,
        answer: Callable[[Sequence[QuestionT]], Sequence[AnswerT | Onward | Exception]],
        limit: int,
    ) -> None:
        """``answer`` takes at most ``limit`` questions and answers as many of the first ones as may share a group."""
        self._name = name
        self._answer = answer
        self._limit = limit
        self._waiting: queue.SimpleQueue[_Waiting[QuestionT, AnswerT] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = False

    def ask(self, question: QuestionT) -> AnswerT:
        """Wait for the answer.

        Raises ``OutcomeUnknown`` when none comes in time, and whatever the group answered with.
        """
        item: _Waiting[QuestionT, AnswerT] = _Waiting(question)
        self._put(item)
        if not item.settled.acquire(timeout=ANSWER_WAIT_SECONDS):
            raise OutcomeUnknown()
        if isinstance(item.answer, Exception):
            raise item.answer
        assert item.answer is not None
        return item.answer

    def close(self) -> None:
        """Answer what waits, then end the thread."""
        with self._lock:
            if not self._closed and self._thread is not None:
                self._waiting.put(None)
            self._closed = True
        if self._thread is not None:
            self._thread.join(ANSWER_WAIT_SECONDS)

    def _put(self, item: _Waiting[QuestionT, AnswerT]) -> None:
        with self._lock:  # so that nothing is put behind the end of the queue
            if self._closed:
                raise Unavailable("the ledger is closed")
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            self._waiting.put(item)

    def _run(self) -> None:
        held: list[_Waiting[QuestionT, AnswerT]] = []
        open_ = True
        while open_ or held:
            while open_ and len(held) < self._limit and not (held and self._waiting.empty()):
                item = self._waiting.get()
                if item is None:
                    open_ = False
                else:
                    held.append(item)
            if held:
                held = held[self._settle(held) :]

    def _settle(self, held: Sequence[_Waiting[QuestionT, AnswerT]]) -> int:
        """Answer the first ones and return how many; every caller gets an answer, whatever went wrong."""
        answers: Sequence[AnswerT | Onward | Exception]
        try:
            answers = self._answer([item.question for item in held])
        except ServiceError as error:
            answers = alike(error, len(held))
        except Exception as error:
            if len(held) > 1:  # one question may be to blame, and nothing was written: each goes alone
                return sum(self._settle([item]) for item in held)
            answers = [error]
        for item, answer in zip(held, answers, strict=False):
            if isinstance(answer, Onward):
                item.pass_on(answer)
            else:
                item.settle(answer)
        return len(answers)


def alike(error: ServiceError, count: int) -> list[ServiceError]:
    """The same error for each of so many callers: one object raised in many threads would mix their tracebacks."""
    errors = [type(error)(error.detail, **error.facts) for _ in range(count)]
    for each in errors:
        each.__cause__ = error.__cause__ or error
    return errors
