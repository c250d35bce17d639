"""``coupon-ledger-audit``: what an auditor runs, without a database and without trust in whoever made the bundle."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from coupon_ledger_audit.check import audit
from coupon_ledger_audit.note import WITNESS, NoteError, told_key
from coupon_ledger_audit.report import OPEN, Report, Trust
from coupon_ledger_audit.told import printable

RIGHT, WRONG, USAGE = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> None:
    """Check a bundle and exit: 0 when all is right, 1 when something is wrong, 2 when nothing could be checked."""
    parser = _parser()
    given = parser.parse_args(arguments)
    try:
        keys = [told_key(text) for text in given.key]
        witnesses = [told_key(text, WITNESS) for text in given.witness]
        last = [Path(each).read_bytes() for each in given.last]
        if given.save_checkpoint is not None and given.save_checkpoint.exists():
            last.append(given.save_checkpoint.read_bytes())  # so what is saved never goes back
        if given.save_checkpoint is not None:
            _try(given.save_checkpoint)
        with Path(given.bundle).open("rb"):
            pass
    except (OSError, NoteError) as error:
        parser.error(printable(str(error)))
    trust = Trust(keys, given.origin or keys[0].name, last, witnesses, given.whole)
    report = audit(given.bundle, trust, given.coupon)
    if report.nothing_checked:
        parser.error(printable(f"{given.bundle}: {report.finding}"))
    lines = [json.dumps(_as_json(report))] if given.json else map(printable, _as_text(report))
    text = "".join(f"{line}\n" for line in lines)
    try:
        _tell(text)
        if report.finding is None and given.save_checkpoint is not None:
            _save(given.save_checkpoint, report.note)
    except OSError as error:
        parser.error(printable(f"the report or its checkpoint is not kept: {error}"))
    sys.exit(RIGHT if report.finding is None else WRONG)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="coupon-ledger-audit",
        description="Check a bundle of a coupon ledger offline: signature, root, every row, and the rules of the fold.",
    )
    parser.add_argument("bundle", help="the file that the ledger's operator handed over")
    parser.add_argument(
        "--key",
        required=True,
        action="append",
        metavar="VKEY|FILE",
        help="the ledger's public key (name+hash+base64), got elsewhere than the bundle; again for a changed key",
    )
    parser.add_argument(
        "--last",
        action="append",
        default=[],
        metavar="FILE",
        help="the checkpoint that you verified last time: the log may only have grown since",
    )
    parser.add_argument("--whole", action="store_true", help="accept nothing less than a bundle of the whole log")
    parser.add_argument("--coupon", action="append", default=[], metavar="ID", help="tell this coupon's events")
    parser.add_argument("--origin", metavar="NAME", help="the log's name, where it is not the key's")
    parser.add_argument(
        "--witness", action="append", default=[], metavar="VKEY|FILE", help="a witness that must have signed too"
    )
    parser.add_argument(
        "--save-checkpoint",
        type=Path,
        metavar="FILE",
        help="where to keep the verified checkpoint for next time; one that is there is checked as --last is",
    )
    parser.add_argument("--json", action="store_true", help="answer with one JSON object")
    return parser


def _tell(text: str) -> None:
    """Write the verdict out, before anything else can go wrong. Raises ``OSError``."""
    encoding = sys.stdout.encoding  # which may lack a letter of a name: the verdict must not be lost with it
    try:
        sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
        sys.stdout.flush()
    except OSError:
        # What is left of it would be written once more at the end, which fails again and changes the exit code.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise


def _try(path: Path) -> None:
    """Raises ``OSError`` where nothing can be kept, before an audit is made for nothing."""
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise OSError(f"the checkpoint cannot be kept in {path}: {error.strerror}") from error


def _save(path: Path, note: bytes) -> None:
    """Whole or not at all, and on the disk before anybody relies on it."""
    beside = path.with_name(f".{path.name}.new")
    with beside.open("wb") as file:
        file.write(note)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def _as_text(report: Report) -> list[str]:
    lines = [f"{'--' if text.startswith(OPEN) else 'ok'}  {step}: {text}" for step, text in report.passed]
    for stream, rows in report.coupons.items():
        lines += [f"    {stream} {row.version} {row.topic} at position {row.position}" for row in rows]
    finding = report.finding
    if finding is None:
        return [*lines, "all is right"]
    where = "" if finding.position is None else f"; first bad position: {finding.position}"
    return [*lines, f"WRONG  {finding.step}: {finding.text}{where}"]


def _as_json(report: Report) -> dict[str, Any]:
    finding, checkpoint = report.finding, report.checkpoint
    return {
        "right": finding is None,
        "origin": None if checkpoint is None else checkpoint.origin,
        "size": None if checkpoint is None else checkpoint.size,
        "root": None if checkpoint is None else checkpoint.root.hex(),
        "passed": [{"step": step, "text": text} for step, text in report.passed if not text.startswith(OPEN)],
        "open": [{"step": step, "text": text} for step, text in report.passed if text.startswith(OPEN)],
        "finding": finding and {"step": finding.step, "text": finding.text, "position": finding.position},
        "coupons": {
            stream.removeprefix("coupon-"): [
                {"position": row.position, "version": row.version, "topic": row.topic} for row in rows
            ]
            for stream, rows in report.coupons.items()
        },
    }
