"""The audit as an auditor has it: a copy of its folder and nothing else, in an isolated interpreter.

Run as a script it audits bundles from its standard input, one after another, and refuses every module of the server.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

HOUSE = Path(__file__).parents[2]
FOREIGN = ("ledger", "projections", "api", "consumers", "coupon_ledger", "psycopg", "flask", "kafka", "eventsourcing")


def copied(to: Path) -> Path:
    """A folder that has the package alone."""
    shutil.copytree(HOUSE / "coupon_ledger_audit", to / "coupon_ledger_audit", ignore=shutil.ignore_patterns("__py*"))
    return to


class Auditor:
    """Asks a worker in a process of its own."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-I", str(Path(__file__)), str(folder)]
        self.worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        assert self.worker.stdin is not None
        assert self.worker.stdout is not None
        self.worker.stdin.close()
        self.worker.stdout.close()
        assert self.worker.wait(10) == 0 or error is not None

    def ask(self, bundle: bytes, key: str, origin: str, last: list[str], coupons: list[str]) -> dict[str, Any] | None:
        """What it found wrong: ``{"step", "text", "position"}``, or ``None``."""
        assert self.worker.stdin is not None
        assert self.worker.stdout is not None
        asked = {"length": len(bundle), "key": key, "origin": origin, "last": last, "coupons": coupons}
        self.worker.stdin.write(json.dumps(asked).encode() + b"\n" + bundle)
        self.worker.stdin.flush()
        answer = self.worker.stdout.readline()
        assert answer, "the audit broke down"
        finding: dict[str, Any] | None = json.loads(answer)
        return finding


class Refusing:
    """Keeps the server's modules from being found, though the interpreter has them installed."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name.partition(".")[0] in FOREIGN:
            raise ImportError(f"the audit imports {name}")


def _work(folder: str) -> None:
    sys.meta_path.insert(0, Refusing())  # type: ignore[arg-type]
    sys.path.insert(0, folder)
    import io

    import coupon_ledger_audit.check as check_
    from coupon_ledger_audit.note import VerifierKey
    from coupon_ledger_audit.report import Trust

    assert check_.__file__.startswith(folder)
    while line := sys.stdin.buffer.readline():
        asked = json.loads(line)
        bundle = io.BytesIO(sys.stdin.buffer.read(asked["length"]))
        trust = Trust([VerifierKey.parse(asked["key"])], asked["origin"], asked["last"])
        finding = check_.audit(bundle, trust, asked["coupons"]).finding
        said = finding and {"step": finding.step, "text": finding.text, "position": finding.position}
        sys.stdout.write(json.dumps(said) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _work(sys.argv[1])
