"""Templates: the versioned terms of an offer."""

from __future__ import annotations

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from api import answers, contract, cursors, problems
from api.access import caller, operation_name
from api.exchange import answer, command, expected_version, ledger, owned_history, perform
from api.template_bodies import TemplateBody
from api.wire import NoQuery, PageQuery, TemplatePath
from ledger import errors, use_cases
from ledger.aggregate import text_of
from ledger.template import Template
from ledger.work import fold
from projections import listings

templates = APIBlueprint(
    "templates",
    __name__,
    url_prefix="/v1",
    abp_tags=[Tag(name="templates", description="The versioned terms of an offer.")],
    operation_id_callback=operation_name,
)


@templates.post("/templates", responses=contract.write(201, answers.TemplateVersion, errors.RiskyTerms))
def create_template(body: TemplateBody) -> Response:
    """Define an offer."""
    work = use_cases.create_template(
        command(),
        name=body.name,
        description=body.description,
        terms=body.terms.to_terms(),
        accept_risk=body.accept_risk,
    )
    return perform(work, status=201, location="templates/{template_id}")


@templates.get("/templates", responses=contract.read(answers.Templates, problems.BadCursor))
def list_templates(query: PageQuery) -> Response:
    """Read which templates there are, in the order of their ids."""
    name = "templates"
    after = cursors.unseal(name, query.cursor)[0] if query.cursor else ""
    with ledger().store.connection() as connection:
        found = listings.templates(connection, caller().merchant_id, after=after, limit=query.limit + 1)
    page = found[: query.limit]
    shown = [
        {
            "template_id": row.template_id,
            "version": row.version,
            "name": row.name,
            "created_at": text_of(row.created_at),
            "revised_at": text_of(row.revised_at),
        }
        for row in page
    ]
    more = cursors.seal(name, [page[-1].template_id]) if len(found) > len(page) else None
    return answer({"templates": shown, "next_cursor": more})


@templates.get("/templates/<template_id>", responses=contract.read(answers.Template, errors.TemplateNotFound))
def get_template(path: TemplatePath, query: NoQuery) -> Response:  # noqa: ARG001
    """Read a template's newest version."""
    history = owned_history("template", path.template_id, errors.TemplateNotFound)
    template = fold(Template(f"template-{path.template_id}"), [recorded.event for recorded in history])
    found = {
        "template_id": template.key,
        "version": template.version,
        "name": template.name,
        "description": template.description,
        "terms": template.terms,
    }
    return answer(found, version=template.version)


@templates.post(
    "/templates/<template_id>/revisions",
    responses=contract.write(
        201, answers.TemplateVersion, errors.TemplateNotFound, errors.RiskyTerms, errors.VersionConflict
    ),
)
def revise_template(path: TemplatePath, body: TemplateBody) -> Response:
    """Give a template new terms, for batches to come; issued coupons keep the version that they pinned."""
    work = use_cases.revise_template(
        command(),
        path.template_id,
        name=body.name,
        description=body.description,
        terms=body.terms.to_terms(),
        expected_version=expected_version(),
        accept_risk=body.accept_risk,
    )
    return perform(work, status=201, location="templates/{template_id}")
