"""Personal data: notes on users, encrypted with a key of each user's own, and its erasure."""

from __future__ import annotations

import uuid
from typing import Annotated, Literal

from flask import Response, current_app
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import AfterValidator, BaseModel, Field
from pydantic_core import PydanticCustomError

from api import contract
from api.access import caller, operation_name
from api.answers import Time
from api.exchange import answer, answer_receipt, command, ledger
from api.wire import Body, NoQuery, UserPath
from ledger import subjects
from ledger.aggregate import text_of
from ledger.personal_keys import PersonalKeys

personal_data = APIBlueprint(
    "personal_data",
    __name__,
    url_prefix="/v1",
    abp_tags=[Tag(name="personal data", description="Notes on users, and the erasure of what is kept of a user.")],
    operation_id_callback=operation_name,
)


def _lines(value: str) -> str:
    if not value.replace("\n", "").isprintable():
        raise PydanticCustomError("invalid_field", "printable characters and line breaks")
    return value


class NoteBody(Body):
    """What is to be kept of a user."""

    text: Annotated[
        str,
        AfterValidator(_lines),
        Field(
            min_length=1,
            max_length=subjects.NOTE_LIMIT,
            description="Printable characters and line breaks (line feeds).",
            json_schema_extra={"format": "printable"},
        ),
    ]


class NewNote(BaseModel):
    """A note that was just kept."""

    note_id: str
    user_id: str


class UserNote(BaseModel):
    """A note on a user."""

    note_id: str
    noted_at: Time
    actor: str
    state: Literal["readable", "sealed", "erased"] = Field(
        description="`sealed`: there, and not for this reader; `erased`: nobody can read it any more."
    )
    text: str | None = Field(description="Of a readable one.")
    ciphertext: str = Field(description="As the log has it, base64.")


class UserNotes(BaseModel):
    """All notes on a user, the oldest first."""

    user_id: str
    notes: list[UserNote]


class ErasedUser(BaseModel):
    """Whose personal data was erased, and when."""

    user_id: str
    erased_at: Time


def _keys() -> PersonalKeys:
    found: PersonalKeys = current_app.extensions["personal_keys"]
    return found


@personal_data.post(
    "/users/<callers_id:user_id>/notes",
    responses=contract.write(201, NewNote, subjects.NotesLimitReached),
)
def create_user_note(path: UserPath, body: NoteBody) -> Response:
    """Keep a note on a user, encrypted in the log with a key of the user's own, so that it can be erased."""
    return answer_receipt(subjects.note(ledger(), _keys(), command(), path.user_id, body.text), status=201)


@personal_data.get("/users/<callers_id:user_id>/notes", responses=contract.read(UserNotes))
def list_user_notes(path: UserPath, query: NoQuery) -> Response:  # noqa: ARG001
    """Read the notes on a user. An auditor sees that they are there, and not what they say."""
    found = caller()
    keys = _keys() if found.role == "operator" else None
    notes = subjects.notes(ledger(), keys, found.merchant_id, path.user_id)
    shown = [each._asdict() | {"noted_at": text_of(each.noted_at)} for each in notes]
    return answer({"user_id": path.user_id, "notes": shown})


@personal_data.delete("/users/<callers_id:user_id>/personal-data", responses=contract.read(ErasedUser))
def delete_personal_data(path: UserPath) -> Response:
    """Destroy the key of the user's notes, and erase the address, the messages and what waits to be sent.

    What is left is in docs/privacy.md. A repeat changes nothing.
    """
    found = caller()
    request_id = f" erase {uuid.uuid4().hex}"
    erased = subjects.erase(ledger(), found.merchant_id, f"key:{found.key_id}", path.user_id, request_id)
    return answer(erased.receipt.answer)
