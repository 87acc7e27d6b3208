"""The ``count.<model>`` call: how many prompt tokens a chat would have, by making its prompt.

Input: ``CountRequest``. Output: one ``TokensCounted``. Knows nothing of answers.
"""

from dataclasses import dataclass

import msgspec

from schemas.chat import CountRequest, TokensCounted
from schemas.request import RequestContext
from schemas.telemetry import ATTR_MODEL, ATTR_OPERATION, SPAN_COUNT
from services.tokenizer.prompts import PromptDesk
from shared.calls.interface import CallWriter
from shared.telemetry.request import request_attributes
from shared.telemetry.tracing import Telemetry


@dataclass(frozen=True)
class CountHandler:
    desk: PromptDesk
    telemetry: Telemetry

    def check(self, context: RequestContext, request: CountRequest) -> None:
        self.desk.check(request.chat)

    async def __call__(self, context: RequestContext, request: CountRequest, out: CallWriter) -> None:
        attributes = request_attributes(context) | {ATTR_MODEL: self.desk.model, ATTR_OPERATION: "count"}
        with self.telemetry.span(SPAN_COUNT, parent=context.traceparent, kind="server", attributes=attributes) as span:
            inside = msgspec.structs.replace(context, traceparent=span.traceparent)
            prompt = (await self.desk.prepare(request.chat, inside)).prompt
            await out.send(TokensCounted(prompt_tokens=len(prompt.ids), media_tokens=prompt.media_tokens))
