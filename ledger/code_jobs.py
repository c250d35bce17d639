"""Making, importing and handing over whole sets of codes: what takes more than one transaction, or a file."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence

from psycopg.errors import UniqueViolation

from ledger import code_store
from ledger.aggregate import derived_id
from ledger.application import Connection, Ledger
from ledger.code_store import CodeSet
from ledger.codes import SET_LIMIT, CodeKeys, CodeList, Codes, code_of, hash_of, shown
from ledger.errors import (
    CodesExported,
    CodesNotFound,
    IdempotencyKeyReused,
    InvalidField,
    InvalidQuantity,
    Refusal,
    Unavailable,
)
from ledger.events import CodesRevoked
from ledger.request import Request
from ledger.use_cases.batches import check_costs_no_points
from ledger.use_cases.codes import check_takes_codes, confirm_code_export, coupon_of, record_codes
from ledger.work import Loaded, Receipt, Work, fold

CHUNK = 20_000
"""Codes of one transaction: well below a second, so that nobody waits long for the set's row."""
FAULTS_SHOWN = 100

Progress = Callable[[int, int], None]
"""Is told (done, all)."""


def generate(
    ledger: Ledger,
    keys: CodeKeys,
    request: Request,
    batch_id: str,
    count: int,
    progress: Progress | None = None,
) -> Receipt:
    """Make unique codes of a batch. Answers the set, when all of its codes can be exchanged.

    The same request again goes on where it was cut off. Raises ``InvalidQuantity``, ``BatchNotFound``,
    ``BatchStateConflict``.
    """
    if not 1 <= count <= SET_LIMIT:
        raise InvalidQuantity(f"a set has 1 to {SET_LIMIT} codes", field="count")
    check_keys(keys)
    found = _set_of(ledger, request)
    if found is None:
        _check_batch(ledger, request, batch_id)
        new = CodeSet(
            _codes_id(request),
            request.merchant_id,
            batch_id,
            "unique",
            count,
            0,
            keys.newest_id,
            secrets.token_bytes(32),
        )
        with ledger.store.connection() as connection:
            code_store.begin_set(connection, new)
        found = _set_of(ledger, request)
        assert found is not None
    if (found.batch_id, found.kind, found.count) != (batch_id, "unique", count):
        raise IdempotencyKeyReused(request_id=request.request_id)
    while found.stored < found.count:
        found = _store_chunk(ledger, keys, found.codes_id)
        if progress is not None:
            progress(found.stored, found.count)
    return ledger.do(record_codes(request, found.codes_id, batch_id=batch_id, kind="unique", count=count))


def import_codes(
    ledger: Ledger, keys: CodeKeys, request: Request, batch_id: str, listed: CodeList, kind: str = "imported"
) -> Receipt:
    """Take over codes that were made elsewhere, all or none; a single one for many users is ``generic``.

    Codes of a revoked set may be taken over into another, a unique one only while nobody has exchanged it.
    Raises ``InvalidField`` whose ``faults`` are the first (place, why) of what cannot be taken, ``BatchNotFound``,
    ``BatchStateConflict``.
    """
    check_keys(keys)
    codes_id, count = _codes_id(request), len(listed.texts)
    work = record_codes(request, codes_id, batch_id=batch_id, kind=kind, count=count)
    if _set_of(ledger, request) is not None:
        return ledger.do(work)  # it was committed with its event, so this is a repeat
    if listed.faults:
        raise _faulty(listed.faults)
    if not 1 <= count <= SET_LIMIT:
        raise InvalidQuantity(f"a set has 1 to {SET_LIMIT} codes", field="codes")
    _check_batch(ledger, request, batch_id)
    ways = [[hash_of(key, text) for text in listed.texts] for key in keys.derived("code", request.merchant_id)]
    new = CodeSet(codes_id, request.merchant_id, batch_id, kind, count, count, keys.newest_id, None)
    try:
        with ledger.store.connection() as connection, connection.transaction():
            if code_store.begin_set(connection, new):
                _take_over(connection, request.merchant_id, listed, ways)
                code_store.add_hashes(connection, request.merchant_id, codes_id, ways[0])
                return _done(ledger, work, connection)
    except UniqueViolation:
        raise InvalidField("one of the codes was taken over by somebody else meanwhile", field="codes") from None
    return ledger.do(work)


def generic_code(text: str) -> CodeList:
    """One code for many users, which people choose. Raises ``InvalidField``."""
    listed = CodeList.read([text])
    if not listed.texts:
        raise InvalidField(f"the code {listed.faults[0][1]}" if listed.faults else "a code is needed", field="code")
    return listed


