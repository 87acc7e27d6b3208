"""The description says what is served: every route and no other, schemas that are some, and answers that fit them."""

import json
from typing import Any

import jsonschema
import pytest

from schemas.chat import ChatDelta, ChatFinished, ToolCallDelta, Usage
from services.gateway.openapi import OPERATIONS, document
from tests.fuzz.description import Description

CALLS = (
    ChatDelta(reasoning="hm"),
    ChatDelta(content="I look.", tool_calls=(ToolCallDelta(index=0, id="functions.f:0", name="f", arguments="{}"),)),
    ChatFinished(finish_reason="tool_calls", usage=Usage(prompt_tokens=1, completion_tokens=9)),
)
TOOLS = [{"type": "function", "function": {"name": "f"}}]


@pytest.fixture
async def description(gateway: Any) -> Description:
    response = await gateway.http.get(f"{gateway.url}/openapi.json")
    assert response.content_type == "application/json"
    return Description(json.loads(await response.read()))


def test_every_schema_is_one() -> None:
    described = document()
    assert described["openapi"] == "3.1.0"
    for schema in described["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    names = [operation.name for operation in OPERATIONS]
    assert len(names) == len(set(names))


def test_references_lead_somewhere() -> None:
    text = json.dumps(document())
    schemas = document()["components"]["schemas"]
    for part in text.split('"$ref": "')[1:]:
        assert part.split('"')[0].removeprefix("#/components/schemas/") in schemas


def test_what_may_be_sent_twice_says_with_which_header() -> None:
    """Every POST about runs takes a key; their events say where to resume."""
    for path, methods in document()["paths"].items():
        for method, described in methods.items():
            headers = {one["name"] for one in described.get("parameters", ()) if one["in"] == "header"}
            keyed = method == "post" and (path.startswith("/v1/runs") or path == "/v1/chat/completions")
            assert ("Idempotency-Key" in headers) == keyed, path
            assert ("Last-Event-ID" in headers) == (path == "/v1/runs/{id}/events")


async def test_what_is_described_is_served(gateway: Any, description: Description) -> None:
    """A path that is not served is answered with the code ``not_found``, a method with ``method_not_allowed``."""
    for method, path in description.operations():
        filled = path.format(id="x", manifest="sha256/" + "0" * 64, position=1, event="1", call_id="x", name="x")
        response = await gateway.http.request(method, gateway.url + filled, data=b"")
        code = (await response.json())["error"]["code"] if response.status >= 400 else ""
        assert code not in ("not_found", "method_not_allowed"), (method, path)


def test_what_is_served_is_described(routes: set[tuple[str, str]]) -> None:
    assert routes == set(Description(document()).operations())


@pytest.mark.parametrize("fields", [{}, {"tools": TOOLS}, {"n": 2}])
async def test_answers_fit_their_schemas(make_gateway: Any, fields: dict[str, Any]) -> None:
    described = Description(document())
    async with make_gateway(script=CALLS) as stand:
        whole = await stand.chat(**fields)
        described.check("POST", "/v1/chat/completions", whole.status, await whole.read())
        stream = await stand.chat(**fields, stream=True, stream_options={"include_usage": True})
        for event in (await stream.text()).split("\n\n"):
            if event.startswith("data: {"):
                described.check_event("/v1/chat/completions", event.removeprefix("data: ").encode())
        for path in ("/v1/models", "/v1/files", "/livez", "/readyz", "/openapi.json"):
            response = await stand.http.get(stand.url + path)
            described.check("GET", path, response.status, await response.read())
        missing = await stand.http.get(f"{stand.url}/v1/models/none")
        described.check("GET", "/v1/models/{id}", missing.status, await missing.read())


def test_an_answer_that_does_not_fit_is_found() -> None:
    described = Description(document())
    with pytest.raises(jsonschema.ValidationError):
        described.check("GET", "/v1/models", 200, b'{"object": "list", "data": [{}]}')
    with pytest.raises(jsonschema.ValidationError):
        described.check("GET", "/v1/models", 500, b'{"detail": "no"}')
