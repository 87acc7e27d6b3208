"""What people can see of a run while it works: live entries and pieces, and one trace."""

from schemas import names
from schemas.codec import decode
from schemas.runs import NumberedEntry, RunDelta, RunLive
from schemas.telemetry import SPAN_AGENT, SPAN_AGENT_STEP, SPAN_CHAT, SpanEnded, tool_span
from shared.bus.fake import FakeBus
from shared.service import Process
from shared.telemetry.recording import RecordingTelemetry
from tests.integration.coordinator.scripted import Say, call, in_turn
from tests.unit.coordinator.harbour import Harbour, sail

ANSWERS = (Say("Looking.", calls=(call("look_up"),), reasoning="Hm."), Say("Done, at last."))


def test_entries_are_live_as_they_are_appended_with_the_answers_pieces_in_between() -> None:
    async def test(harbour: Harbour) -> None:
        await harbour.model(in_turn(*ANSWERS))
        await harbour.tools()
        await harbour.coordinator()
        watching = await harbour.bus.subscribe(f"{names.PREFIX}.runs.live.*")
        run_id = await harbour.start()
        await harbour.ended(run_id)
        seen = []
        while (data := await watching.next(1.0)) is not None:
            seen.append(decode(data, RunLive))  # type: ignore[arg-type]
        entries = [item for item in seen if isinstance(item, NumberedEntry)]
        assert entries == (await harbour.entries(run_id))[1:], "all but the acceptance"
        pieces = [item for item in seen if isinstance(item, RunDelta) and not item.call_id]
        shown = {step: "".join(p.content for p in pieces if p.step == step) for step in (1, 2)}
        assert shown == {1: "Looking.", 2: "Done, at last."}
        assert pieces[0].reasoning == "Hm."
        assert [piece.content_start for piece in pieces] == [0, 0]
        assert any(item.progress == "working" for item in seen if isinstance(item, RunDelta))

    sail(test)


class Watched(Harbour):
    """Whose coordinator's spans are kept here."""

    telemetry: RecordingTelemetry

    def _process(self, bus: FakeBus) -> Process:
        self.telemetry = RecordingTelemetry("coordinator", bus.instance)
        return Process(name="coordinator", bus=bus, blobs=self.memory, telemetry=self.telemetry, clock=self.clock)


def test_a_run_is_one_trace_with_a_span_per_step_and_call() -> None:
    async def test(harbour: Harbour) -> None:
        assert isinstance(harbour, Watched)
        model = await harbour.model(in_turn(*ANSWERS))
        await harbour.tools()
        await harbour.coordinator()
        run_id = await harbour.start()
        summary = await harbour.ended(run_id)
        await harbour.clock.sleep(1.0)
        spans = [message for message in harbour.telemetry.messages if isinstance(message, SpanEnded)]
        assert {span.trace_id for span in spans} == {summary.trace_id}
        (agent,) = [span for span in spans if span.name == SPAN_AGENT]
        steps = [span for span in spans if span.name == SPAN_AGENT_STEP]
        chats = [span for span in spans if span.name == SPAN_CHAT]
        (tool,) = [span for span in spans if span.name == tool_span("look_up")]
        assert [span.parent_span_id for span in steps] == [agent.span_id, agent.span_id]
        assert [span.parent_span_id for span in chats] == [span.span_id for span in steps]
        assert tool.parent_span_id == steps[0].span_id
        assert {context.traceparent.split("-")[2] for context in model.contexts} == {span.span_id for span in chats}

    sail(test, Watched)
