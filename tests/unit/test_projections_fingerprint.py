"""Whoever changes what a projection's rows are must raise its version, so that every ledger rebuilds it."""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import re
import sys
from pathlib import Path
from textwrap import dedent
from types import ModuleType

import pytest

from ledger.benefit import Benefit
from ledger.events import EVENTS
from projections.catalogue import PROJECTIONS
from projections.models import batch_balance, books, bulk, moves, past, shared_coupons
from projections.models.moves import COUPON_EVENTS
from projections.projection import Projection

CONTRACT = Path(__file__).parents[1] / "contract" / "projections.json"


def fingerprint(projection: Projection) -> str:
    """A digest of the projection's file, of the moves that it folds, and of what else it shares with others: what is
    computed, not how it is laid out.
    """
    own = inspect.getmodule(type(projection))
    assert own is not None
    sources = [inspect.getsource(module) for module in _shared(own)]
    if any("benefit.worth_minor" in source for source in sources):
        assert isinstance(Benefit.worth_minor, property) and Benefit.worth_minor.fget is not None
        sources.append(dedent(inspect.getsource(Benefit.worth_minor.fget)))
    digest = hashlib.sha256()
    for source in sources:
        digest.update(_code(source).encode())
    return digest.hexdigest()


def _shared(own: ModuleType) -> list[ModuleType]:
    """The module, then by name the moves and the modules beside it that these or others of them import."""
    found = [own, moves]
    for module in found:
        for name in re.findall(r"^from (projections\.models\.\w+) import", inspect.getsource(module), re.MULTILINE):
            if (imported := sys.modules[name]) not in found:
                found.append(imported)
    return [own, *sorted(found[1:], key=lambda module: module.__name__)]


def _code(source: str) -> str:
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        judged = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "compared"
        if docstring or judged or isinstance(node, ast.Import | ast.ImportFrom):
            assert isinstance(node, ast.stmt)
            lines[node.lineno - 1 : node.end_lineno] = [""] * (node.end_lineno - node.lineno + 1)
    code = [re.sub(r"(^|\s)(#|--) .*|^    version = \d+$", "", line) for line in lines]
    return re.sub(r"\s", "", "".join(code))


@pytest.mark.parametrize("projection", PROJECTIONS, ids=lambda projection: projection.name)
def test_a_changed_fold_has_a_new_version(projection: Projection) -> None:
    kept = json.loads(CONTRACT.read_text())
    now = {"version": projection.version, "sha256": fingerprint(projection)}
    before = kept.get(projection.name, {"version": 0, "sha256": ""})
    if now["sha256"] != before["sha256"]:
        assert projection.version > before["version"], "the fold changed: raise its version"
    assert now == before, f"write into {CONTRACT.name}: {json.dumps({projection.name: now})}"


def test_the_contract_names_the_projections_of_this_release() -> None:
    assert set(json.loads(CONTRACT.read_text())) == {projection.name for projection in PROJECTIONS}


def test_what_a_fold_shares_with_others_is_in_its_fingerprint() -> None:
    assert set(_shared(batch_balance)) >= {batch_balance, books, bulk, moves, past}
    assert _shared(shared_coupons) == [shared_coupons, moves]


def test_a_comment_docstring_or_import_changes_no_fingerprint() -> None:
    assert _code("from a import b\nx = b") == _code("from c.a import b\n\nx = b")
    assert _code('def f(x):\n    """Says."""\n    return x  # why') == _code('"""File."""\ndef f(x):\n    return x')
    assert _code("def f(x):\n    return x") != _code("def f(x):\n    return x + 1")


def test_which_rows_are_compared_changes_no_fingerprint() -> None:
    assert _code("class A:\n    ddl = 1\n    compared = (\n        2\n    )") == _code("class A:\n    ddl = 1")


def test_a_raised_version_alone_changes_no_fingerprint() -> None:
    """So a fold that changed and a version that rose can be told apart."""
    assert _code("class A:\n    version = 1\n    ddl = 1") == _code("class A:\n    version = 22\n    ddl = 1")


def test_every_event_of_a_coupon_is_folded() -> None:
    """A new coupon event must be given a meaning for the read models, or their rows are wrong."""
    assert {event.TOPIC for event in COUPON_EVENTS} == {topic for topic in EVENTS if topic.startswith("coupon.")}


def test_every_event_of_a_batch_is_folded_by_batch_balance() -> None:
    [balance] = [projection for projection in PROJECTIONS if projection.name == "batch_balance"]
    assert balance.topics >= {topic for topic in EVENTS if topic.startswith("batch.")}