def export(ledger: Ledger, keys: CodeKeys, merchant_id: str, codes_id: str) -> Iterator[str]:
    """The codes of a set, as people read them; one after the other, never all at once.

    The first time begins a window in which a download that broke may be repeated, until the export is confirmed. When
    the window is over, what the codes are made from is erased as if it had been.

    Raises ``CodesNotFound`` or ``CodesExported`` at once, not when the first code is asked for.
    """
    check_keys(keys)
    codes = owned_codes(ledger, merchant_id, codes_id)
    codes.check_exportable(merchant_id)
    with ledger.store.connection() as connection:
        found = code_store.find_set(connection, codes_id)
        if found is None or found.salt is None:
            raise CodesExported(codes_id=codes_id)
        secret, count = keys.set_secret(found.key_id, codes_id, found.salt), found.count
        if not code_store.begin_export(connection, codes_id):
            code_store.erase_salt(connection, codes_id)
            raise CodesExported("the time to export the codes again is over", codes_id=codes_id)
    return (shown(code_of(secret, number)) for number in range(count))


def confirm_export(ledger: Ledger, request: Request, codes_id: str) -> Receipt:
    """Say that the exported codes arrived: from now on nobody can read them from the ledger. Answers the set."""
    with ledger.store.connection() as connection, connection.transaction():
        receipt = _done(ledger, confirm_code_export(request, codes_id), connection)
        code_store.erase_salt(connection, codes_id)
    return receipt


def owned_codes(ledger: Ledger, merchant_id: str, codes_id: str) -> Codes:
    """A merchant's set as it is now. Raises ``CodesNotFound``."""
    stream = f"codes-{codes_id}"
    codes = fold(Codes(stream), ledger.store.load([stream]).streams[stream])
    codes.check_owned(merchant_id)
    return codes


def check_keys(keys: CodeKeys) -> None:
    """Raise ``Unavailable`` where the server has no key to hash codes with."""
    if not keys.keys:
        raise Unavailable("the server has no code key, so it cannot deal with codes")


def _codes_id(request: Request) -> str:
    return derived_id("codes", request.merchant_id, request.request_id)


def _set_of(ledger: Ledger, request: Request) -> CodeSet | None:
    with ledger.store.connection() as connection:
        return code_store.find_set(connection, _codes_id(request))


def _check_batch(ledger: Ledger, request: Request, batch_id: str) -> None:
    """Refuse before the work is done; the commit looks again."""

    def decide(loaded: Loaded) -> Receipt:
        batch = loaded.batch(batch_id)
        check_takes_codes(batch, loaded.now)
        check_costs_no_points(loaded.terms(batch.created.template_id, batch.created.template_version))
        return Receipt({}, 0)

    ledger.ask(Work(request, (f"batch-{batch_id}",), decide))


def _store_chunk(ledger: Ledger, keys: CodeKeys, codes_id: str) -> CodeSet:
    with ledger.store.connection() as connection, connection.transaction():
        found = code_store.find_set(connection, codes_id, for_update=True)
        if found is None:
            raise CodesNotFound(codes_id=codes_id)
        until = min(found.count, found.stored + CHUNK)
        if found.stored < until:
            assert found.salt is not None
            secret = keys.set_secret(found.key_id, codes_id, found.salt)
            key = dict(zip((id for id, _ in keys.keys), keys.derived("code", found.merchant_id), strict=True))
            hashes = (hash_of(key[found.key_id], code_of(secret, number)) for number in range(found.stored, until))
            code_store.add_hashes(connection, found.merchant_id, codes_id, hashes)
            code_store.set_stored(connection, codes_id, until)
        refreshed = code_store.find_set(connection, codes_id)
    assert refreshed is not None
    return refreshed


def _take_over(connection: Connection, merchant_id: str, listed: CodeList, ways: Sequence[Sequence[bytes]]) -> None:
    """Make room for those that are codes of the merchant already. Raises ``InvalidField`` where one cannot be taken."""
    faults: list[tuple[int, str]] = []
    for hashes in ways:
        for start in range(0, len(hashes), CHUNK):
            chunk = hashes[start : start + CHUNK]
            known = {code.code_hash: code for code in code_store.known(connection, merchant_id, chunk)}
            if not known:
                continue
            coupons = {code_hash: f"coupon-{coupon_of(code)}" for code_hash, code in known.items() if code.is_unique}
            begun = code_store.begun(connection, list(coupons.values()))
            free = []
            for number, code_hash in zip(listed.numbers[start:], chunk, strict=False):
                if (code := known.get(code_hash)) is None:
                    continue
                if CodesRevoked.TOPIC not in code.topics:
                    faults.append((number, "is a code of this merchant already"))
                elif coupons.get(code_hash) in begun:
                    faults.append((number, "was exchanged for a coupon, and is good for one"))
                else:
                    free.append(code)
            code_store.release(connection, merchant_id, free)
    if faults:
        raise _faulty(sorted(faults))


def _faulty(faults: Sequence[tuple[int, str]]) -> InvalidField:
    more = f", and {len(faults) - FAULTS_SHOWN} more" if len(faults) > FAULTS_SHOWN else ""
    number, why = faults[0]
    return InvalidField(
        f"{len(faults)} of the codes cannot be taken{more}: line {number} {why}", faults=faults[:FAULTS_SHOWN]
    )


def _done(ledger: Ledger, work: Work, connection: Connection) -> Receipt:
    """Perform the work in the transaction of what goes with it."""
    (result,) = ledger.do_all([work], connection)
    if isinstance(result, Refusal):
        raise result
    return result
