"""``python -m schemas.generate [--check]``: JSON Schema of every message and an AsyncAPI document of every subject.

Input: the structs and ``channels``. Output: ``schemas/json/schemas.json`` and ``schemas/asyncapi.json``; with
``--check`` nothing is written, and the exit code is 1 when they are not current.
"""

import argparse
import importlib
import inspect
import json
import pkgutil
import sys
from pathlib import Path
from typing import Any

import msgspec

import schemas
from schemas.channels import Channel, Message, channels

HERE = Path(__file__).parent
SCHEMAS_FILE = "json/schemas.json"
ASYNCAPI_FILE = "asyncapi.json"
NOT_MESSAGES = frozenset({"generate", "channels", "names", "codec"})


def structs() -> list[type[msgspec.Struct]]:
    """Every struct that a module of this package defines, sorted by name."""
    found: dict[str, type[msgspec.Struct]] = {}
    for module in pkgutil.iter_modules(schemas.__path__, "schemas."):
        if module.name.rpartition(".")[2] in NOT_MESSAGES:
            continue
        for name, value in vars(importlib.import_module(module.name)).items():
            own = isinstance(value, type) and issubclass(value, msgspec.Struct) and value.__module__ == module.name
            if own and found.setdefault(name, value) is not value:
                raise ValueError(f"two messages are called {name}")
    return [found[name] for name in sorted(found)]


def json_schema() -> dict[str, Any]:
    """JSON Schema 2020-12. Bytes are base64 text there; on the wire they are msgpack binary."""
    _, components = msgspec.json.schema_components(structs())
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$defs": {name: _clean(schema) for name, schema in components.items()},
    }


def _clean(schema: Any) -> Any:
    """Descriptions without source indentation (Python 3.13 removes it by itself; the result must not depend on it)."""
    if isinstance(schema, dict):
        return {
            key: inspect.cleandoc(value) if key == "description" and isinstance(value, str) else _clean(value)
            for key, value in schema.items()
        }
    return [_clean(item) for item in schema] if isinstance(schema, list) else schema


def asyncapi() -> dict[str, Any]:
    """AsyncAPI 3.0: channels are subjects; replies come back on the subject that a request names."""
    table = channels()
    messages = {message.name: (message, channel) for channel in table for message in channel.messages + channel.replies}
    documents = {"channels": {}, "operations": {}}
    for channel in table:
        documents["channels"] |= _channels(channel)
        documents["operations"][channel.name] = _operation(channel)
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "moontide", "version": "1", "license": {"name": "Apache-2.0"}},
        "defaultContentType": "application/msgpack",
        **documents,
        "components": {"messages": {name: _message(*entry) for name, entry in messages.items()}},
    }


def _channels(channel: Channel) -> dict[str, Any]:
    described: dict[str, Any] = {
        "address": channel.address,
        "messages": _references(channel.messages, "#/components/messages"),
    }
    if channel.parameters:
        described["parameters"] = {name: {} for name in channel.parameters}
    if not channel.replies:
        return {channel.name: described}
    reply = {"address": None, "messages": _references(channel.replies, "#/components/messages")}
    return {channel.name: described, f"{channel.name}.reply": reply}


def _operation(channel: Channel) -> dict[str, Any]:
    operation: dict[str, Any] = {"action": "send", "channel": {"$ref": f"#/channels/{channel.name}"}}
    if channel.replies:
        operation["reply"] = {
            "address": {
                "location": "$message.header#/reply-to",
                "description": "the reply subject of the NATS request",
            },
            "channel": {"$ref": f"#/channels/{channel.name}.reply"},
        }
    return operation


def _references(messages: tuple[Message, ...], where: str) -> dict[str, Any]:
    return {message.name: {"$ref": f"{where}/{message.name}"} for message in messages}


def _message(message: Message, channel: Channel) -> dict[str, Any]:
    payload: dict[str, Any] = {"$ref": f"{SCHEMAS_FILE}#/$defs/{message.kind.__name__}"}
    if message.body:
        body = {"$ref": f"{SCHEMAS_FILE}#/$defs/{message.body.__name__}"}
        payload = {"allOf": [payload, {"properties": {"body": body}}]}
    return {"name": message.name, "contentType": channel.content_type, "payload": payload}


def documents() -> dict[str, str]:
    """File name relative to this folder → its text."""
    contents = {SCHEMAS_FILE: json_schema(), ASYNCAPI_FILE: asyncapi()}
    return {name: json.dumps(content, indent=1, sort_keys=True) + "\n" for name, content in contents.items()}


def stale() -> list[str]:
    """Names of the files that are missing or not current."""
    return [
        name
        for name, text in documents().items()
        if not (HERE / name).exists() or (HERE / name).read_text(encoding="utf-8") != text
    ]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m schemas.generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 when a file is not current")
    check = parser.parse_args().check
    for name in stale():
        print(f"schemas/{name} is not current" if check else f"schemas/{name} written")
        if check:
            continue
        (HERE / name).parent.mkdir(exist_ok=True)
        (HERE / name).write_text(documents()[name], encoding="utf-8")
    return 1 if check and stale() else 0


if __name__ == "__main__":
    sys.exit(main())
