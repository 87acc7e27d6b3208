"""A chat from request to last word: over the real call protocol, with engines that die and media that is silent."""

import asyncio
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from schemas import names
from schemas.blobs import BlobRef
from schemas.chat import ChatDelta, ChatRequest, MediaPart, Message, ModelVariant, Sampling, TextPart, ToolCall
from schemas.codec import encode
from schemas.failure import Failure
from schemas.generation import ThinkingLimit
from schemas.media import MediaJob, MediaKind, MediaManifest
from schemas.telemetry import SPAN_CHAT, SPAN_RENDER, SPAN_WAIT_MEDIA
from services.tokenizer.sampling import seed_of
from shared.errors import BadInput, MoontideError
from shared.language import specials
from shared.language.prompt import PromptEncoder
from shared.language.template import render

from .stack import MODEL, ScriptedEngine, Stack, chat, manifest_of, message, resumed, running


def text_of(deltas: list[ChatDelta]) -> tuple[str, str]:
    return "".join(d.reasoning for d in deltas), "".join(d.content for d in deltas)


def emitted(deltas: list[ChatDelta]) -> list[int]:
    return np.frombuffer(b"".join(delta.resume for delta in deltas), "<u4").tolist()


def answer_ids(stack: Stack, reasoning: str = "I look.", content: str = "It is a small boat.") -> list[int]:
    return [*stack.ids(reasoning), stack.vocabulary.special(specials.END_THINK), *stack.ids(content)]


async def test_text_in_text_out(tmp_path: Path) -> None:
    async with running(tmp_path, max_new_tokens=100, thinking_budget_tokens=32) as stack:
        ids = answer_ids(stack)
        async with stack.engine(ScriptedEngine(ids)) as engine:
            deltas, finished = await stack.chat(chat())
    assert text_of(deltas) == ("I look.", "It is a small boat.")
    assert emitted(deltas) == ids
    assert finished.finish_reason == "stop"
    assert (finished.usage.completion_tokens, finished.usage.reasoning_tokens) == (len(ids), ids.index(2048 + 23))
    assert (finished.usage.cached_tokens, finished.system_fingerprint) == (2, "fp")
    assert (finished.timings.prefill_seconds, finished.timings.decode_seconds) == (0.25, 0.5)
    (request,) = engine.requests
    prompt = PromptEncoder(stack.vocabulary).encode(render([Message(role="user", content=(TextPart(text="hi"),))]))
    assert np.frombuffer(request.prompt_ids, "<u4").tolist() == prompt.ids.tolist()  # type: ignore[arg-type]
    assert finished.usage.prompt_tokens == len(prompt.ids)
    assert (request.max_tokens, request.temperature, request.top_p) == (100, 1.0, 0.95)
    assert request.seed == seed_of("r1")
    assert request.thinking == ThinkingLimit(budget_tokens=32, end_id=2048 + 23)
    assert request.stop_ids == (2048 + 2, 2048 + 1)


async def test_an_engine_that_dies_again_and_again_changes_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as stack:
        ids = answer_ids(stack)
        async with stack.engine(ScriptedEngine(ids, step=1, deaths=[3, 2, 1])) as engine:
            deltas, _ = await stack.chat(chat())
    assert len(engine.requests) == 4
    assert text_of(deltas) == ("I look.", "It is a small boat.")
    assert emitted(deltas) == ids


@pytest.mark.parametrize("stop", [(), ("small",), ("all bo",), ("boat.!",)])
async def test_continuing_behind_any_delta_gives_the_rest(tmp_path: Path, stop: tuple[str, ...]) -> None:
    async with running(tmp_path) as stack:
        request = chat(sampling=Sampling(stop=stop))
        async with stack.engine(ScriptedEngine(answer_ids(stack), step=1)):
            whole, finished = await stack.chat(request)
            for kept in range(len(whole) + 1):
                rest, again = await stack.chat(resumed(request, whole[:kept]))
                assert text_of(whole[:kept] + rest) == text_of(whole)
                assert (again.usage.completion_tokens, again.finish_reason) == (
                    finished.usage.completion_tokens,
                    finished.finish_reason,
                )


