"""OpenAPI 3.1 of the gateway, generated from the structs that its handlers read and write.

Output: one JSON document. A test compares its paths with the routes that are served, and real answers with its schemas.
"""

import inspect
from dataclasses import dataclass
from typing import Any

import msgspec

from schemas.media import MediaManifest
from schemas.telemetry import Trace
from services.gateway.answer_body import Chunk, Completion
from services.gateway.chat_body import RAW_FIELDS, ChatBody
from services.gateway.error_body import ErrorBody
from services.gateway.files import PURPOSES, FileDeleted, FileList, FileObject
from services.gateway.health import Alive, Ready
from services.gateway.models import ModelEntry, ModelList
from services.gateway.run_body import ApprovalBody, ForkBody, ReasonBody, RunBody, SteerBody
from services.gateway.run_event_body import LedgerEventBody, StreamedEvent
from services.gateway.run_view import CommandObject, RunFileList, RunList, RunObject
from services.gateway.token_count import TokenEstimate
from services.gateway.usage_handlers import UsageList

VERSION = "1"
REF = "#/components/schemas/{name}"
DIGEST = r"^sha256/[0-9a-f]{64}$"

JSON, BYTES, JPEG, EVENTS = "application/json", "application/octet-stream", "image/jpeg", "text/event-stream"


@dataclass(frozen=True)
class Operation:
    """``answers``: what a 200 holds, by content type; a struct, or None for bytes. ``form``: of an upload."""

    method: str
    path: str
    name: str
    summary: str
    answers: dict[str, Any]
    body: Any = None
    form: dict[str, Any] | None = None
    query: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    open: bool = False
    optional: bool = False
    """The body may be empty."""
    nothing: str = ""
    """When it answers 204."""


UPLOAD = {
    "type": "object",
    "required": ["purpose", "file"],
    "properties": {
        "purpose": {"type": "string", "enum": list(PURPOSES)},
        "file": {"type": "string", "contentMediaType": BYTES},
    },
}

KEYED = ("Idempotency-Key",)
"""The same key with the same body is the same run, or the same command; of chats, agents' only."""

OPERATIONS = (
    Operation(
        method="post",
        path="/v1/chat/completions",
        name="createChatCompletion",
        summary="A chat, streamed or not. An event of the stream holds a Chunk; the last one is [DONE].",
        body=ChatBody,
        answers={JSON: Completion, EVENTS: Chunk},
        headers=KEYED,
    ),
    Operation(
        method="post",
        path="/v1/tokenizers/estimate-token-count",
        name="estimateTokenCount",
        summary="The prompt tokens that a chat would have, exactly.",
        body=ChatBody,
        answers={JSON: TokenEstimate},
    ),
    Operation("get", "/v1/models", "listModels", "What is served, variants included.", {JSON: ModelList}),
    Operation("get", "/v1/models/{id}", "getModel", "One model.", {JSON: ModelEntry}),
    Operation("post", "/v1/files", "createFile", "Upload a file.", {JSON: FileObject}, form=UPLOAD),
    Operation("get", "/v1/files", "listFiles", "Own files.", {JSON: FileList}, query=("purpose",)),
    Operation("get", "/v1/files/{id}", "getFile", "One file.", {JSON: FileObject}),
    Operation("get", "/v1/files/{id}/content", "getFileContent", "The bytes of a file.", {BYTES: None}),
    Operation("delete", "/v1/files/{id}", "deleteFile", "Delete a file.", {JSON: FileDeleted}),
    Operation("get", "/v1/media/{manifest}", "getManifest", "What the model saw of an input.", {JSON: MediaManifest}),
    Operation("get", "/v1/media/{manifest}/frames/{position}.jpg", "getFrame", "One frame of it.", {JPEG: None}),
    Operation("get", "/v1/media/{manifest}/contact-sheet.jpg", "getSheet", "Its frames on one sheet.", {JPEG: None}),
    Operation("post", "/v1/runs", "createRun", "Begin a durable run.", {JSON: RunObject}, body=RunBody, headers=KEYED),
    Operation(
        "get", "/v1/runs", "listRuns", "Runs, newest first.", {JSON: RunList}, query=("limit", "after", "status")
    ),
    Operation("get", "/v1/runs/{id}", "getRun", "One run.", {JSON: RunObject}),
    Operation(
        method="get",
        path="/v1/runs/{id}/events",
        name="followRun",
        summary="Everything that happened, then what happens, until the run ends. Last-Event-ID resumes.",
        answers={EVENTS: StreamedEvent},
        query=("after",),
        headers=("Last-Event-ID",),
        nothing="The run has ended, and the reader has all of it.",
    ),
    Operation("get", "/v1/runs/{id}/events/{event}", "getRunEvent", "One event, whole.", {JSON: LedgerEventBody}),
    Operation(
        "post",
        "/v1/runs/{id}/messages",
        "steerRun",
        "Say something.",
        {JSON: CommandObject},
        body=SteerBody,
        headers=KEYED,
    ),
    Operation(
        "post",
        "/v1/runs/{id}/stop",
        "stopRun",
        "End it.",
        {JSON: CommandObject},
        body=ReasonBody,
        optional=True,
        headers=KEYED,
    ),
    Operation(
        "post",
        "/v1/runs/{id}/pause",
        "pauseRun",
        "Hold.",
        {JSON: CommandObject},
        body=ReasonBody,
        optional=True,
        headers=KEYED,
    ),
    Operation(
        "post",
        "/v1/runs/{id}/resume",
        "resumeRun",
        "Go on.",
        {JSON: CommandObject},
        body=ReasonBody,
        optional=True,
        headers=KEYED,
    ),
    Operation(
        method="post",
        path="/v1/runs/{id}/approvals/{call_id}",
        name="decideCall",
        summary="Approve or deny a call that waits for it.",
        body=ApprovalBody,
        answers={JSON: CommandObject},
        headers=KEYED,
    ),
    Operation(
        "post", "/v1/runs/{id}/fork", "forkRun", "Go on differently.", {JSON: RunObject}, body=ForkBody, headers=KEYED
    ),
    Operation("get", "/v1/runs/{id}/files", "listRunFiles", "Outputs and workspace.", {JSON: RunFileList}),
    Operation("get", "/v1/runs/{id}/files/{name}", "getRunFile", "The bytes of one of them.", {BYTES: None}),
    Operation("get", "/v1/traces/{id}", "getTrace", "The spans of a request.", {JSON: Trace}),
    Operation("get", "/v1/usage", "listUsage", "Tokens by day and key.", {JSON: UsageList}, query=("from", "to")),
    Operation("get", "/livez", "livez", "Alive.", {JSON: Alive}, open=True),
    Operation("get", "/readyz", "readyz", "The bus answers and a model is served.", {JSON: Ready}, open=True),
    Operation("get", "/openapi.json", "openapi", "This document.", {JSON: dict[str, Any]}, open=True),
)
RATE_LIMIT_HEADERS = {
    name: {"description": meaning, "schema": {"type": "integer", "minimum": 0}}
    for name, meaning in (
        ("Retry-After", "Seconds until trying again can help."),
        ("X-RateLimit-Limit", "How much there is of what ran out."),
        ("X-RateLimit-Remaining", "How much of it is left."),
        ("X-RateLimit-Reset", "Seconds until all of it is free again."),
    )
}
PARAMETERS = {
    "id": {"type": "string"},
    "event": {"type": "string"},
    "call_id": {"type": "string"},
    "name": {"type": "string"},
    "manifest": {"type": "string", "pattern": DIGEST},
    "position": {"type": "integer", "minimum": 0, "maximum": 999999},
}


