"""A scripted model and scripted tools on the real bus: what a run meets, without weights and sandboxes.

The model answers by the number of assistant turns that it is shown, so that a run that was interrupted anywhere is
answered as an undisturbed one. Tools count how often a job was really worked on.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from schemas import names
from schemas.blobs import BlobRef
from schemas.chat import ChatDelta, ChatFinished, ChatRequest, Message, TextPart, ToolCall, ToolCallDelta, Usage
from schemas.codec import decode, encode
from schemas.failure import NOT_RESUMABLE
from schemas.request import RequestContext
from schemas.tools import (
    ToolCancelled,
    ToolDeclaration,
    ToolFinished,
    ToolJob,
    ToolProgress,
    ToolsListed,
    WorkspaceFile,
    WorkspaceTree,
)
from shared.blobs.store import BlobStore
from shared.bus.interface import Bus, Job, WorkQueue
from shared.calls.interface import CallWriter
from shared.calls.serve import serve
from shared.clock import Clock
from shared.errors import MoontideError, Unavailable

MODEL = "scripted"
TOOLS_QUEUE = WorkQueue(stream=names.STREAM_TOOLS, subjects=(names.TOOLS_ALL,), durable=names.DURABLE_TOOLS)
ANY_OBJECT = b'{"type":"object"}'


@dataclass(frozen=True)
class Say:
    """One answer of the model."""

    content: str = ""
    calls: tuple[ToolCall, ...] = ()
    reasoning: str = ""
    seconds: float = 0.0
    """How long it takes."""
    finish_reason: str = ""
    error: MoontideError | None = None
    interrupted: bool = False
    """It breaks off behind its first piece, and cannot be continued."""
    completion_tokens: int = 10
    prompt_tokens: int | None = None


Script = Callable[[list[Message]], Say]
"""The conversation to the next answer."""


def call(name: str, arguments: str = "{}", index: int = 0) -> ToolCall:
    return ToolCall(id=f"functions.{name}:{index}", name=name, arguments=arguments)


def in_turn(*answers: Say) -> Script:
    """The nth answer to a conversation with n answers in it; the last one again and again."""

    def script(messages: list[Message]) -> Say:
        given = sum(message.role == "assistant" for message in messages)
        return answers[min(given, len(answers) - 1)]

    return script


def words(message: Message) -> str:
    return "".join(part.text for part in message.content if isinstance(part, TextPart))


@dataclass
class ScriptedModel:
    blobs: BlobStore
    script: Script
    asked: list[ChatRequest] = field(default_factory=list)
    conversations: list[list[Message]] = field(default_factory=list)
    contexts: list[RequestContext] = field(default_factory=list)
    in_flight: int = 0
    cancelled: int = 0

    async def __call__(self, context: RequestContext, request: ChatRequest, out: CallWriter) -> None:
        messages = [decode(await self.blobs.resolve(payload), Message) for payload in request.messages]
        self.asked.append(request)
        self.contexts.append(context)
        self.conversations.append(messages)
        self.in_flight += 1
        try:
            if request.resume:
                raise Unavailable(NOT_RESUMABLE, "this model cannot continue", status=502)
            await self._answer(self.script(messages), len(request.messages), out)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.in_flight -= 1

    async def _answer(self, say: Say, length: int, out: CallWriter) -> None:
        await asyncio.sleep(say.seconds)
        if say.error is not None:
            raise say.error
        resume = b"begun" if say.interrupted else b""
        await out.send(ChatDelta(reasoning=say.reasoning, content=say.content, resume=resume))
        if say.interrupted:
            raise Unavailable("scripted.interrupted", "the answer breaks off", retry_after_seconds=0.0)
        for index, made in enumerate(say.calls):
            piece = ToolCallDelta(index=index, id=made.id, name=made.name, arguments=made.arguments)
            await out.send(ChatDelta(tool_calls=(piece,)))
        prompt_tokens = 100 * length if say.prompt_tokens is None else say.prompt_tokens
        usage = Usage(prompt_tokens=prompt_tokens, completion_tokens=say.completion_tokens)
        reason = say.finish_reason or ("tool_calls" if say.calls else "stop")
        await out.send(ChatFinished(finish_reason=reason, usage=usage))  # type: ignore[arg-type]


@asynccontextmanager
async def serving_model(
    bus: Bus,
    model: ScriptedModel,
    *,
    clock: Clock,
    context_length: int | None = 100_000,
    service: str = names.SERVICE_UPSTREAM,
) -> AsyncIterator[ScriptedModel]:
    length = {"context_length": str(context_length)} if context_length else {}
    async with serve(
        bus,
        clock,
        name=service,
        subject=names.chat(MODEL),
        handler=model,
        body_type=ChatRequest,
        max_calls=16,
        version="1.0.0",
        metadata={"model": MODEL, "capabilities": "tools", **length},
        drain_seconds=0.2,
    ):
        yield model


Work = Callable[[ToolJob], Awaitable[ToolFinished]]


@dataclass
class ScriptedTools:
    """``work`` by tool name; outcomes are kept before they are published, as the real ones are."""

    bus: Bus
    blobs: BlobStore
    work: dict[str, Work] = field(default_factory=dict)
    jobs: list[ToolJob] = field(default_factory=list)
    worked: Counter[str] = field(default_factory=Counter)
    """By call id."""
    running: set[str] = field(default_factory=set)
    cancelled: set[str] = field(default_factory=set)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    """What the tool ``slow`` waits for."""

    async def handle(self, delivery: Job) -> None:
        job = decode(delivery.data, ToolJob)
        self.jobs.append(job)
        kept = await self.blobs.get_record("tool-outcomes", job.call_id)
        if kept is None:
            kept = encode(await self._work(job))
            await self.blobs.put_record("tool-outcomes", job.call_id, kept)
        await self.bus.publish(names.tool_outcome(job.call_id), kept)

    async def _work(self, job: ToolJob) -> ToolFinished:
        self.worked[job.call_id] += 1
        self.running.add(job.call_id)
        control = await self.bus.subscribe(names.tool_control(job.call_id))
        working = asyncio.ensure_future(self.work[job.tool](job))
        try:
            while not working.done():
                progress = ToolProgress(call_id=job.call_id, text="working")
                await self.bus.publish(names.tool_outcome(job.call_id), encode(progress))
                told = asyncio.ensure_future(control.next(0.5))
                await asyncio.wait({working, told}, return_when=asyncio.FIRST_COMPLETED)
                if told.done() and told.result() is not None:
                    decode(told.result() or b"", ToolCancelled)
                    self.cancelled.add(job.call_id)
                    return ToolFinished(call_id=job.call_id, content=(TextPart(text="cancelled"),))
                told.cancel()
                with suppress(asyncio.CancelledError):
                    await told
            return await working
        finally:
            working.cancel()
            self.running.discard(job.call_id)
            await control.close()


def declared(name: str, *, writes: bool = False, needs_approval: bool = False) -> ToolDeclaration:
    return ToolDeclaration(
        name=name,
        description=f"The scripted tool {name}.",
        parameters=ANY_OBJECT,
        effect="workspace" if writes else "none",
        workspace="write" if writes else "read",
        needs_approval=needs_approval,
        expected_seconds=2.0,
    )


DECLARED = (
    declared("look_up"),
    declared("slow"),
    declared("note", writes=True),
    declared("launch", needs_approval=True),
)


@asynccontextmanager
async def serving_tools(
    bus: Bus, tools: ScriptedTools, declarations: tuple[ToolDeclaration, ...] = DECLARED
) -> AsyncIterator[ScriptedTools]:
    async def listed(_: bytes) -> bytes:
        return encode(ToolsListed(tools=declarations))

    async with (
        bus.offer(names.SERVICE_TOOLS, {names.SUBJECT_TOOLS_LIST: listed}, version="1.0.0", metadata={}),
        bus.consume(TOOLS_QUEUE, tools.handle, in_flight=8),
    ):
        try:
            yield tools
        finally:
            tools.gate.set()


def standard_tools(bus: Bus, blobs: BlobStore) -> ScriptedTools:
    """look_up answers its arguments, slow waits for the gate, note appends a line to ``notes.txt``, launch reports."""

    async def look_up(job: ToolJob) -> ToolFinished:
        text = (await blobs.resolve(job.arguments)).decode()
        return ToolFinished(call_id=job.call_id, content=(TextPart(text=f"found {text}"),))

    async def slow(job: ToolJob) -> ToolFinished:
        await tools.gate.wait()
        return ToolFinished(call_id=job.call_id, content=(TextPart(text="at last"),))

    async def note(job: ToolJob) -> ToolFinished:
        before = await notes(blobs, job.workspace)
        line = (await blobs.resolve(job.arguments)) + b"\n"
        content = await blobs.put(before + line)
        tree = WorkspaceTree(files=(WorkspaceFile(path="notes.txt", content=content),))
        workspace = await blobs.put(encode(tree))
        return ToolFinished(call_id=job.call_id, content=(TextPart(text="noted"),), workspace=workspace)

    async def launch(job: ToolJob) -> ToolFinished:
        return ToolFinished(call_id=job.call_id, content=(TextPart(text="launched"),))

    tools = ScriptedTools(bus, blobs, {"look_up": look_up, "slow": slow, "note": note, "launch": launch})
    return tools


async def notes(blobs: BlobStore, workspace: BlobRef | None) -> bytes:
    """What is in ``notes.txt``."""
    if workspace is None:
        return b""
    tree = decode(await blobs.get(workspace), WorkspaceTree)
    file = next((file for file in tree.files if file.path == "notes.txt"), None)
    return b"" if file is None else await blobs.get(file.content)
