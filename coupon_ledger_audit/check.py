"""The audit: what is checked of a bundle, in which order, and what it answers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from coupon_ledger_audit.broken import I9, Broken
from coupon_ledger_audit.bundle import WHOLE, Balances, Row
from coupon_ledger_audit.entry import EntryError, parse
from coupon_ledger_audit.fold import COUNTERS, Fold
from coupon_ledger_audit.note import Checkpoint, NoteError, cosigned_at, opened
from coupon_ledger_audit.reader import Bundle, BundleError, NoBundle
from coupon_ledger_audit.report import Finding, Report, Trust
from coupon_ledger_audit.told import utc
from coupon_ledger_audit.tree import Frontier, ProofError, leaf_hash, verify_consistency, verify_inclusion

CLOCK_STEP_US = 1_000_000
"""How far the store's clock may fall between two events, in microseconds: clocks are set right now and then."""


def audit(path: Path | str | IO[bytes], trust: Trust, coupons: Iterable[str] = ()) -> Report:
    """Check a bundle. The report's ``finding`` is ``None`` when all is right."""
    report = Report(coupons={f"coupon-{key.removeprefix('coupon-')}": [] for key in coupons})
    try:
        with Bundle(path) as bundle:
            _Audit(bundle, trust, report).run()
    except Finding as finding:
        report.finding = finding
    except BundleError as error:
        report.finding = Finding("bundle", str(error), error.position)
        report.nothing_checked = isinstance(error, NoBundle)
    except ProofError as error:
        report.finding = Finding("root", str(error))
    return report


