"""The conversation as the next request shows it: one reference or a few words per turn, kept up to date.

Input: a conversation that grows, and sometimes is reduced. Output: payloads for a ``ChatRequest``. Pure. A step adds
its own turns only, at the thousandth step as at the first; a reduction goes over all of them once.
"""

from schemas.blobs import Payload
from services.coordinator import prompt
from shared.ledger.conversation import Conversation, Turn


class Transcript:
    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self.payloads: list[Payload] = []
        """Without the system prompt."""
        self._seen = 0
        self.reduced()

    def reduced(self) -> None:
        """The conversation shows less of its past now."""
        self.payloads = [_payload(turn) for turn in self._conversation.shown()]
        self._seen = len(self._conversation.turns)

    def grown(self) -> None:
        """New turns are behind everything that was reduced: each is shown as it is."""
        turns = self._conversation.turns
        self.payloads += [turn.message for turn in turns[self._seen :]]
        self._seen = len(turns)


def _payload(turn: Turn) -> Payload:
    if turn.hidden:
        return prompt.tool_words(turn.tool_call_id, prompt.HIDDEN_RESULT)
    return turn.message
