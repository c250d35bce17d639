"""The seal of the log, for auditors: signed checkpoints, and proofs that a coupon's events are in the log."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Sequence
from typing import Any

from flask import Response, current_app
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel, Field

from api import answers, contract
from api.access import operation_name
from api.exchange import POLL_SECONDS, WAIT_SECONDS, answer, ledger, owned_history
from api.wire import CouponPath, NoQuery, Parameters, Position
from coupon_ledger_audit.note import VerifierKey
from ledger.aggregate import text_of
from ledger.errors import CouponNotFound, InvalidField, Unavailable
from projections.seal import checkpoints
from projections.seal.bundles import streams_of, write_proven
from projections.seal.checkpoints import Signed
from projections.seal.errors import NotSealed, NotSealedYet
from projections.seal.folder import SealFolder
from projections.seal.proofs import Proven, extends, prove

audit_seal = APIBlueprint(
    "audit_seal",
    __name__,
    url_prefix="/v1",
    abp_tags=[Tag(name="seal", description="Proofs that the log is what it was: see docs/audit.md.")],
    operation_id_callback=operation_name,
)


class Checkpoint(BaseModel):
    """What was signed about the log: these were its first events."""

    note: str = Field(
        description="The signed note (c2sp.org/tlog-checkpoint), with lines of witnesses and a changed key."
    )
    origin: str = Field(description="The log's name.")
    size: int = Field(description="How many events it covers: the positions 1 to size.")
    root: str = Field(description="The root hash of their Merkle tree (RFC 6962), in base64.")
    signed_at: answers.Time
    vkey: str = Field(description="The public key, as the service has it. Check with one that came another way.")


class ProvenEvent(BaseModel):
    """An event as it is stored, and the proof that the log has it."""

    position: int
    stream: str
    version: int
    topic: str
    recorded_at_us: int = Field(description="Microseconds since 1970-01-01T00:00:00Z.")
    state: str = Field(description="The payload's stored text, to be hashed as it is.")
    entry: str = Field(description="What the tree's leaf is the hash of, in base64.")
    index: int = Field(description="The number of the leaf, from 0.")
    proof: list[str] = Field(description="The inclusion proof (RFC 6962), in base64, from the leaf upwards.")


class Consistency(BaseModel):
    """The proof that the log only grew since an earlier checkpoint."""

    size: int
    proof: list[str] = Field(description="The consistency proof (RFC 6962), in base64.")


class CouponProof(BaseModel):
    """Each event of a coupon, proven at the newest checkpoint."""

    coupon_id: str
    checkpoint: Checkpoint
    events: list[ProvenEvent]
    consistency: Consistency | None = Field(description="From the checkpoint that `since` names.")


class ProofQuery(Parameters):
    """From where on the auditor wants to know that the log only grew."""

    since: Position | None = Field(None, description="The size of a checkpoint that the auditor has.")


@audit_seal.get("/audit/checkpoint", responses=contract.read(Checkpoint, NotSealed))
def get_checkpoint(query: NoQuery) -> Response:  # noqa: ARG001
    """Read the newest checkpoint of the log."""
    signed, note = _newest()
    return answer(_shown(signed, note))


@audit_seal.get("/audit/checkpoint.txt", responses=contract.file("text/plain", NotSealed))
def get_checkpoint_note(query: NoQuery) -> Response:  # noqa: ARG001
    """Read the newest checkpoint of the log as the signed note alone."""
    return Response(_newest()[1], content_type="text/plain; charset=utf-8")


@audit_seal.get("/coupons/<coupon_id>/proof", responses=contract.read(CouponProof, CouponNotFound, NotSealedYet))
def get_coupon_proof(path: CouponPath, query: ProofQuery) -> Response:
    """Prove each event of a coupon to be in the log as it was signed."""
    owned_history("coupon", path.coupon_id, CouponNotFound)
    proven = _proven([f"coupon-{path.coupon_id}"])
    size = proven.signed.size
    found = {
        "coupon_id": path.coupon_id,
        "checkpoint": _shown(proven.signed, proven.note),
        "events": [
            row._asdict()
            | {"state": row.state.decode("utf-8", "replace"), "entry": _text(row.entry())}
            | {"index": row.position - 1, "proof": [_text(hash) for hash in proof]}
            for row, proof in zip(proven.rows, proven.proofs, strict=True)
        ],
        "consistency": None
        if query.since is None
        else {
            "size": query.since,
            "proof": [_text(hash) for hash in extends(_folder(), _earlier(query.since, size)[0].size, size)],
        },
    }
    return answer(found)


@audit_seal.get(
    "/coupons/<coupon_id>/proof.zip", responses=contract.file("application/zip", CouponNotFound, NotSealedYet)
)
def get_coupon_proof_bundle(path: CouponPath, query: ProofQuery) -> Response:
    """Read the same as a bundle for coupon-ledger-audit, with the streams of the coupon's batch and template."""
    owned_history("coupon", path.coupon_id, CouponNotFound)
    with ledger().store.connection() as connection:
        streams = streams_of(connection, path.coupon_id)
    proven = _proven(streams)
    earlier = [] if query.since is None else [_earlier(query.since, proven.signed.size)[1]]
    file = io.BytesIO()
    write_proven(file, _folder(), proven, earlier)
    name = f'attachment; filename="coupon-{path.coupon_id}.zip"'
    return Response(file.getvalue(), content_type="application/zip", headers={"Content-Disposition": name})


def _newest() -> tuple[Signed, str]:
    with ledger().store.connection() as connection:
        signed = checkpoints.newest(connection)
        if signed is None:
            raise NotSealed
        return signed, checkpoints.cosigned(connection, signed)


def _proven(streams: Sequence[str]) -> Proven:
    """The streams' events with proofs, once they are sealed; no connection is held while waiting for that."""
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            with ledger().store.connection() as connection:
                return prove(connection, _folder(), streams)
        except NotSealedYet as error:
            if not error.facts["size"] or time.monotonic() >= deadline:  # where nothing was sealed, nobody seals
                raise
        time.sleep(POLL_SECONDS)


def _earlier(since: int, size: int) -> tuple[Signed, str]:
    """With the lines of witnesses and of a changed key, which came later."""
    with ledger().store.connection() as connection:
        signed = checkpoints.of_size(connection, since) if since <= size else None
        if signed is None:
            detail = "is not the size of a checkpoint that was signed"
            raise InvalidField(errors=[{"parameter": "since", "code": InvalidField.code(), "detail": detail}])
        return signed, checkpoints.cosigned(connection, signed)


def _folder() -> SealFolder:
    path = current_app.extensions["seal_folder"]
    if path is None:
        raise Unavailable("this process has no folder of the seal")
    return SealFolder(path)


def _shown(signed: Signed, note: str) -> dict[str, Any]:
    return {
        "note": note,
        "origin": VerifierKey.parse(signed.vkey).name,
        "size": signed.size,
        "root": _text(signed.root),
        "signed_at": text_of(signed.signed_at),
        "vkey": signed.vkey,
    }


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
