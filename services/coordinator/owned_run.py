"""A run that this process owns: its state, and the moment that is about to be recorded.

Input: events. Output: one append per moment, and the same entry live. The state runs ahead of the ledger by one moment:
nothing is done in the world before the ledger has caught up, and when it cannot, the state is thrown away. It must not
know how decisions are made.
"""

from schemas.runs import LeaseTaken, LedgerEntry, NumberedEntry, RunEvent
from services.coordinator.live import Live
from services.coordinator.trail import Trail
from shared.clock import Clock
from shared.ledger.journal import LedgerWriter
from shared.ledger.state import RunState


class OwnedRun:
    def __init__(self, state: RunState, trail: Trail, writer: LedgerWriter, live: Live, clock: Clock) -> None:
        self.state = state
        self.trail = trail
        self.live = live
        self._writer = writer
        self._clock = clock
        self._owner = state.place.owner
        self._term = state.place.term
        self._moment: list[RunEvent] = []

    @property
    def run_id(self) -> str:
        return self.state.run_id

    @property
    def term(self) -> int:
        return self._term

    @property
    def recorded(self) -> bool:
        """The state says nothing that the ledger does not."""
        return not self._moment

    def resumed(self, state: RunState, trail: Trail) -> "OwnedRun":
        """The same owner's run over a state that was read again."""
        return OwnedRun(state, trail, self._writer, self.live, self._clock)

    def take(self, owner: str) -> None:
        """The first event of a new owner."""
        self._owner, self._term = owner, self.state.place.term + 1
        self.foresee(LeaseTaken(owner=owner, term=self._term))

    def foresee(self, *events: RunEvent) -> None:
        """They belong to the present moment. Raises IllegalTransition for what cannot come now."""
        entry = LedgerEntry(
            entry_id="",
            run_id=self.state.run_id,
            owner=self._owner,
            term=self._term,
            time_unix_seconds=self._clock.unix_seconds(),
            events=events,
        )
        numbered = NumberedEntry(sequence=self.state.last_sequence + 1, entry=entry)
        self.state.apply(numbered, self.trail.take)
        self._moment += events

    async def record(self) -> None:
        """The moment is in the ledger when this returns. Raises Fenced when another owner has the run."""
        if not self._moment:
            return
        numbered = await self._writer.append(tuple(self._moment))
        self._moment.clear()
        self.state.last_sequence = numbered.sequence
        await self.live.entry(numbered)
