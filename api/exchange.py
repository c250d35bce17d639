"""What every route does the same way: the envelope of a write from the request, and answers with their headers."""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar
from wsgiref.types import WSGIEnvironment

import orjson
import psycopg
from flask import Response, current_app, g, request
from psycopg import sql
from werkzeug.datastructures import Headers

from api.access import caller
from api.json_body import present
from api.problems import IdempotencyKeyInvalid, IdempotencyKeyRequired
from ledger.application import Ledger
from ledger.errors import InvalidField, NotCaughtUp, NotFound
from ledger.events import Recorded
from ledger.request import Request
from ledger.store import Store
from ledger.work import Receipt, Work
from projections import queries
from projections.catalogue import VERSIONS

KEY_LIMIT = 255
WAIT_SECONDS = 2.0
"""How long a read waits for a read model."""
POLL_SECONDS = 0.02
NO_MATCH = -1
"""A version that no object has."""
NO_HEADERS: Mapping[str, str] = {}
Connection = psycopg.Connection[Any]
T = TypeVar("T")


def ledger() -> Ledger:
    """The ledger that this application serves."""
    found: Ledger = current_app.extensions["ledger"]
    return found


def command(key: bytes | None = None) -> Request:
    """The envelope of a write that was admitted; with a key where its body can be guessed from a plain digest."""
    found = caller()
    return Request(found.merchant_id, f"key:{found.key_id}", g.idempotency_key, _digest(key))


def idempotency_key(header: str | None) -> str:
    """The caller's key of a write, bare or as the quoted string of the IETF draft.

    Raises ``IdempotencyKeyRequired`` or ``IdempotencyKeyInvalid``.
    """
    if header is None:
        raise IdempotencyKeyRequired
    key = header.strip()
    if key.startswith('"'):
        if not re.fullmatch(r'"([^"\\]|\\["\\])*"', key):
            raise IdempotencyKeyInvalid
        key = re.sub(r"\\(.)", r"\1", key[1:-1])
    # No space: ids of messages hold one inside and those of jobs begin with one, so no caller can take theirs.
    if not 1 <= len(key) <= KEY_LIMIT or not re.fullmatch(r"[!-~]+", key):
        raise IdempotencyKeyInvalid
    return key


def _digest(key: bytes | None) -> str:
    """Digest of method, path and body: the same key with another of them is another request."""
    asked = present()
    body = orjson.dumps(asked.get_json(), option=orjson.OPT_SORT_KEYS)
    message = b"\n".join([asked.method.encode(), asked.path.encode(), body])
    return hashlib.sha256(message).hexdigest() if key is None else hmac.digest(key, message, "sha256").hex()


def expected_version() -> int | None:
    """The version that ``If-Match`` names; ``None`` when any will do.

    Raises ``InvalidField`` for a list, because a command is meant for one version, and for what is no tag.
    """
    header = request.headers.get("If-Match", "*").strip()
    if header == "*":
        return None
    if not re.fullmatch(r'(?:W/)?"[!#-~]*"', header):
        raise InvalidField(errors=[_NO_TAG])
    found = re.fullmatch(r'"([0-9]{1,18})"', header)
    return int(found[1]) if found else NO_MATCH


_NO_TAG = {"parameter": "If-Match", "code": InvalidField.code(), "detail": "names one version, as its ETag or *"}


class Answer(Response):
    """An answer whose headers are whole when it is made; its ``Location`` is of ids, which need no quoting."""

    def get_wsgi_headers(self, environ: WSGIEnvironment) -> Headers:  # noqa: ARG002
        """They are as they should be: the framework's way of mending them costs as much as making them."""
        return self.headers


def perform(work: Work, *, status: int = 200, location: str | None = None) -> Response:
    """Have the ledger do it, and answer what it answered, now or when the same request came first."""
    return answer_receipt(ledger().do(work), status=status, location=location)


def answer_receipt(receipt: Receipt, *, status: int = 200, location: str | None = None) -> Response:
    """Answer a write with what it answered, now or when the same request came first."""
    headers = {"Ledger-Position": str(receipt.position)}
    if receipt.replayed:
        headers["Idempotent-Replayed"] = "true"
    if location is not None:
        headers["Location"] = "/v1/" + location.format_map(receipt.answer)
    return answer(receipt.answer, status=status, version=receipt.answer.get("version"), headers=headers)


def answer(
    body: Mapping[str, Any], *, status: int = 200, version: int | None = None, headers: Mapping[str, str] = NO_HEADERS
) -> Response:
    """A JSON answer; with a version, also its ETag."""
    if version is not None:
        headers = {**headers, "ETag": f'"{version}"'}
    return Answer(orjson.dumps(body), status, headers, content_type="application/json")


def owned_history(category: str, id: str, missing: type[NotFound]) -> Sequence[Recorded]:
    """The stream of an object that the caller's merchant owns; raises the same refusal for another's as for none."""
    history = ledger().store.history(f"{category}-{id}")
    if not history or history[0].event.merchant_id != caller().merchant_id:
        raise missing(id=id)
    return history


def caught_up(at_least: int, *names: str) -> int:
    """The position that the named read models show at least, once that is ``at_least``.

    No connection is held while waiting, so that readers who wait cannot keep writers from the database. Raises
    ``NotCaughtUp`` after ``WAIT_SECONDS``, and at once when a model is missing, of an older release until it is
    rebuilt, or stopped at a fault.
    """
    return _read_when(ledger().store, at_least, names, lambda _: None, together=False)[1]


def read_together(store: Store, at_least: int, names: Sequence[str], read: Callable[[Connection], T]) -> tuple[T, int]:
    """Figures that are made of the named read models, and the position at which all of these are, as ``caught_up``.

    Both are of one snapshot, for the models need not be at one position: one may be stopped, or catch up.
    """
    try:
        return _read_when(store, at_least, names, read, together=True)
    except psycopg.errors.UndefinedTable:  # nobody ever folded them
        raise NotCaughtUp(position=at_least) from None


def _read_when(
    store: Store, at_least: int, names: Sequence[str], read: Callable[[Connection], T], *, together: bool
) -> tuple[T, int]:
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        with store.connection() as connection, _snapshot(connection, names if together else ()):
            models = [
                model
                for model in queries.status(connection)
                if model.name in names and model.version == VERSIONS[model.name]
            ]
            positions = {model.position for model in models}
            position = min(positions, default=0)
            if len(models) >= len(names) and position >= at_least and (len(positions) == 1 or not together):
                return read(connection), position
        stopped = len(models) < len(names) or any(model.state == "FAULTED" for model in models)
        if stopped or time.monotonic() >= deadline:
            raise NotCaughtUp(position=at_least)
        time.sleep(POLL_SECONDS)


@contextmanager
def _snapshot(connection: Connection, names: Sequence[str]) -> Iterator[None]:
    """One snapshot of these read models. They are locked before it is taken, for else it could see no row of a table
    that takes the place of another meanwhile."""
    if not names:
        yield
        return
    with connection.transaction():
        views = sql.SQL(", ").join(map(sql.Identifier, names))
        connection.execute(_SNAPSHOT.format(views))
        yield


_SNAPSHOT = sql.SQL("set transaction isolation level repeatable read read only; lock table {} in access share mode")