async def test_a_stop_string_ends_the_engine_and_the_answer(tmp_path: Path) -> None:
    async with running(tmp_path) as stack:
        ids = answer_ids(stack)
        async with stack.engine(ScriptedEngine(ids, step=100)):
            deltas, finished = await stack.chat(chat(sampling=Sampling(stop=("a small",))))
    assert text_of(deltas) == ("I look.", "It is ")
    assert finished.finish_reason == "stop"
    assert finished.usage.completion_tokens == len(emitted(deltas)) < len(ids)


async def test_an_answer_that_was_complete_asks_no_engine(tmp_path: Path) -> None:
    async with running(tmp_path) as stack:
        resume = np.array(answer_ids(stack), "<u4").tobytes()
        deltas, finished = await stack.chat(chat(resume=resume, sampling=Sampling(stop=("boat",))))
    assert deltas == []
    assert finished.finish_reason == "stop"


async def test_max_tokens_ends_with_length(tmp_path: Path) -> None:
    async with running(tmp_path) as stack, stack.engine(ScriptedEngine(answer_ids(stack))):
        deltas, finished = await stack.chat(chat(sampling=Sampling(max_tokens=4)))
        again, last = await stack.chat(resumed(chat(sampling=Sampling(max_tokens=4)), deltas))
    assert (len(emitted(deltas)), finished.finish_reason) == (4, "length")
    assert (again, last.finish_reason) == ([], "length")


async def test_tool_calls(tmp_path: Path) -> None:
    async with running(tmp_path) as stack:
        special = stack.vocabulary.special
        ids = [
            special(specials.TOOL_SECTION_BEGIN),
            special(specials.TOOL_CALL_BEGIN),
            *stack.ids("functions.find:0"),
            special(specials.TOOL_ARGUMENT_BEGIN),
            *stack.ids('{"a": 1}'),
            special(specials.TOOL_CALL_END),
            special(specials.TOOL_SECTION_END),
        ]
        tools = b'[{"type":"function","function":{"name":"find"}}]'
        async with stack.engine(ScriptedEngine(ids)) as engine:
            deltas, finished = await stack.chat(chat(tools=tools, thinking=False))
    pieces = [call for delta in deltas for call in delta.tool_calls]
    assert (pieces[0].id, pieces[0].name) == ("functions.find:0", "find")
    assert "".join(piece.arguments for piece in pieces) == '{"a": 1}'
    assert finished.finish_reason == "tool_calls"
    forbidden = set(np.frombuffer(engine.requests[0].forbidden_ids, "<u4").tolist())  # type: ignore[arg-type]
    assert not forbidden & set(ids)


@pytest.mark.parametrize("thinking", [True, False])
async def test_what_an_answer_does_not_need_is_forbidden(tmp_path: Path, thinking: bool) -> None:
    async with running(tmp_path) as stack, stack.engine(ScriptedEngine([])) as engine:
        await stack.chat(chat(thinking=thinking))
    allowed = {2048 + 1, 2048 + 2} | ({2048 + 23} if thinking else set())
    forbidden = np.frombuffer(engine.requests[0].forbidden_ids, "<u4").tolist()  # type: ignore[arg-type]
    assert set(forbidden) == set(range(2048, 2048 + 256 + 8)) - allowed


async def test_instant_mode_and_the_recommended_values(tmp_path: Path) -> None:
    async with running(tmp_path) as stack, stack.engine(ScriptedEngine(stack.ids("Yes."))) as engine:
        deltas, _ = await stack.chat(chat(thinking=False))
    assert text_of(deltas) == ("", "Yes.")
    request = engine.requests[0]
    assert (request.temperature, request.top_p, request.thinking) == (0.6, 0.95, None)


def part(kind: MediaKind = "image", name: str = "a.png", digit: str = "1") -> MediaPart:
    return MediaPart(kind=kind, source=BlobRef(key="sha256/" + digit * 64, size_bytes=1), name=name)


def with_media(*parts: MediaPart) -> ChatRequest:
    return chat(encode(Message(role="user", content=(*parts, TextPart(text="what?")))))