def document() -> dict[str, Any]:
    """JSON-ready; schemas are JSON Schema 2020-12, as OpenAPI 3.1 has them."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": "moontide gateway", "version": VERSION},
        "paths": paths,
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"key": []}],
    }


def _operation(operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "responses": {
            "200": {
                "description": "As asked.",
                "content": {kind: _content(answer) for kind, answer in operation.answers.items()},
            },
            **({} if operation.open else _identity_refusals(operation)),
            "default": {"description": "A refusal or a failure.", "content": {JSON: _content(ErrorBody)}},
        },
    }
    if parameters := _parameters(operation):
        described["parameters"] = parameters
    if operation.body is not None:
        described["requestBody"] = {"required": not operation.optional, "content": {JSON: _content(operation.body)}}
    if operation.nothing:
        described["responses"]["204"] = {"description": operation.nothing}
    if operation.form is not None:
        described["requestBody"] = {"required": True, "content": {"multipart/form-data": {"schema": operation.form}}}
    return described | ({"security": [{}]} if operation.open else {})


def _identity_refusals(operation: Operation) -> dict[str, Any]:
    """What whoever lacks a key, a right or a quota hears."""
    content = {JSON: _content(ErrorBody)}
    found: dict[str, Any] = {
        "401": {"description": "No key, or one that is not known, revoked or expired.", "content": content},
        "403": {"description": "The key is known, and its tenant suspended.", "content": content},
    }
    if operation.method == "post":
        description = "A quota of the key or its tenant is used up (rate_limit_reached_error), or we are full."
        found["429"] = {"description": description, "content": content, "headers": RATE_LIMIT_HEADERS}
    return found


def _parameters(operation: Operation) -> list[dict[str, Any]]:
    names = [name for name in PARAMETERS if f"{{{name}}}" in operation.path]
    inside = [{"name": name, "in": "path", "required": True, "schema": PARAMETERS[name]} for name in names]
    outside = [("query", name) for name in operation.query] + [("header", name) for name in operation.headers]
    return inside + [{"name": name, "in": place, "schema": {"type": "string"}} for place, name in outside]


def _content(answer: Any) -> dict[str, Any]:
    """``{}`` for bytes: OpenAPI 3.1 has no schema for them."""
    return {} if answer is None else {"schema": _reference(answer)}


def _reference(kind: Any) -> dict[str, Any]:
    (schema,), _ = msgspec.json.schema_components([kind], ref_template=REF)
    return schema


def _schemas() -> dict[str, Any]:
    kinds = [kind for operation in OPERATIONS for kind in (operation.body, *operation.answers.values()) if kind]
    raw, components = msgspec.json.schema_components([*RAW_FIELDS.values(), *kinds, ErrorBody], ref_template=REF)
    # These fields are kept as bytes, so msgspec cannot know what they hold.
    properties = components[ChatBody.__name__]["properties"]
    for name, schema in zip(RAW_FIELDS, raw, strict=False):
        properties[name] = schema | {"default": None}
    return {name: _clean(components[name]) for name in sorted(components)}


def _clean(schema: Any) -> Any:
    """Descriptions without source indentation."""
    if isinstance(schema, dict):
        return {
            key: inspect.cleandoc(value) if key == "description" and isinstance(value, str) else _clean(value)
            for key, value in schema.items()
        }
    return [_clean(item) for item in schema] if isinstance(schema, list) else schema
