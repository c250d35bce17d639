"""The template decides: its stories in memory."""

from __future__ import annotations

import pytest

from ledger.errors import TemplateNotFound
from ledger.request import Request
from ledger.template import Template
from tests.unit.batch_stories import TEMPLATE_STORIES
from tests.unit.specs import T0, TERMS, MemoryBackend, Story


@pytest.mark.parametrize("story", [pytest.param(story, id=story.name) for story in TEMPLATE_STORIES])
def test_story(story: Story) -> None:
    story.tell(MemoryBackend())


def test_a_template_that_was_never_created_is_not_revised() -> None:
    with pytest.raises(TemplateNotFound):
        Template("template-t").revise(Request("m", "a", "r"), T0, name="n", description="", terms=TERMS, expected=None)