VIDEO = manifest_of("video", ("00:00:00.000", 3), ("00:00:02.000", 2))
IMAGE = manifest_of("image", ("", 4))


async def test_media_becomes_spans_and_summaries(tmp_path: Path) -> None:
    async def answer(job: MediaJob) -> MediaManifest:
        return VIDEO if job.kind == "video" else IMAGE

    async with running(tmp_path) as stack, stack.ingest(answer), stack.engine(ScriptedEngine([300])) as engine:
        _, finished = await stack.chat(with_media(part(), part("video", "b.mp4", "2"), part(name="again.png")))
    assert len(stack.jobs) == 2
    assert [span.tokens for span in engine.requests[0].media] == [4, 3, 2, 4]
    assert finished.usage.media_tokens == 13
    assert [(item.name, item.kind, item.chunks) for item in finished.media] == [
        ("a.png", "image", 1),
        ("b.mp4", "video", 2),
        ("again.png", "image", 1),
    ]
    assert finished.timings.ingest_seconds > 0


async def test_what_tools_show_becomes_spans_where_they_showed_it(tmp_path: Path) -> None:
    """An agent that looks at two files in one step, and at a third in the next."""

    async def answer(job: MediaJob) -> MediaManifest:
        return VIDEO if job.kind == "video" else IMAGE

    def call(number: int) -> ToolCall:
        return ToolCall(id=f"functions.look:{number}", name="look", arguments="{}")

    def shown(number: int, *parts: MediaPart) -> bytes:
        content = (TextPart(text="here"), *parts)
        return encode(Message(role="tool", tool_call_id=f"functions.look:{number}", content=content))

    request = chat(
        message("look"),
        encode(Message(role="assistant", tool_calls=(call(0), call(1)))),
        shown(0, part()),
        shown(1, part("video", "b.mp4", "2")),
        encode(Message(role="assistant", tool_calls=(call(2),))),
        shown(2, part(name="c.png", digit="3")),
    )
    async with running(tmp_path) as stack, stack.ingest(answer), stack.engine(ScriptedEngine([300])) as engine:
        _, finished = await stack.chat(request)
    spans = engine.requests[0].media
    assert [span.tokens for span in spans] == [4, 3, 2, 4]
    assert [later.position > span.position + span.tokens for span, later in pairwise(spans)] == [True] * 3
    assert [item.name for item in finished.media] == ["a.png", "b.mp4", "c.png"]


async def test_a_silent_job_is_asked_for_again_under_another_id(tmp_path: Path) -> None:
    async def answer(job: MediaJob) -> MediaManifest | None:
        return None if len(stack.jobs) == 1 else IMAGE

    quick = {"media_silence_seconds": 0.05}
    engine = ScriptedEngine([300])
    async with running(tmp_path, config=quick) as stack, stack.ingest(answer), stack.engine(engine):
        _, finished = await stack.chat(with_media(part()))
    assert finished.usage.media_tokens == 4
    assert len({job.job_id for job in stack.jobs}) == 2


async def test_bad_media_is_named_and_its_neighbours_end(tmp_path: Path) -> None:
    async def answer(job: MediaJob) -> Failure | None:
        if job.name != "broken.png":
            return None
        return Failure(code="media.undecodable", message="broken.png: not an image", status=400, param="broken.png")

    async with running(tmp_path) as stack, stack.ingest(answer):
        with pytest.raises(BadInput) as caught:
            await stack.chat(with_media(part(), part(name="broken.png", digit="2")))
    assert (caught.value.code, caught.value.param) == ("media.undecodable", "broken.png")


