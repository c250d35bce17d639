"""Use cases of templates: the offers and their terms."""

from __future__ import annotations

from ledger.aggregate import derived_id
from ledger.commit import Unit
from ledger.linter import checked, lint
from ledger.request import Request
from ledger.template import Template
from ledger.terms import Terms
from ledger.use_cases.checks import unit_of
from ledger.work import Loaded, Work


def create_template(
    request: Request, *, name: str, terms: Terms, description: str = "", accept_risk: bool = False
) -> Work:
    """Define an offer. Answers ``template_id``, ``version``, and ``warnings`` of the linter.

    Refused with ``RiskyTerms`` when it finds what nobody can mean, unless the caller accepts the risk.
    """
    template_id = derived_id("template", request.merchant_id, request.request_id)
    stream = f"template-{template_id}"

    def decide(loaded: Loaded) -> Unit:
        warnings = checked(lint(terms, None, loaded.now), accept_risk)
        template = Template(stream)
        template.create(request, loaded.now, name=name, description=description, terms=terms)
        answer = {"template_id": template_id, "version": template.version, "warnings": warnings}
        return unit_of(request, answer, template)

    return Work(request, (stream,), decide)


def revise_template(
    request: Request,
    template_id: str,
    *,
    name: str,
    terms: Terms,
    description: str = "",
    expected_version: int | None = None,
    accept_risk: bool = False,
) -> Work:
    """Give a template new terms for batches to come. Answers as ``create_template`` does, with the new ``version``."""

    def decide(loaded: Loaded) -> Unit:
        template = loaded.template(template_id)
        warnings = checked(lint(terms, None, loaded.now), accept_risk)
        template.revise(request, loaded.now, name=name, description=description, terms=terms, expected=expected_version)
        answer = {"template_id": template_id, "version": template.version, "warnings": warnings}
        return unit_of(request, answer, template)

    return Work(request, (f"template-{template_id}",), decide)
