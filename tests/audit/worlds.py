"""Honest logs with their bundles, and bundles that somebody changed."""

from __future__ import annotations

import io
import json
import random
import zipfile
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from coupon_ledger_audit.bundle import Balances, Row
from coupon_ledger_audit.fold import Fold
from tests.audit.alone import Auditor
from tests.audit.logs import KEY, ORIGIN, Log, Sealed

Members = dict[str, bytes]


@dataclass
class Case:
    """A bundle, what the auditor brings along, and at which position the first bad event is, if one can be named."""

    members: Members
    last: list[str] = field(default_factory=list)
    position: int | None = None
    origin: str = ORIGIN
    kept: bool = False
    """Whether the manifest keeps its digests, as when a disk changes a bit; else it is written anew."""

    def bundle(self) -> bytes:
        if not self.kept:
            listed(self.members)
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            for name, data in self.members.items():
                archive.writestr(name, data)
        return file.getvalue()

    def ask(self, auditor: Auditor) -> dict[str, Any] | None:
        return auditor.ask(self.bundle(), str(KEY.verifier()), self.origin, self.last, [])


@dataclass
class World:
    """One honest log, and its two bundles."""

    sealed: Sealed
    whole: Members
    coupon: Members
    stream: str
    chance: random.Random

    @property
    def size(self) -> int:
        return self.sealed.size

    def place(self) -> int:
        """A position by chance."""
        return self.chance.randint(1, self.size)


def made(seed: int | str, size: int | None = None) -> World:
    chance = random.Random(f"world {seed}")
    log = Log(seed).grow(chance.randint(12, 70) if size is None else size)
    sealed = Sealed(log.rows)
    stream = chance.choice(log.coupons).stream
    earlier = sorted(chance.sample(range(1, sealed.size), 2))
    fold = Fold(whole=True)
    for row in log.rows:
        fold.add(row.stream, row.version, row.topic, row.state)
    whole = sealed.whole(balances=Balances(sealed.size, fold.balances()), earlier=earlier)
    coupon = sealed.coupon(stream, "batch-b", "template-t", earlier=earlier)
    return World(sealed, opened(whole), opened(coupon), stream, chance)


def opened(bundle: bytes) -> Members:
    with zipfile.ZipFile(io.BytesIO(bundle)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def listed(members: Members, **changes: Any) -> None:
    """Write the manifest anew, as a forger would."""
    manifest = json.loads(members.pop("manifest.json"))
    digests = {name: {"bytes": len(data), "sha256": sha256(data).hexdigest()} for name, data in members.items()}
    said = manifest | {"members": digests} | changes
    members["manifest.json"] = json.dumps(said, ensure_ascii=False, indent=1, sort_keys=True).encode()


def lines(members: Members) -> list[bytes]:
    return members["events.ndjson"].splitlines(keepends=True)


def rewritten(world: World, rows: list[Row]) -> Case:
    """The whole bundle with other rows, and where they first differ."""
    data = b"".join(row.line() for row in rows)
    honest = world.sealed.rows
    first = next((at for at, (a, b) in enumerate(zip(rows, honest, strict=False), 1) if a != b), None)
    return Case(world.whole | {"events.ndjson": data}, position=first or min(len(rows), len(honest)) + 1)


def packed(entries: list[bytes]) -> bytes:
    """The member ``entries``."""
    return b"".join(len(each).to_bytes(2) + each for each in entries)
