"""The generated documents are current and cover every message and every subject."""

import inspect
import json
from typing import get_args

import msgspec

from schemas import names
from schemas.channels import channels
from schemas.generate import HERE, asyncapi, json_schema, stale, structs
from schemas.runs import RunCommandBody, RunEvent

NOT_SUBJECTS = {"slug", "token", "ledger_partition", "ledger_stream", "ledger_all"}
INSIDE_OTHERS = {kind.__name__ for kind in get_args(RunEvent) + get_args(RunCommandBody)} | {
    "TextPart",
    "MediaPart",
    "MediaManifest",
    "WorkspaceTree",
}
"""Tagged, but parts of a message or kept as a blob."""


def test_documents_are_current() -> None:
    assert not stale(), "run python -m schemas.generate"


def test_every_message_has_a_schema() -> None:
    assert {kind.__name__ for kind in structs()} == set(json_schema()["$defs"])


def test_every_subject_has_a_channel() -> None:
    functions = {name for name, value in vars(names).items() if inspect.isfunction(value)} - NOT_SUBJECTS
    constants = {name for name in vars(names) if name.startswith("SUBJECT_")}
    assert {channel.name for channel in channels()} == functions | constants


def test_every_parameter_of_a_subject_is_in_its_address() -> None:
    for channel in channels():
        function = getattr(names, channel.name)
        parameters = tuple(inspect.signature(function).parameters) if inspect.isfunction(function) else ()
        assert channel.parameters in (parameters, ("model",))
        assert all(f"{{{name}}}" in channel.address for name in channel.parameters)


def test_every_tagged_message_has_a_channel() -> None:
    sent: set[type[msgspec.Struct]] = set()
    for channel in channels():
        for message in channel.messages + channel.replies:
            sent |= {message.kind, message.body or message.kind}
    tagged = {kind.__name__ for kind in structs() if kind.__struct_config__.tag}
    assert tagged - {kind.__name__ for kind in sent} <= INSIDE_OTHERS


def test_every_reference_leads_somewhere() -> None:
    document = asyncapi()
    schema = json.loads((HERE / "json/schemas.json").read_text(encoding="utf-8"))
    for reference in _references(document):
        file, _, pointer = reference.partition("#/")
        target = schema if file else document
        for key in pointer.split("/"):
            target = target[key]


def _references(value: object) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if "$ref" in value else []
        return own + [reference for item in value.values() for reference in _references(item)]
    return [reference for item in value for reference in _references(item)] if isinstance(value, list) else []
