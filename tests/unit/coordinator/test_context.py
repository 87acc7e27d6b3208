"""A window that fills: Kimi's three strategies, each shown by what the model reads afterwards."""

import itertools

import msgspec
from hypothesis import given
from hypothesis import strategies as some

from schemas import names
from schemas.blobs import BlobRef
from schemas.chat import CountRequest, Message, TokensCounted
from schemas.request import RequestContext
from schemas.runs import ContextReduced, ContextStrategy, ModelAsked, SteerRun
from services.coordinator import context
from services.coordinator.context import ORDER, Window
from services.coordinator.gauge import Gauge, weight
from services.coordinator.transcript import Transcript
from shared.calls.interface import CallWriter
from shared.calls.serve import serve
from shared.errors import BadInput
from shared.ledger.conversation import Conversation, Turn
from tests.integration.coordinator.scripted import MODEL, Say, Script, ScriptedModel, call, serving_model, words
from tests.unit.coordinator.harbour import Harbour, sail

LENGTH = 8_000
RESULT = "x" * 3_000
TOO_LONG = BadInput("chat.context_overflow", "the request is longer than the context")


def tokens(messages: list[Message]) -> int:
    return sum(len(words(message)) for message in messages) // 4


def working(steps: int, *, summary: str = "What I know.") -> Script:
    """A call with a large result at each of so many steps, then an answer. Refuses what does not fit."""
    made = itertools.count()

    def script(messages: list[Message]) -> Say:
        size = tokens(messages)
        if size > LENGTH:
            return Say(error=TOO_LONG)
        if "Write down everything" in words(messages[-1]):
            return Say(summary, prompt_tokens=size)
        number = next(made)
        if number == steps:
            return Say("done", prompt_tokens=size)
        arguments = f'{{"n":{number},"pad":"{RESULT}"}}'
        return Say(calls=(call("look_up", arguments, number),), prompt_tokens=size, completion_tokens=800)

    return script


async def run(harbour: Harbour, script: Script, **fields: object) -> tuple[str, list[list[Message]]]:
    model = await harbour.model(script, context_length=LENGTH)
    await harbour.tools()
    await harbour.coordinator()
    run_id = await harbour.start("The goal.", **fields)
    summary = await harbour.ended(run_id)
    assert summary.status == "finished", summary.failure
    return run_id, model.conversations


def test_old_results_are_hidden_and_the_most_recent_round_stays() -> None:
    async def test(harbour: Harbour) -> None:
        run_id, shown = await run(harbour, working(9))
        reduced = await harbour.events(run_id, ContextReduced)
        assert reduced
        assert {event.strategy for event in reduced} <= {"hide_tool_results", "summary"}
        assert reduced[0].strategy == "hide_tool_results"
        after = next(messages for messages in shown if any("was hidden" in words(m) for m in messages))
        results = [message for message in after if message.role == "tool"]
        assert ["was hidden" in words(message) for message in results] == [True] * (len(results) - 1) + [False]
        calls = [made.id for message in after for made in message.tool_calls]
        assert [message.tool_call_id for message in results] == calls
        assert max(tokens(messages) for messages in shown) <= LENGTH

    sail(test)


def test_a_summary_takes_the_place_of_the_past_and_is_paid_for() -> None:
    async def test(harbour: Harbour) -> None:
        run_id, shown = await run(harbour, working(9), context_strategy="summary")
        (first, *_) = await harbour.events(run_id, ContextReduced)
        assert first.strategy == "summary"
        assert first.summary is not None
        assert first.usage is not None
        asked = await harbour.events(run_id, ModelAsked)
        assert [event.purpose for event in asked].count("summary") >= 1
        after = next(messages for messages in shown if any("What I know." in words(m) for m in messages))
        assert [message.role for message in after] == ["system", "user", "user"]
        assert words(after[1]) == "The goal."
        summary = await harbour.get(run_id)
        answers = len(shown)
        assert summary.usage.completion_tokens == 10 + 800 * 9 + 10 * (answers - 10)

    sail(test)


def test_discard_all_starts_again_from_the_goal_and_what_people_said() -> None:
    async def test(harbour: Harbour) -> None:
        model = await harbour.model(working(9), context_length=LENGTH)
        await harbour.tools()
        await harbour.coordinator()
        run_id = await harbour.start("The goal.", context_strategy="discard_all")
        await harbour.command(run_id, SteerRun(message=await harbour.message("In English.")))
        assert (await harbour.ended(run_id)).status == "finished"
        assert {event.strategy for event in await harbour.events(run_id, ContextReduced)} == {"discard_all"}
        after = next(shown for before, shown in itertools.pairwise(model.conversations) if len(shown) < len(before))
        assert [words(message) for message in after[1:3]] == ["The goal.", "In English."]

    sail(test)