async def test_media_that_nobody_prepares_ends_at_the_deadline(tmp_path: Path) -> None:
    async with running(tmp_path) as stack:
        with pytest.raises(MoontideError) as caught:
            await stack.chat(with_media(part()), seconds=0.3)
    assert caught.value.status == 504


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        (ChatRequest(model=MODEL, messages=()), "messages"),
        (chat(b"\xc1"), "messages[0]"),
        (chat(message("x"), encode(Message(role="tool"))), "messages[1]"),
        (
            chat(encode(Message(role="user", tool_calls=(ToolCall(id="a", name="b", arguments=""),)))),
            "messages[0]",
        ),
        (chat(tools=b"{}"), "tools"),
        (chat(resume=b"abc"), "resume"),
        (chat(resume=b"\xff\xff\xff\x00"), "resume"),
        (chat(sampling=Sampling(temperature=-1.0)), "temperature"),
        (chat(sampling=Sampling(top_p=0.0)), "top_p"),
        (chat(sampling=Sampling(max_tokens=0)), "max_tokens"),
        (chat(sampling=Sampling(min_p=1.5)), "min_p"),
        (chat(sampling=Sampling(top_k=-1)), "top_k"),
        (chat(sampling=Sampling(presence_penalty=float("nan"))), "presence_penalty"),
        (chat(sampling=Sampling(frequency_penalty=3.0)), "frequency_penalty"),
        (chat(sampling=Sampling(repetition_penalty=0.0)), "repetition_penalty"),
        (chat(sampling=Sampling(logit_bias=((2048 + 256, 1.0),))), "logit_bias"),
        (chat(sampling=Sampling(logit_bias=((1, 101.0),))), "logit_bias"),
        (chat(sampling=Sampling(logit_bias=((1, 1.0),) * 301)), "logit_bias"),
        (chat(sampling=Sampling(top_logprobs=21)), "top_logprobs"),
        (chat(thinking_budget_tokens=-1), "thinking"),
        (chat(tool_choice=b"[1]"), "tool_choice"),
        (chat(response_format=b'"json"'), "response_format"),
        (chat(partial=True), "messages[0]"),
        (
            chat(
                encode(Message(role="assistant", tool_calls=(ToolCall(id="a", name="b", arguments=""),))), partial=True
            ),
            "messages[0]",
        ),
        (chat(sampling=Sampling(stop=("",))), "stop"),
        (chat(sampling=Sampling(max_tokens=4096)), "max_tokens"),
        (chat(message("boat " * 5000)), "messages"),
        (with_media(part()), "messages"),
        (msgspec.structs.replace(chat(), model="other"), "model"),
    ],
)
async def test_bad_requests_are_refused_by_name(tmp_path: Path, request_: ChatRequest, param: str) -> None:
    async with running(tmp_path, vision=False) as stack:
        with pytest.raises(MoontideError) as caught:
            await stack.chat(request_)
    assert caught.value.param == param
    assert caught.value.status in (400, 404)


async def test_long_history_by_reference_is_read_and_encoded_once(tmp_path: Path) -> None:
    async with running(tmp_path, context=1_000_000) as stack, stack.engine(ScriptedEngine([300])) as engine:
        ref = await stack.blobs.put(message("the tide comes in. " * 2000))
        first = chat(ref)  # type: ignore[arg-type]
        await stack.chat(first)
        await stack.blobs.delete(ref)
        await stack.chat(msgspec.structs.replace(first, messages=(ref, message("and then?"))))
    assert len(engine.requests) == 2


