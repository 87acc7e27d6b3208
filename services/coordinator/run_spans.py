"""The spans of one owner's part of a run, all in the run's trace: the part itself, and its steps.

Input: where the run is. Output: the traceparent under which model and tool calls belong. A step's span ends when the
next one begins; it must not know what is in them.
"""

from contextlib import ExitStack
from typing import TYPE_CHECKING

from schemas.telemetry import (
    ATTR_MODEL,
    ATTR_OPERATION,
    ATTR_RUN_ID,
    ATTR_RUN_OUTCOME,
    ATTR_RUN_STEP,
    ATTR_RUN_TERM,
    SPAN_AGENT,
    SPAN_AGENT_STEP,
)
from shared.ledger.state import RunState
from shared.telemetry.request import request_attributes

if TYPE_CHECKING:
    from shared.telemetry.span import Span
    from shared.telemetry.tracing import Telemetry


class RunSpans:
    """A context manager around an owner's work on a run."""

    def __init__(self, telemetry: "Telemetry", state: RunState, term: int) -> None:
        self._telemetry = telemetry
        self._state = state
        self._attributes = request_attributes(state.context) | {
            ATTR_RUN_ID: state.run_id,
            ATTR_MODEL: state.spec.model,
            ATTR_OPERATION: "invoke_agent",
        }
        self._agent = telemetry.span(
            SPAN_AGENT,
            parent=state.context.traceparent,
            kind="consumer",
            attributes=self._attributes | {ATTR_RUN_TERM: term},
        )
        self._stack = ExitStack()
        self._step: tuple[int, Span] | None = None

    def __enter__(self) -> "RunSpans":
        self._agent.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()
        self._agent.set_attribute(ATTR_RUN_OUTCOME, self._state.status)
        self._agent.__exit__(*error)  # type: ignore[arg-type]

    def traceparent(self) -> str:
        """Of the step in work; its span begins now if it has none."""
        step = self._state.step
        if self._step is None or self._step[0] != step:
            self._stack.close()
            span = self._telemetry.span(
                SPAN_AGENT_STEP, parent=self._agent.traceparent, attributes=self._attributes | {ATTR_RUN_STEP: step}
            )
            self._step = step, self._stack.enter_context(span)
        return self._step[1].traceparent
