"""From a request body to an answer whose tool calls hold what their schemas promise.

Input: the request, its tools, an ``Answer`` that streams text on. Output: the checked calls and the usage of all
requests it took. Endpoints lose or garble streamed tool calls: where that is known or was seen, requests with tools
go unstreamed. One repair is asked for. It must not know HTTP or media.
"""

from dataclasses import dataclass
from typing import Any

from schemas.chat import FinishReason, ToolCall, Usage
from schemas.request import RequestContext
from services.upstream.answer import Answer
from services.upstream.config import ToolsMode
from services.upstream.exchange import Exchange
from services.upstream.resume import Delivered
from services.upstream.tools import ToolTable, repair_messages
from services.upstream.translate import encode_request
from shared.clock import Clock
from shared.errors import Unavailable

LOSING_ENGINES = frozenset(("vllm", "sglang", "ktransformers"))
"""``owned_by`` of engines whose streamed tool calls were seen empty while the same request unstreamed was right
(vllm-project/vllm issues 54701 and 55082)."""


@dataclass
class ToolStreaming:
    """Whether requests with tools may stream. Learns from what an endpoint does."""

    mode: ToolsMode
    engine: str = ""
    seen_garbled: bool = False

    @property
    def allowed(self) -> bool:
        if self.mode == "auto":
            return not self.seen_garbled and self.engine not in LOSING_ENGINES
        return self.mode == "always"

    @property
    def may_ask_again_unstreamed(self) -> bool:
        return self.mode == "auto"


@dataclass(frozen=True)
class Outcome:
    finish_reason: FinishReason
    usage: Usage


@dataclass(frozen=True)
class Dialogue:
    exchange: Exchange
    streaming: ToolStreaming
    clock: Clock
    context: RequestContext
    tools: ToolTable

    async def hold(self, body: dict[str, Any], answer: Answer, *, stream: bool = True) -> Outcome:
        """Fills and delivers ``answer``. Raises Fault, and Unavailable for calls that stay broken."""
        if not self.tools:
            await self.exchange.run(self.context, encode_request(body, stream=stream), answer, stream=stream)
            return await self._deliver(answer, answer.calls(self._id_prefix), answer.usage or NO_USAGE)
        stream = self.streaming.allowed
        await self.exchange.run(self.context, encode_request(body, stream=stream), answer, stream=stream)
        calls, problem = self._judge(answer, streamed=stream)
        usage = answer.usage or NO_USAGE
        if problem is not None and stream and self.streaming.may_ask_again_unstreamed:
            again = await self._again(body)
            usage = add(usage, again.usage)
            calls, problem = self._judge(again, streamed=False)
            self.streaming.seen_garbled = self.streaming.seen_garbled or (problem is None and calls != ())
            if not answer.content:
                await answer.send_content(again.content)
        if problem is not None:
            mended = await self._again(_with_repair(body, answer, calls, problem))
            usage = add(usage, mended.usage)
            calls, still = self._judge(mended, streamed=False)
            if still is not None or not calls:
                raise self._broken_calls(still or problem)
        return await self._deliver(answer, calls, usage)

    def _judge(self, answer: Answer, *, streamed: bool) -> tuple[tuple[ToolCall, ...], str | None]:
        """The calls, and what is wrong with them. A call cut off by the length limit is not wrong: it is dropped."""
        calls = answer.calls(self._id_prefix)
        if answer.finish_reason == "length":
            return tuple(call for call in calls if self.tools.problem([call]) is None), None
        # Engines that lose calls also end such a stream with "stop": an empty answer is suspect when it was streamed.
        if not calls and (answer.finish_reason == "tool_calls" or (streamed and not answer.content)):
            return calls, "the answer announced tool calls and held none"
        return calls, self.tools.problem(calls)

    async def _again(self, body: dict[str, Any]) -> Answer:
        """The same or a mended request, unstreamed; only its calls are of interest."""
        answer = Answer(None, self.clock, repeatable=True, already=Delivered())
        await self.exchange.run(self.context, encode_request(body, stream=False), answer, stream=False)
        return answer

    async def _deliver(self, answer: Answer, calls: tuple[ToolCall, ...], usage: Usage) -> Outcome:
        await answer.send_calls(calls)
        reason = answer.finish_reason
        if reason != "length":
            reason = "tool_calls" if calls else "stop"
        return Outcome(reason, usage)

    def _broken_calls(self, problem: str) -> Unavailable:
        reason = self.exchange.endpoint.key.redact(problem)
        text = f"the model's tool calls cannot be passed on, also after a second try: {reason}"
        return Unavailable("upstream.tool_calls", text, status=502)

    @property
    def _id_prefix(self) -> str:
        return f"call_{self.context.request_id}"


NO_USAGE = Usage(prompt_tokens=0, completion_tokens=0)


def add(first: Usage, second: Usage | None) -> Usage:
    """What both cost together: the sender pays for every request."""
    second = second or NO_USAGE
    return Usage(
        prompt_tokens=first.prompt_tokens + second.prompt_tokens,
        completion_tokens=first.completion_tokens + second.completion_tokens,
        cached_tokens=first.cached_tokens + second.cached_tokens,
        reasoning_tokens=first.reasoning_tokens + second.reasoning_tokens,
    )


def _with_repair(body: dict[str, Any], answer: Answer, calls: tuple[ToolCall, ...], problem: str) -> dict[str, Any]:
    return body | {"messages": [*body["messages"], *repair_messages(answer.content, calls, problem)]}
