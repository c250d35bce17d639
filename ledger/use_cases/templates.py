"""Use cases of templates: the offers and their terms."""

from __future__ import annotations

from ledger.aggregate import derived_id
from ledger.commit import Unit
from ledger.request import Request
from ledger.template import Template
from ledger.terms import Terms
from ledger.use_cases.checks import unit_of
from ledger.work import Loaded, Work


def create_template(request: Request, *, name: str, terms: Terms) -> Work:
    """Define an offer. Answers ``template_id`` and ``version``."""
    template_id = derived_id("template", request.merchant_id, request.request_id)
    stream = f"template-{template_id}"

    def decide(loaded: Loaded) -> Unit:
        template = Template(stream)
        template.create(request, loaded.now, name=name, terms=terms)
        return unit_of(request, {"template_id": template_id, "version": template.version}, template)

    return Work(request, (stream,), decide)


def revise_template(
    request: Request, template_id: str, *, name: str, terms: Terms, expected_version: int | None = None
) -> Work:
    """Give a template new terms for batches to come. Answers ``template_id`` and the new ``version``."""

    def decide(loaded: Loaded) -> Unit:
        template = loaded.template(template_id)
        template.revise(request, loaded.now, name=name, terms=terms, expected=expected_version)
        return unit_of(request, {"template_id": template_id, "version": template.version}, template)

    return Work(request, (f"template-{template_id}",), decide)
