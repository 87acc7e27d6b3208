"""Every path answers in OpenAI's shape; models, traces, keys and health."""

from pathlib import Path
from typing import Any

import pytest

from schemas import codec, names
from schemas.failure import Failure
from schemas.telemetry import Trace, TraceQuery, TraceSpan
from services.gateway.keys import Keys
from shared.errors import Internal


async def call(stand: Any, method: str, path: str, **kwargs: Any) -> tuple[int, dict[str, Any], Any]:
    async with stand.http.request(method, f"{stand.url}{path}", **kwargs) as response:
        body = await response.json(content_type="application/json")
        return response.status, body.get("error", body), response.headers


@pytest.mark.parametrize(
    ("method", "path", "status", "kind"),
    [
        ("GET", "/", 404, "resource_not_found_error"),
        ("GET", "/v1/nothing", 404, "resource_not_found_error"),
        ("GET", "/v1/chat/completions", 405, "invalid_request_error"),
        ("PUT", "/v1/files", 405, "invalid_request_error"),
        ("GET", "/v1/files/file-0", 404, "resource_not_found_error"),
        ("GET", "/v1/files/..%2f..%2fx", 404, "resource_not_found_error"),
        ("DELETE", "/v1/files/file-0", 404, "resource_not_found_error"),
        ("GET", "/v1/models/none", 404, "resource_not_found_error"),
        ("GET", "/v1/traces/a%20b", 404, "resource_not_found_error"),
        ("GET", "/v1/traces/0", 503, "server_unavailable"),
        ("POST", "/v1/chat/completions", 400, "invalid_request_error"),
    ],
)
async def test_errors_have_one_shape(gateway: Any, method: str, path: str, status: int, kind: str) -> None:
    got, error, headers = await call(gateway, method, path)
    assert (got, error["type"]) == (status, kind)
    assert set(error) == {"type", "message", "code", "param"}
    assert headers["x-request-id"]
    assert (status == 405) == ("Allow" in headers)


async def test_a_body_that_is_too_large(make_gateway: Any) -> None:
    async with make_gateway(body_max_bytes=1000) as stand:
        for data in (b"x" * 1001, chunked(b"x" * 1001)):
            status, error, _ = await call(stand, "POST", "/v1/chat/completions", data=data)
            assert (status, error["code"]) == (413, "body_too_large")
            assert "/v1/files" in error["message"]


async def chunked(data: bytes) -> Any:
    yield data


async def test_a_failing_handler_says_nothing_of_the_inside(gateway: Any) -> None:
    gateway.broker.services.append(None)  # what no discovery returns
    status, error, _ = await call(gateway, "GET", "/v1/models")
    assert (status, error["type"], error["code"]) == (500, "server_error", "internal")


async def test_models_are_the_union_of_what_is_announced(make_gateway: Any) -> None:
    metadata = {
        "context_length": "4096",
        "capabilities": "text, image,video",
        "licence": "Apache-2.0",
        "random_weights": "true",
    }
    async with make_gateway(models=("b", "a", "a"), metadata=metadata) as stand:
        _, listed, _ = await call(stand, "GET", "/v1/models")
        assert [entry["id"] for entry in listed["data"]] == ["a", "b"]
        _, entry, _ = await call(stand, "GET", "/v1/models/a")
        assert entry == listed["data"][0]
        assert entry.pop("created") > 0
        assert entry == {
            "id": "a",
            "object": "model",
            "owned_by": "moontide",
            "context_length": 4096,
            "capabilities": ["text", "image", "video"],
            "licence": "Apache-2.0",
            "random_weights": True,
            "variant_of": None,
        }


async def test_ready_means_that_a_model_is_served(make_gateway: Any) -> None:
    async with make_gateway() as stand:
        assert (await call(stand, "GET", "/readyz"))[0] == 200
    async with make_gateway(models=()) as stand:
        assert (await call(stand, "GET", "/readyz"))[0] == 503
        assert (await call(stand, "GET", "/livez"))[0] == 200


async def test_keys_are_required_where_there_are_some(make_gateway: Any, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("right\n")
    async with make_gateway(keys_file=keys) as stand:
        for headers, code in (
            ({}, "missing_api_key"),
            ({"Authorization": "Basic right"}, "missing_api_key"),
            ({"Authorization": "Bearer wrong"}, "incorrect_api_key"),
        ):
            status, error, _ = await call(stand, "GET", "/v1/models", headers=headers)
            assert (status, error["code"]) == (401, code)
        status, _, _ = await call(stand, "GET", "/v1/models", headers={"Authorization": "Bearer right"})
        assert status == 200
        assert (await call(stand, "GET", "/livez"))[0] == 200


def test_a_keys_file_that_says_nothing_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("# none\n")
    for name in ("keys", "missing"):
        with pytest.raises(Internal):
            Keys.load(tmp_path / name)


async def test_a_trace_is_the_recorders_answer(gateway: Any) -> None:
    span = TraceSpan(
        span_id="b" * 16,
        parent_span_id="",
        name="chat",
        kind="server",
        service="gateway",
        instance="gateway-1",
        start_unix_nanoseconds=1,
        end_unix_nanoseconds=None,
        status="running",
    )

    async def answer(data: bytes) -> bytes:
        query = codec.decode(data, TraceQuery)
        if query.id == "known":
            return codec.encode(Trace(trace_id="a" * 32, spans=(span,)))
        return codec.encode(Failure(code="trace.not_found", message="no such trace", status=404))

    recorder = gateway.broker.bus("recorder")
    async with recorder.offer(names.SERVICE_RECORDER, {names.SUBJECT_TRACE_GET: answer}, version="1.0.0", metadata={}):
        status, trace, _ = await call(gateway, "GET", "/v1/traces/known")
        assert (status, trace["spans"][0]["name"]) == (200, "chat")
        status, error, _ = await call(gateway, "GET", "/v1/traces/unknown")
        assert (status, error["code"]) == (404, "trace.not_found")


async def test_the_port_file_says_where_and_goes_with_the_gateway(make_gateway: Any, tmp_path: Path) -> None:
    port_file = tmp_path / "port"
    async with make_gateway(port_file=port_file) as stand:
        assert stand.url.endswith(f":{port_file.read_text()}")
    assert not port_file.exists()
