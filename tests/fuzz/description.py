"""An OpenAPI 3.1 document as a judge: which operations there are, what their bodies and answers must look like.

Input: the document as it is served. Output: schemas that stand alone, and verdicts on real answers.
"""

import json
from typing import Any

import jsonschema

JSON, EVENTS = "application/json", "text/event-stream"


class Description:
    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document
        self._validators: dict[str, Any] = {}

    def operations(self) -> list[tuple[str, str]]:
        """(method, path)."""
        return [(method.upper(), path) for path, methods in self._document["paths"].items() for method in methods]

    def body_schema(self, method: str, path: str) -> dict[str, Any] | None:
        """Of a JSON body, with everything that it refers to."""
        content = self._operation(method, path).get("requestBody", {}).get("content", {})
        return self._whole(content[JSON]["schema"]) if JSON in content else None

    def check(self, method: str, path: str, status: int, body: bytes) -> None:
        """Raises ``jsonschema.ValidationError`` or ValueError when an answer is not what is described."""
        responses = self._operation(method, path)["responses"]
        content = responses.get(str(status), responses["default"]).get("content", {})
        if JSON in content:
            self._check(content[JSON]["schema"], body)

    def check_event(self, path: str, data: bytes, method: str = "POST") -> None:
        """One event of a stream. Raises as ``check``."""
        self._check(self._operation(method, path)["responses"]["200"]["content"][EVENTS]["schema"], data)

    def needs_body(self, method: str, path: str) -> bool:
        return self._operation(method, path).get("requestBody", {}).get("required", False)

    def is_open(self, method: str, path: str) -> bool:
        """Whether it needs no key."""
        return self._operation(method, path).get("security") == [{}]

    def accepts(self, method: str, path: str, body: Any) -> bool:
        """Whether a body fits its schema."""
        schema = self.body_schema(method, path)
        return schema is None or self._validator(schema).is_valid(body)

    def _operation(self, method: str, path: str) -> dict[str, Any]:
        return self._document["paths"][path][method.lower()]

    def _check(self, schema: dict[str, Any], body: bytes) -> None:
        self._validator(self._whole(schema)).validate(json.loads(body))

    def _whole(self, schema: dict[str, Any]) -> dict[str, Any]:
        return {**schema, "components": self._document["components"]}

    def _validator(self, schema: dict[str, Any]) -> Any:
        key = json.dumps({name: value for name, value in schema.items() if name != "components"})
        if key not in self._validators:
            self._validators[key] = jsonschema.Draft202012Validator(schema)
        return self._validators[key]
