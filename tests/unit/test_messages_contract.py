"""The published JSON Schemas are those of the models, and say of samples what the models say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from consumers.contracts import schemas, text_of
from consumers.payloads import PAYLOADS
from tests.unit.test_messages import LIFE

FOLDER = Path(__file__).parents[2] / "docs" / "contracts"


def test_the_files_are_those_of_the_models() -> None:
    """After a lawful change (an addition) run ``python -m consumers.contracts docs/contracts``."""
    files = {file.name: file.read_text() for file in FOLDER.glob("*.v?.json")}
    assert files == {f"{kind}.json": text_of(schema) for kind, schema in schemas().items()}


@pytest.mark.parametrize("kind", PAYLOADS)
def test_schema_and_model_agree_on_samples(kind: str) -> None:
    schema = json.loads((FOLDER / f"{kind}.json").read_text())
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    good = {"merchant_id": "m-1", **LIFE[kind]}
    samples = [good, good | {"added_later": 1}, good | {"merchant_id": " m"}, good | {"merchant_id": 1}]
    samples += [{name: value for name, value in good.items() if name != left_out} for left_out in good]
    samples += [good | {name: -1} for name in good]
    verdicts = [_model_takes(kind, sample) for sample in samples]
    assert [validator.is_valid(sample) for sample in samples] == verdicts
    assert verdicts[:4] == [True, True, False, False]


def _model_takes(kind: str, sample: dict[str, Any]) -> bool:
    try:
        PAYLOADS[kind].model_validate_json(json.dumps(sample))
    except ValidationError:
        return False
    return True
