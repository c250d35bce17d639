"""The template: versioned terms of an offer."""

from __future__ import annotations

from typing import Any

from ledger.aggregate import Aggregate
from ledger.errors import InvalidField, TemplateNotFound, VersionConflict
from ledger.events import TemplateCreated, TemplateRevised
from ledger.request import Request
from ledger.terms import Terms

DESCRIPTION_LIMIT = 2_000
"""Characters; line breaks, which are line feeds, count too."""


class Template(Aggregate):
    """Terms under a name. Its stream version is the version that batches and coupons pin."""

    category = "template"
    name: str
    description: str
    """What the offer is, for people; empty where nobody said."""
    terms: dict[str, Any]

    def create(self, request: Request, now: Any, *, name: str, description: str, terms: Terms) -> None:
        """Define the offer."""
        self.trigger(TemplateCreated, request, now, **_payload(name, description, terms))

    def revise(
        self, request: Request, now: Any, *, name: str, description: str, terms: Terms, expected: int | None
    ) -> None:
        """Change the terms for batches to come. Raises ``VersionConflict`` when somebody else did meanwhile."""
        if not self.version:
            raise TemplateNotFound(template_id=self.key)
        if expected not in (None, self.version):
            raise VersionConflict(expected=expected, version=self.version)
        self.trigger(TemplateRevised, request, now, **_payload(name, description, terms))


def _payload(name: str, description: str, terms: Terms) -> dict[str, Any]:
    if not 1 <= len(name) <= 200 or not name.isprintable():
        raise InvalidField("name has 1 to 200 printable characters", field="name")
    if len(description) > DESCRIPTION_LIMIT or not description.replace("\n", "").isprintable():
        detail = f"description has at most {DESCRIPTION_LIMIT} printable characters and line breaks"
        raise InvalidField(detail, field="description")
    return {"name": name, "description": description, "terms": terms.to_payload()}
