"""A conversation that may be too long for its model, with nothing in it that could be dropped."""

import msgspec

from schemas.blobs import BlobRef
from services.coordinator.catalogue import Catalogue
from services.coordinator.context import Window
from services.coordinator.gauge import Gauge
from services.coordinator.prices import FREE
from services.coordinator.step import AskModel, End, Limits, Refusals, Situation, decide
from services.coordinator.trail import Trail
from shared.ledger.state import RunState, replay
from tests.unit.ledger.history import History


def situation(refusals: Refusals) -> Situation:
    """A run with one huge message, just taken."""
    history = History()
    history.take()
    state: RunState = replay(history.entries)
    huge = BlobRef(key="sha256/huge", size_bytes=900_000)
    state.conversation.turns = [msgspec.structs.replace(turn, message=huge) for turn in state.conversation.turns]
    limits = Limits(window=Window(context_length=262_144, reserve=16_384), price=FREE, catalogue=Catalogue(()))
    trail = Trail(state=state, gauge=Gauge(state.conversation.turns))
    assert trail.gauge.prompt_tokens > 262_144
    return Situation(state, trail, limits, state.created_unix_seconds + 1, refusals)


def test_an_estimate_alone_ends_no_run() -> None:
    assert isinstance(decide(situation(Refusals())), AskModel)


def test_what_the_models_side_refuses_does() -> None:
    decision = decide(situation(Refusals(too_long=True)))
    assert isinstance(decision, End)
    assert decision.failure is not None
    assert decision.failure.code == "run.context_full"