def test_a_refused_length_is_reduced_and_asked_again_where_no_window_is_announced() -> None:
    async def test(harbour: Harbour) -> None:
        model = await harbour.model(working(14), context_length=None)
        await harbour.tools()
        await harbour.coordinator()
        run_id = await harbour.start("The goal.")
        assert (await harbour.ended(run_id)).status == "finished"
        assert await harbour.events(run_id, ContextReduced)
        assert any(tokens(messages) > LENGTH for messages in model.conversations)

    sail(test)


def test_a_summary_that_cannot_be_had_is_no_end() -> None:
    async def test(harbour: Harbour) -> None:
        run_id, _ = await run(harbour, working(9, summary=""), context_strategy="summary")
        assert {event.strategy for event in await harbour.events(run_id, ContextReduced)} == {"discard_all"}

    sail(test)


def test_a_tokenizer_is_asked_how_long_the_prompt_is_before_anything_is_given_up() -> None:
    """Each result is estimated at thrice its tokens: by the estimate alone, the context would be full."""

    async def test(harbour: Harbour) -> None:
        counted: list[int] = []

        async def count(context: RequestContext, body: CountRequest, out: CallWriter) -> None:
            counted.append(len(body.chat.messages))
            await out.send(TokensCounted(prompt_tokens=10 * len(body.chat.messages)))

        def script(messages: list[Message]) -> Say:
            given = sum(message.role == "assistant" for message in messages)
            arguments = f'{{"n":{given},"pad":"{RESULT * 6}"}}'
            calls = (call("look_up", arguments, given),) if given < 3 else ()
            return Say("" if calls else "done", calls=calls, prompt_tokens=10 * len(messages), completion_tokens=5)

        model = ScriptedModel(harbour.blobs, script)
        await harbour.beside(
            serving_model(
                harbour.bus, model, clock=harbour.clock, context_length=LENGTH, service=names.SERVICE_TOKENIZER
            )
        )
        await harbour.beside(
            serve(
                harbour.bus,
                harbour.clock,
                name=names.SERVICE_TOKEN_COUNTS,
                subject=names.count(MODEL),
                handler=count,
                body_type=CountRequest,
                max_calls=4,
                version="1.0.0",
            )
        )
        await harbour.tools()
        await harbour.coordinator()
        run_id = await harbour.start()
        assert (await harbour.ended(run_id)).status == "finished"
        assert counted
        assert not await harbour.events(run_id, ContextReduced)

    sail(test)


def ref(size: int) -> BlobRef:
    return BlobRef(key="sha256/x", size_bytes=size)


turns = some.lists(
    some.builds(
        Turn,
        message=some.integers(1, 50_000).map(ref),
        kind=some.sampled_from(["assistant", "tool", "person", "coordinator"]),
        step=some.integers(1, 9),
    ),
    max_size=30,
)


@given(turns, some.sampled_from(ORDER), some.integers(1, 9), some.integers(100, 100_000))
def test_the_strategies_follow_each_other_and_come_to_an_end(
    made: list[Turn], wanted: str, step: int, length: int
) -> None:
    goal = Turn(message=ref(10), kind="given", step=0)
    conversation = Conversation(turns=[goal, *sorted(made, key=lambda turn: turn.step)])
    window = Window(context_length=length, reserve=1000)
    used: list[str] = []
    for _ in range(5):
        strategy = context.reduction(conversation, length + 1, window, wanted, step)  # type: ignore[arg-type]
        if strategy is None:
            break
        used.append(strategy)
        through = context.through_step(strategy, step)
        summary = ref(10) if strategy == "summary" else None
        conversation.reduced(ContextReduced(strategy=strategy, through_step=through, summary=summary))
    assert used == sorted(set(used), key=ORDER.index), "each at most once, weaker ones first"
    assert len(used) <= 3


@given(turns, some.integers(0, 9))
def test_the_gauge_shrinks_with_what_is_shown(made: list[Turn], through: int) -> None:
    conversation = Conversation(turns=sorted(made, key=lambda turn: turn.step))
    gauge = Gauge(conversation.shown())
    before = gauge.prompt_tokens
    assert abs(before - weight(conversation.shown())) <= 1
    conversation.reduced(ContextReduced(strategy="hide_tool_results", through_step=through))
    gauge.reduced(conversation.shown())
    assert gauge.prompt_tokens <= before
    assert abs(gauge.prompt_tokens - weight(conversation.shown())) <= 1


@given(turns, some.integers(0, 9), some.sampled_from(ORDER), turns)
def test_the_transcript_is_what_the_conversation_shows(
    made: list[Turn], through: int, strategy: ContextStrategy, later: list[Turn]
) -> None:
    conversation = Conversation()
    transcript = Transcript(conversation)
    for turn in sorted(made, key=lambda turn: turn.step):
        conversation.turns.append(turn)
        transcript.grown()
    summary = ref(10) if strategy == "summary" else None
    conversation.reduced(ContextReduced(strategy=strategy, through_step=through, summary=summary))
    transcript.reduced()
    for turn in later:
        conversation.turns.append(msgspec.structs.replace(turn, step=through + 1))
        transcript.grown()
    assert transcript.payloads == Transcript(conversation).payloads
    assert len(transcript.payloads) == len(conversation.shown())
