"""The documentation names every setting and every command, and none that does not exist."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from coupon_ledger.cli import COMMANDS, cli
from coupon_ledger.settings import Settings

ROOT = Path(__file__).parents[2]
OPERATE = (ROOT / "docs" / "operate.md").read_text("utf-8")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def variables() -> dict[str, tuple[str, str]]:
    """Environment variable to (default, meaning), as the settings class has it."""
    prefix = Settings.model_config["env_prefix"]
    found = {}
    for name, field in Settings.model_fields.items():
        variable = field.alias or field.validation_alias or f"{prefix}{name.upper()}"
        found[str(variable)] = (str(field.default or ""), field.description or "")
    return found


def commands(group: click.Group, words: tuple[str, ...] = ()) -> dict[str, click.Command]:
    """Every command by its full name."""
    found = {}
    for name, command in group.commands.items():
        path = (*words, name)
        if isinstance(command, click.Group):
            found |= commands(command, path)
        else:
            found[" ".join(path)] = command
    return found


def test_every_setting_is_in_the_table_with_its_default_and_meaning() -> None:
    rows = re.findall(r"^\| `([A-Z_]+)` \| (?:`([^`]*)`)? ?\| (.+) \|$", OPERATE, re.MULTILINE)
    assert {name: (default, meaning) for name, default, meaning in rows} == variables()


def test_every_command_is_described() -> None:
    text = " ".join(page.read_text("utf-8") for page in PAGES)
    for name in commands(cli):
        assert f"coupon-ledger {name}" in text, name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_the_docs_exist_with_their_options(page: Path) -> None:
    known = commands(cli)
    for line in re.findall(r"`?coupon-ledger ([a-z][^`\n|]*)", page.read_text("utf-8")):
        words = line.split()
        name = max((name for name in known if line.startswith(name)), key=len, default=None)
        assert name is not None or words[0] in COMMANDS, line
        if name is not None:
            options = {option for param in known[name].params for option in param.opts}
            for option in re.findall(r"--[a-z-]+", line):
                assert option in options, line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text("utf-8")):
        if not target.startswith("https://"):
            assert (page.parent / target).exists(), target
