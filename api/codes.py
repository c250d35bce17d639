"""Redemption codes: made, imported, handed over once, revoked, and exchanged for coupons."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice

from flask import Response, current_app
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from api import contract, coupon_answers
from api.access import caller, operation_name
from api.batches import ISSUE_REFUSALS
from api.code_bodies import CodesBody, CodeSet, CodesPath, ImportBody, RedeemCodeBody
from api.exchange import answer, answer_receipt, command, ledger, perform
from api.wire import BatchPath, Empty, NoQuery, ReasonBody
from ledger import code_jobs, errors, use_cases
from ledger.codes import CodeKeys, CodeList
from ledger.errors import InvalidField
from ledger.request import Request
from ledger.typed_codes import exchange
from ledger.work import Receipt

codes = APIBlueprint(
    "codes",
    __name__,
    url_prefix="/v1",
    abp_tags=[Tag(name="codes", description="Typed strings that are exchanged for coupons.")],
    operation_id_callback=operation_name,
)

CSV_LINES = 1_000
"""Codes of one piece of an export."""
MAKING = contract.write(
    201, CodeSet, errors.BatchNotFound, errors.BatchStateConflict, errors.InvalidQuantity, errors.InvalidField
)


def code_keys() -> CodeKeys:
    """The server's keys of codes."""
    found: CodeKeys = current_app.extensions["code_keys"]
    return found


def command_with_code() -> Request:
    """The envelope of a write whose body holds a code: its digest is kept, and tells a word only to who has the key.

    It is made with the oldest key, so that a repeat is known again when a newer one was put in front meanwhile. Raises
    ``Unavailable`` when there is none.
    """
    code_jobs.check_keys(code_keys())
    return command(code_keys().derived("body")[-1])


@codes.post("/batches/<batch_id>/codes", responses=MAKING)
def generate_codes(path: BatchPath, body: CodesBody) -> Response:
    """Make codes of a batch. A million take some seconds; the same request again goes on where it was cut off."""
    if body.count is not None:
        receipt = code_jobs.generate(ledger(), code_keys(), command_with_code(), path.batch_id, body.count)
    else:
        listed = code_jobs.generic_code(body.code or "")
        receipt = _imported(path.batch_id, listed, "generic", ["code"])
    return _made(receipt)


@codes.post("/batches/<batch_id>/code-imports", responses=MAKING)
def import_codes(path: BatchPath, body: ImportBody) -> Response:
    """Take over unique codes that were made elsewhere, all or none; what cannot be taken is named."""
    return _made(_imported(path.batch_id, CodeList.read(body.codes), "imported", ["codes"]))


@codes.get("/codes/<codes_id>", responses=contract.read(CodeSet, errors.CodesNotFound))
def get_codes(path: CodesPath, query: NoQuery) -> Response:  # noqa: ARG001
    """Read what is known of a set of codes; never the codes."""
    return answer(use_cases.codes_answer(code_jobs.owned_codes(ledger(), caller().merchant_id, path.codes_id)))


@codes.get(
    "/codes/<codes_id>/export",
    responses=contract.file("text/csv", errors.CodesNotFound, errors.CodesExported),
)
def get_codes_export(path: CodesPath, query: NoQuery) -> Response:  # noqa: ARG001
    """Read generated codes as CSV; one that broke may be asked for again, for 24 hours or until it is confirmed."""
    lines = code_jobs.export(ledger(), code_keys(), caller().merchant_id, path.codes_id)
    name = f'attachment; filename="codes-{path.codes_id}.csv"'
    return Response(_csv(lines), content_type="text/csv; charset=utf-8", headers={"Content-Disposition": name})


@codes.post(
    "/codes/<codes_id>/export-confirmations",
    responses=contract.write(200, CodeSet, errors.CodesNotFound, errors.CodesExported),
)
def confirm_code_export(path: CodesPath, body: Empty) -> Response:  # noqa: ARG001
    """Say that the exported codes arrived whole. From now on nobody can read them from the ledger."""
    return answer_receipt(code_jobs.confirm_export(ledger(), command(), path.codes_id))


@codes.post("/codes/<codes_id>/revocations", responses=contract.write(200, CodeSet, errors.CodesNotFound))
def revoke_codes(path: CodesPath, body: ReasonBody) -> Response:
    """End a set: none of its codes is exchanged any more; coupons that were, stay."""
    return perform(use_cases.revoke_codes(command(), path.codes_id, reason=body.reason))


@codes.post(
    "/codes/redemptions",
    responses=contract.write(
        201, coupon_answers.IssuedCoupon, errors.CodeNotFound, errors.CodeUsed, errors.TooManyMisses, *ISSUE_REFUSALS
    ),
)
def redeem_code(body: RedeemCodeBody) -> Response:
    """Exchange a code for a coupon."""
    receipt = exchange(
        ledger(),
        code_keys(),
        command_with_code(),
        body.code,
        body.user_id,
        facts=body.facts.to_facts(),
        address=body.client_address,
        to_staff=caller().role == "operator",
    )
    return answer_receipt(receipt, status=201, location="coupons/{coupon_id}")


def _imported(batch_id: str, listed: CodeList, kind: str, pointer: list[str]) -> Receipt:
    try:
        return code_jobs.import_codes(ledger(), code_keys(), command_with_code(), batch_id, listed, kind)
    except InvalidField as refusal:
        if "faults" in refusal.facts:
            places = [
                [*pointer, number - 1] if kind == "imported" else pointer for number, _ in refusal.facts["faults"]
            ]
            named = [
                {"pointer": "/" + "/".join(map(str, place)), "code": refusal.code(), "detail": f"the code {why}"}
                for place, (_, why) in zip(places, refusal.facts["faults"], strict=True)
            ]
            raise InvalidField(refusal.detail, errors=named) from None
        raise


def _made(receipt: Receipt) -> Response:
    return answer_receipt(receipt, status=201, location="codes/{codes_id}")


def _csv(lines: Iterator[str]) -> Iterator[str]:
    rows = chain(["code"], lines)
    while piece := list(islice(rows, CSV_LINES)):
        yield "\r\n".join(piece) + "\r\n"