async def test_many_emitted_tokens_travel_as_a_stored_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.tokenizer.generation.INLINE_MAX_BYTES", 16)
    monkeypatch.setattr("services.tokenizer.generation.SAVE_BYTES", 16)
    seen: list[int] = []

    class Resolving(ScriptedEngine):
        async def __call__(self, context: Any, request: Any, out: Any) -> None:
            inline = await stack.blobs.resolve(request.emitted_ids)
            seen.append(len(inline) // 4)
            await super().__call__(context, msgspec.structs.replace(request, emitted_ids=inline), out)

    async with running(tmp_path) as stack:
        ids = answer_ids(stack)
        assert len(ids) > 8
        async with stack.engine(Resolving(ids, step=1, deaths=[7])):
            deltas, _ = await stack.chat(chat())
    assert seen == [0, 5]
    assert emitted(deltas) == ids


async def test_spans_and_announcement(tmp_path: Path) -> None:
    async def answer(job: MediaJob) -> MediaManifest:
        return IMAGE

    async with running(tmp_path, moontide_random_weights=True) as stack:
        (info,) = await stack.broker.bus("gateway").discover(names.SERVICE_TOKENIZER)
        async with stack.ingest(answer), stack.engine(ScriptedEngine([300])) as engine:
            await stack.chat(with_media(part()))
        spans = {name: stack.telemetry.ended(name) for name in (SPAN_CHAT, SPAN_WAIT_MEDIA, SPAN_RENDER)}
    assert info.metadata["model"] == MODEL
    assert info.metadata["random_weights"] == "true"
    assert info.metadata["capabilities"].startswith("image,video,thinking")
    (outer,), (waiting,), (rendering,) = spans.values()
    assert waiting.parent_span_id == rendering.parent_span_id == outer.span_id
    assert outer.span_id in engine.contexts[0].traceparent
    assert waiting.span_id in stack.jobs[0].context.traceparent


async def test_a_caller_that_leaves_ends_the_generation(tmp_path: Path) -> None:
    started, ended = asyncio.Event(), asyncio.Event()

    async def endless(context: Any, request: Any, out: Any) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with running(tmp_path) as stack, stack.engine(endless):
        task = asyncio.create_task(stack.chat(chat()))
        async with asyncio.timeout(10):
            await started.wait()
            task.cancel()
            await ended.wait()


async def test_a_partial_message_is_continued_without_being_repeated(tmp_path: Path) -> None:
    request = chat(message("hi"), message("It is", role="assistant"), partial=True)
    async with running(tmp_path) as stack, stack.engine(ScriptedEngine(stack.ids(" a boat."))) as engine:
        deltas, finished = await stack.chat(request)
    assert text_of(deltas) == ("", " a boat.")
    assert finished.usage.reasoning_tokens == 0
    assert engine.requests[0].thinking is None
    prompt = np.frombuffer(engine.requests[0].prompt_ids, "<u4").tolist()  # type: ignore[arg-type]
    assert prompt[-len(stack.ids("It is")) :] == stack.ids("It is")


@pytest.mark.parametrize(
    ("asked", "server", "own", "expected"),
    [
        (7, 5, 3, 7),
        (0, None, None, 0),
        (500, None, None, 99),
        (None, 5, 3, 5),
        (None, None, 3, 3),
        (None, 500, None, 50),
        (None, None, None, None),
    ],
)
async def test_the_budget_of_the_reasoning(
    tmp_path: Path, asked: int | None, server: int | None, own: int | None, expected: int | None
) -> None:
    service = running(
        tmp_path, config={"thinking_budget_tokens": server}, max_new_tokens=100, thinking_budget_tokens=own
    )
    async with service as stack, stack.engine(ScriptedEngine([300])) as engine:
        await stack.chat(chat(thinking_budget_tokens=asked))
    limit = engine.requests[0].thinking
    assert (limit.budget_tokens if limit else None) == expected


async def test_everything_about_drawing_reaches_the_engine(tmp_path: Path) -> None:
    sampling = Sampling(
        top_k=5,
        min_p=0.1,
        presence_penalty=0.5,
        frequency_penalty=-0.5,
        repetition_penalty=1.1,
        logit_bias=((3, -100.0),),
        top_logprobs=2,
    )
    request = chat(sampling=sampling, cache_key="k", expected_pause_seconds=2.0)
    async with running(tmp_path) as stack, stack.engine(ScriptedEngine(answer_ids(stack))) as engine:
        deltas, _ = await stack.chat(request)
    sent = engine.requests[0]
    for name in ("top_k", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty", "logit_bias"):
        assert getattr(sent, name) == getattr(sampling, name)
    assert (sent.top_logprobs, sent.cache_key, sent.expected_pause_seconds) == (2, "k", 2.0)
    logprobs = [logprob for delta in deltas for logprob in delta.logprobs]
    assert b"".join(logprob.chosen.data for logprob in logprobs).decode() == text_of(deltas)[1]
    assert logprobs[0].top[0].data == b"a"


@pytest.mark.parametrize("thinking", [True, False])
async def test_a_count_is_what_the_chat_says(tmp_path: Path, thinking: bool) -> None:
    async def answer(job: MediaJob) -> MediaManifest:
        return VIDEO if job.kind == "video" else IMAGE

    tools = b'[{"type":"function","function":{"name":"find"}}]'
    messages = (message("S", role="system"), with_media(part(), part("video", "b.mp4", "2")).messages[0])
    request = chat(*messages, tools=tools, thinking=thinking)  # type: ignore[arg-type]
    async with running(tmp_path) as stack, stack.ingest(answer), stack.engine(ScriptedEngine([300])):
        counted = await stack.count(request)
        _, finished = await stack.chat(request)
    assert (counted.prompt_tokens, counted.media_tokens) == (finished.usage.prompt_tokens, 9)


async def test_what_cannot_be_counted_is_refused_by_name(tmp_path: Path) -> None:
    async with running(tmp_path, vision=False) as stack:
        with pytest.raises(BadInput) as caught:
            await stack.count(with_media(part()))
    assert caught.value.param == "messages"


async def test_a_tool_choice_of_none_forbids_the_markers(tmp_path: Path) -> None:
    tools = b'[{"type":"function","function":{"name":"find"}}]'
    async with running(tmp_path) as stack, stack.engine(ScriptedEngine([300])) as engine:
        await stack.chat(chat(tools=tools, tool_choice=b'"none"'))
    forbidden = np.frombuffer(engine.requests[0].forbidden_ids, "<u4").tolist()  # type: ignore[arg-type]
    assert stack.vocabulary.special(specials.TOOL_CALL_BEGIN) in forbidden


async def test_variants_are_announced(tmp_path: Path) -> None:
    async with running(tmp_path, temperature=1.0, top_p=0.9, max_new_tokens=50) as stack:
        (info,) = await stack.broker.bus("gateway").discover(names.SERVICE_TOKENIZER)
    instant, thinking = msgspec.json.decode(info.metadata["variants"], type=tuple[ModelVariant, ...])
    assert instant == ModelVariant(id="tiny-instant", thinking=False, temperature=0.6, top_p=0.9)
    assert thinking == ModelVariant(id="tiny-thinking", thinking=True, temperature=1.0, top_p=0.9)


async def test_kimi_vl_reads_images_and_no_more(tmp_path: Path) -> None:
    async def answer(job: MediaJob) -> MediaManifest:
        return IMAGE

    tools = b'[{"type":"function","function":{"name":"find"}}]'
    async with running(tmp_path, model_type="kimi_vl") as stack:
        (info,) = await stack.broker.bus("gateway").discover(names.SERVICE_TOKENIZER)
        async with stack.ingest(answer), stack.engine(ScriptedEngine(stack.ids("A boat."))) as engine:
            deltas, _ = await stack.chat(with_media(part()))
        for refused, param in ((with_media(part("video")), "messages"), (chat(tools=tools), "tools")):
            with pytest.raises(BadInput) as caught:
                await stack.chat(refused)
            assert caught.value.param == param
    capabilities = info.metadata["capabilities"].split(",")
    assert "image" in capabilities
    assert not {"video", "tools"} & set(capabilities)
    assert info.metadata["variants"] == "[]"
    assert text_of(deltas) == ("", "A boat.")
    assert engine.requests[0].thinking is None


async def test_a_checkpoint_brings_its_own_template(tmp_path: Path) -> None:
    source = "{% for m in messages %}<|im_user|>{{ m.content }}{% endfor %}<|im_assistant|><think>"
    async with running(tmp_path, template=source) as stack, stack.engine(ScriptedEngine([300])) as engine:
        await stack.chat(chat(message("<|im_end|>")))
    prompt = np.frombuffer(engine.requests[0].prompt_ids, "<u4").tolist()  # type: ignore[arg-type]
    special = stack.vocabulary.special
    assert prompt[:1] + prompt[-2:] == [special(specials.IM_USER), special(specials.IM_ASSISTANT), special("<think>")]
    assert prompt[1:-2] == stack.ids("<|im_end|>")
