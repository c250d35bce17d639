"""The template: versioned terms of an offer."""

from __future__ import annotations

from typing import Any

from ledger.aggregate import Aggregate
from ledger.errors import InvalidField, TemplateNotFound, VersionConflict
from ledger.events import TemplateCreated, TemplateRevised
from ledger.request import Request
from ledger.terms import Terms


class Template(Aggregate):
    """Terms under a name. Its stream version is the version that batches and coupons pin."""

    category = "template"
    name: str
    terms: dict[str, Any]

    def create(self, request: Request, now: Any, *, name: str, terms: Terms) -> None:
        """Define the offer."""
        self.trigger(TemplateCreated, request, now, name=_checked_name(name), terms=terms.to_payload())

    def revise(self, request: Request, now: Any, *, name: str, terms: Terms, expected: int | None) -> None:
        """Change the terms for batches to come. Raises ``VersionConflict`` when somebody else did meanwhile."""
        if not self.version:
            raise TemplateNotFound(template_id=self.key)
        if expected not in (None, self.version):
            raise VersionConflict(expected=expected, version=self.version)
        self.trigger(TemplateRevised, request, now, name=_checked_name(name), terms=terms.to_payload())


def _checked_name(name: str) -> str:
    if not 1 <= len(name) <= 200 or not name.isprintable():
        raise InvalidField("name has 1 to 200 printable characters", field="name")
    return name
