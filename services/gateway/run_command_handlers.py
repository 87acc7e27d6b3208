"""HTTP handlers of what is said to a run: steer, stop, pause, resume, approve.

Input: requests whose principal is known. Output: the id of a stored command, which a coordinator takes. A command sent
twice with one ``Idempotency-Key`` is one command.
"""

import hashlib
import secrets

from aiohttp import web

from schemas.request import Principal
from schemas.runs import DecideTool, PauseRun, ResumeRun, RunCommand, RunCommandBody, SteerRun, StopRun
from services.gateway.error_body import json_response
from services.gateway.identity import PRINCIPAL
from services.gateway.json_body import decode_body
from services.gateway.request_body import RequestBodies
from services.gateway.run_body import ApprovalBody, ReasonBody, SteerBody
from services.gateway.run_id import checked_run_id
from services.gateway.run_request import RunRequests
from services.gateway.run_starts import IDEMPOTENCY_KEY
from services.gateway.run_view import CommandObject
from services.gateway.runs import Runs
from shared.errors import NotFound


class RunCommandHandlers:
    def __init__(self, bodies: RequestBodies, requests: RunRequests, runs: Runs) -> None:
        self._bodies = bodies
        self._requests = requests
        self._runs = runs

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/v1/runs/{id}/messages", self.steer),
            web.post("/v1/runs/{id}/stop", self.stop),
            web.post("/v1/runs/{id}/pause", self.pause),
            web.post("/v1/runs/{id}/resume", self.resume),
            web.post("/v1/runs/{id}/approvals/{call_id}", self.approve),
        ]

    async def steer(self, request: web.Request) -> web.Response:
        """``POST /v1/runs/{id}/messages``."""
        run_id, principal = checked_run_id(request.match_info["id"]), request[PRINCIPAL]
        async with self._bodies.read(request) as data:
            body: SteerBody = decode_body(data, SteerBody)
            await self._runs.get(principal, run_id)
            message = await self._requests.message(body.content, "content", principal)
        return await self._store(request, SteerRun(message=message, interrupt=body.interrupt))

    async def stop(self, request: web.Request) -> web.Response:
        return await self._store(request, StopRun(reason=await self._reason(request)))

    async def pause(self, request: web.Request) -> web.Response:
        return await self._store(request, PauseRun(reason=await self._reason(request)))

    async def resume(self, request: web.Request) -> web.Response:
        return await self._store(request, ResumeRun(reason=await self._reason(request)))

    async def approve(self, request: web.Request) -> web.Response:
        """``POST /v1/runs/{id}/approvals/{call_id}``: of a call that waits for one."""
        run_id, call_id = checked_run_id(request.match_info["id"]), request.match_info["call_id"]
        async with self._bodies.read(request) as data:
            body: ApprovalBody = decode_body(data, ApprovalBody)
        summary = await self._runs.get(request[PRINCIPAL], run_id)
        if call_id not in {pending.call_id for pending in summary.approvals}:
            raise NotFound("run.approval_not_found", "no such call waits for a decision", param="call_id")
        return await self._store(request, DecideTool(call_id=call_id, approved=body.approved, note=body.note))

    async def _reason(self, request: web.Request) -> str:
        """An empty body is one without a reason."""
        async with self._bodies.read(request) as data:
            body: ReasonBody = decode_body(data or b"{}", ReasonBody)
        return body.reason

    async def _store(self, request: web.Request, body: RunCommandBody) -> web.Response:
        run_id, principal = checked_run_id(request.match_info["id"]), request[PRINCIPAL]
        command_id = command_id_of(principal, run_id, request.headers.get(IDEMPOTENCY_KEY))
        command = RunCommand(command_id=command_id, run_id=run_id, principal=principal, body=body)
        stored = await self._runs.command(command)
        return json_response(CommandObject(id=stored.command_id, run_id=run_id))


def command_id_of(principal: Principal, run_id: str, key: str | None) -> str:
    """New, or always the same for one key."""
    if key is None:
        return f"cmd-{secrets.token_hex(16)}"
    whole = "\0".join((principal.tenant, principal.key_id, run_id, key))
    return f"cmd-{hashlib.sha256(whole.encode()).hexdigest()[:32]}"