class _Audit:
    def __init__(self, bundle: Bundle, trust: Trust, report: Report) -> None:
        self.bundle = bundle
        self.trust = trust
        self.report = report
        self.checkpoint = self._open(bundle.note, "signature")
        self.earlier: list[Checkpoint] = []
        report.checkpoint = self.checkpoint
        report.note = bundle.note

    def run(self) -> None:
        self._signatures()
        if self.trust.whole and self.bundle.manifest.kind != WHOLE:
            raise Finding("bundle", "the bundle is of single coupons, and one of the whole log is demanded")
        if self.bundle.manifest.kind == WHOLE:
            self._whole_tree()
        else:
            self._consistency()
        self._rows()
        self._chosen()

    def _open(self, note: str | bytes, step: str, named: str = "") -> Checkpoint:
        """The checkpoint of a note; ``named`` says which one is meant, where it is not the bundle's own."""
        try:
            return opened(note, self.trust.keys, self.trust.origin)
        except NoteError as error:
            raise Finding(step, f"{named}: {error}" if named else str(error)) from error

    def _signatures(self) -> None:
        manifest, checkpoint = self.bundle.manifest, self.checkpoint
        self.report.add("signature", f"{checkpoint.origin} signed {checkpoint.size} events")
        if (manifest.origin, manifest.size) != (checkpoint.origin, checkpoint.size):
            raise Finding("signature", "the manifest is about another log or size than the checkpoint")
        for witness in self.trust.witnesses:
            try:
                seconds = cosigned_at(self.bundle.note, witness)
            except NoteError as error:
                raise Finding("witness", str(error)) from error
            self.report.add("witness", f"{witness.name} saw the checkpoint at {utc(seconds)}")
        for size, note in self.bundle.earlier.items():
            self.earlier.append(earlier := self._open(note, "signature", f"the earlier checkpoint of {size} events"))
            if earlier.size != size:
                raise Finding("signature", f"the checkpoint named {size} is of {earlier.size} events")
        for known in self.trust.last:
            self.earlier.append(last := self._open(known, "last", "your last checkpoint"))
            if last.size > checkpoint.size:
                text = f"the log went back: {last.size} events at your last checkpoint, {checkpoint.size} in the bundle"
                raise Finding("last", text, checkpoint.size + 1)
        self.earlier.sort(key=lambda each: each.size)
        if self.earlier and self.earlier[-1].size > checkpoint.size:
            raise Finding("signature", "an earlier checkpoint of the bundle is larger than its checkpoint")

    def _whole_tree(self) -> None:
        """Compute the root again, and every earlier one on the way."""
        tree = Frontier()
        good = 0
        waiting = [*self.earlier, self.checkpoint]
        for each in self.bundle.entries():
            while waiting and waiting[0].size == tree.size:
                good = self._same_root(tree, waiting.pop(0), good)
            tree.append(leaf_hash(each))
            if tree.size > self.checkpoint.size:
                break
        while waiting and waiting[0].size == tree.size:
            good = self._same_root(tree, waiting.pop(0), good)
        if tree.size != self.checkpoint.size:
            self._first_difference("root")
            place = min(tree.size, self.checkpoint.size) + 1
            number = "more" if tree.size > self.checkpoint.size else tree.size
            raise Finding("root", f"the seal has {number} entries where {self.checkpoint.size} were signed", place)
        self.report.add("root", f"the root of {tree.size} entries is the one that was signed")
        self._say_earlier()

    def _same_root(self, tree: Frontier, signed: Checkpoint, good: int) -> int:
        if tree.root() == signed.root:
            return signed.size
        step = "root" if signed is self.checkpoint else "last"
        self._first_difference(step)
        raise Finding(step, f"the root of {signed.size} entries is not the one that was signed; up to {good} it is")

    def _first_difference(self, step: str) -> None:
        """Name the event, when only one of seal and rows was changed: the root itself says just that something was."""
        for position, (row, each) in enumerate(zip(self.bundle.rows(), self.bundle.entries(), strict=False), 1):
            if _entry(row) != each:
                text = f"the seal is not what was signed; first it differs from the row of {row.stream}"
                raise Finding(step, text, position)

    def _consistency(self) -> None:
        checkpoint = self.checkpoint
        for earlier in self.earlier:
            proof = self.bundle.consistency.get(earlier.size)
            if proof is None:
                if earlier.size not in (0, checkpoint.size):
                    text = f"the bundle has no proof from your checkpoint of {earlier.size} events; ask for one with it"
                    raise Finding("last", text)
                proof = []
            try:
                verify_consistency(earlier.size, earlier.root, checkpoint.size, checkpoint.root, proof)
            except ProofError as error:
                raise Finding("last", str(error)) from error
        if unused := set(self.bundle.consistency) - {each.size for each in self.earlier}:
            raise Finding("bundle", f"a proof from {min(unused)} events belongs to no checkpoint")
        self._say_earlier()

    def _say_earlier(self) -> None:
        for size in sorted({each.size for each in self.earlier}):
            self.report.add("last", f"the log begins with the {size} events of an earlier checkpoint")

    def _rows(self) -> None:
        """Each row is what was sealed, and follows the rules."""
        manifest = self.bundle.manifest
        fold = Fold(whole=manifest.kind == WHOLE)
        published = manifest.balances
        streams: set[str] = set()
        position, count, recorded_at_us = 0, 0, 0
        for row in self._whole_rows() if fold.whole else self._proven_rows():
            position, count = row.position, count + 1
            try:
                if fold.whole and row.recorded_at_us < recorded_at_us - CLOCK_STEP_US:
                    raise Broken(I9, "it was recorded before the event ahead of it")
                recorded_at_us = row.recorded_at_us
                fold.add(row.stream, row.version, row.topic, row.state, recorded_at_us)
            except Broken as error:
                raise Finding("rules", f"{error} ({row.stream})", position) from error
            if row.stream in self.report.coupons:
                self.report.coupons[row.stream].append(row)
            if published is not None and position == published.position:
                self._balances(fold, published, position)
            if not fold.whole:
                streams.add(row.stream)
        if not fold.whole and sorted(streams) != manifest.streams:
            raise Finding("rows", "the bundle has not the streams that its manifest names")
        if count == 0 or not (fold.whole or fold.coupons):
            raise Finding("rows", "the bundle has no events" if count == 0 else "the bundle has no coupon")
        newest = "the newest of the log" if fold.whole else "the newest of them"
        when = utc(recorded_at_us / 1_000_000)
        self.report.add("rows", f"{count} rows are what was sealed; {newest} was recorded at {when}")
        self._rules(fold)

    def _rules(self, fold: Fold) -> None:
        try:
            fold.conserve()
        except Broken as error:
            raise Finding("rules", str(error)) from error
        add = self.report.add
        coupons, batches = len(fold.coupons), len(fold.batches)
        rules = "I1 to I9 and I17" if fold.whole else "I4 to I8, and what I2, I3 and I17 say of single coupons"
        add("rules", f"{coupons} coupons of {batches} batches follow {rules}")
        add("rules", "not checked: scope, hours of use, stacking, a user's live locks, prices in points and audiences")
        if not fold.whole:
            add("rules", "not checked: what depends on other coupons, which a whole bundle has")
            add("rules", "not shown: that nothing came after the last event of each stream here")
        for zone in sorted(fold.unknown_zones):
            add("rules", f"not checked: limits by day in {zone}, of which this machine has no data")
        if (published := self.bundle.manifest.balances) is not None:
            number, at = len(published.batches), f"at position {published.position} of {self.checkpoint.size}"
            add("balances", f"{number} published balances {at} are right" if number else f"not checked: none {at}")
        elif fold.whole:
            add("balances", "not checked: the bundle has none")

    def _balances(self, fold: Fold, published: Balances | None, position: int) -> None:
        if published is None or published.position != position:
            return
        found = fold.balances()
        for key in sorted(found.keys() | published.batches.keys()):
            if key not in found or key not in published.batches:
                raise Finding("balances", f"the batch {key} is only in the {'log' if key in found else 'balances'}")
            told = published.batches[key]
            if told.keys() != {"quantity", *COUNTERS}:
                raise Finding("balances", f"the balance of the batch {key} has not the counters of a balance")
            for name, count in told.items():
                if found[key][name] != count:
                    text = f"the batch {key} has {name} {found[key][name]} in the log, and {count} published"
                    raise Finding("balances", text)

    def _whole_rows(self) -> Iterator[Row]:
        entries = self.bundle.entries()
        position = 0
        for position, row in enumerate(self.bundle.rows(), 1):  # counted for after the loop
            sealed = next(entries, None)
            if sealed is None:
                raise Finding("rows", f"the row of {row.stream} version {row.version} was never sealed", position)
            if _entry(row) != sealed:
                raise Finding("rows", _difference(row, sealed, position), position)
            if row.position != position:
                text = f"{I9}: the event that was sealed at place {position} says that it is at {row.position}"
                raise Finding("rows", text, position)
            yield row
        if next(entries, None) is not None:
            raise Finding("rows", f"the row at position {position + 1} is missing", position + 1)

    def _proven_rows(self) -> Iterator[Row]:
        checkpoint = self.checkpoint
        last = count = 0
        for row in self.bundle.rows():
            count += 1
            if row.position <= last:
                raise Finding("rows", "the rows are not in the order of their positions", row.position)
            last = row.position
            try:
                proof = self.bundle.proof(row.position)
                if proof.note.encode() != self.bundle.note or proof.index != row.position - 1:
                    raise ProofError("the proof is of another checkpoint or event")
                leaf = leaf_hash(_entry(row))
                verify_inclusion(leaf, proof.index, checkpoint.size, proof.hashes, checkpoint.root)
            except ProofError as error:
                raise Finding("rows", f"{row.stream} version {row.version}: {error}", row.position) from error
            yield row
        if count != sum(name.startswith("proofs/") for name in self.bundle.manifest.members):
            raise Finding("rows", "the bundle has a proof without a row")
        self.report.add("root", f"{count} inclusion proofs lead to the root that was signed")

    def _chosen(self) -> None:
        for stream, rows in self.report.coupons.items():
            if not rows:
                raise Finding("coupons", f"the bundle has no {stream}")
            places = ", ".join(str(row.position) for row in rows)
            self.report.add("coupons", f"{stream} has {len(rows)} events, at positions {places}")
            if self.bundle.manifest.kind != WHOLE:
                after = f"nothing came after version {rows[-1].version} of {stream}"
                self.report.add("coupons", f"not shown: that {after}; only a whole bundle shows that")


def _entry(row: Row) -> bytes:
    """The entry of a row; of one that no entry could hold, something that no entry is."""
    try:
        return row.entry()
    except (OverflowError, UnicodeEncodeError):
        return b""


def _difference(row: Row, sealed: bytes, position: int) -> str:
    """In which field a row is not what was sealed."""
    try:
        found, here = parse(sealed), parse(_entry(row))
    except EntryError:
        return "the row or the entry is of no known form"
    if found.position != position:
        return f"the entry is of position {found.position}"
    if here.position != position:
        return f"the row is of position {here.position}; that of {found.stream} version {found.version} is not here"
    names = ("stream", "version", "topic", "recorded_at_us", "state_hash")
    differing = [name for name in names if getattr(found, name) != getattr(here, name)]
    named = {"recorded_at_us": "time of recording", "state_hash": "payload"}
    text = " and ".join(named.get(name, name) for name in differing)
    return f"the {text} of {found.stream} version {found.version} is not what was sealed"
