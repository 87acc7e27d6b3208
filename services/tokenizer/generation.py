"""The ``generate.<model>`` call of one answer: ids in, deltas out, across the deaths of engines.

Input: a request for an engine and the answer's progress. Output: the engine's last word. Knows nothing of messages.
"""

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass

import msgspec

from schemas import names
from schemas.blobs import INLINE_MAX_BYTES, BlobRef, Payload
from schemas.chat import ChatDelta
from schemas.generation import GenerateRequest, GenerationFinished, GenerationItem, TokensGenerated
from schemas.request import RequestContext
from services.tokenizer.blobs import Blobs
from services.tokenizer.progress import AnswerProgress
from shared.bus.interface import Bus
from shared.calls.follow import follow
from shared.calls.interface import CallPolicy, CallTarget
from shared.clock import Clock

SAVE_BYTES = 64 * 1024
"""Beyond the inline limit, emitted ids are stored anew after so many more bytes."""


@dataclass
class Generation:
    """One answer being generated. ``finished`` is None until the engine has ended it by itself."""

    bus: Bus
    clock: Clock
    blobs: Blobs
    context: RequestContext
    request: GenerateRequest
    progress: AnswerProgress
    patience_seconds: float = 0.0
    """How long an engine may be away before the caller is told; 0: as long as a call recovers."""
    finished: GenerationFinished | None = None
    _saved: BlobRef | None = None

    async def deltas(self) -> AsyncIterator[ChatDelta]:
        """Ends when the engine has, or at a stop string, which ends the engine's work."""
        await self._save()
        target = CallTarget(subject=names.generate(self.request.model), context=self.context, policy=self._policy())
        async with aclosing(follow(self.bus, self.clock, target, self._body, GenerationItem)) as items:
            async for item in items:
                if isinstance(item, GenerationFinished):
                    self.finished = item
                    continue
                yield await self._take(item)
                if self.progress.is_complete:
                    return

    def _policy(self) -> CallPolicy:
        """Patience begins when an engine is known to be away: silence tells it."""
        usual = CallPolicy()
        if self.patience_seconds <= 0:
            return usual
        return CallPolicy(recovery_seconds=usual.silence_seconds + self.patience_seconds)

    async def _take(self, item: TokensGenerated) -> ChatDelta:
        delta = self.progress.take(item)
        await self._save()
        return delta

    def _body(self) -> GenerateRequest:
        """What is still wanted, asked again for each attempt."""
        return msgspec.structs.replace(self.request, emitted_ids=self._emitted())

    def _emitted(self) -> Payload:
        """All ids, or a stored beginning of them: the engine then repeats what follows, and it is skipped here."""
        ids = self.progress.ids
        return ids if len(ids) <= INLINE_MAX_BYTES else self._saved or b""

    async def _save(self) -> None:
        size = self.progress.count * 4
        saved = self._saved.size_bytes if self._saved else 0
        if size > INLINE_MAX_BYTES and size - saved >= SAVE_BYTES:
            self._saved = await self.blobs.put(self.progress.ids)
