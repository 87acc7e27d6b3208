"""A tool call of the ledger as the job that asks for it. Pure.

Input: an open call and the situation of its run. Output: a ``ToolJob``, equal however often it is made: a call that
writes the workspace gets it as the writers before it left it, any other as it was when the model made the call.
"""

from schemas.tools import ToolJob
from services.coordinator.catalogue import PATCH
from services.coordinator.request import call_context
from services.coordinator.step import Situation
from shared.ledger.machine import OpenCall


def job_of(call: OpenCall, now: Situation, traceparent: str) -> ToolJob:
    state, trail = now.state, now.trail
    latest = call.tool == PATCH or now.limits.catalogue.writes(call.tool)
    workspace = state.workspace if latest else trail.workspace
    return ToolJob(
        call_id=call.call_id,
        context=call_context(now, traceparent),
        run_id=state.run_id,
        tool=call.tool,
        arguments=call.arguments,
        workspace=workspace,
        session=state.session if latest else trail.session,
        repository=state.spec.repository if workspace is None or call.tool == PATCH else None,
    )
