"""The models that are served: the union of what tokenizers and upstreams announce in discovery.

Input: discovery metadata. Output: model entries. Cached for about a second; it must not know how a model is called.
"""

import asyncio

import msgspec

from schemas import names
from shared.bus.interface import Bus, ServiceInfo
from shared.clock import Clock
from shared.errors import NotFound, Unavailable

ANSWERERS = (names.SERVICE_TOKENIZER, names.SERVICE_UPSTREAM)
"""Micro services that answer chats."""

ALIAS = "default"
"""Stands for the only model, where there is exactly one."""


class ModelEntry(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of ``GET /v1/models``."""

    id: str
    object: str = "model"
    created: int = 0
    owned_by: str = "moontide"
    context_length: int | None = None
    capabilities: tuple[str, ...] = ()
    licence: str = ""
    random_weights: bool = False
    """True: the weights are random, and answers are noise."""


class ModelDirectory:
    def __init__(self, bus: Bus, clock: Clock, max_age_seconds: float) -> None:
        self._bus = bus
        self._clock = clock
        self._max_age_seconds = max_age_seconds
        self._entries: dict[str, ModelEntry] = {}
        self._seen: dict[str, ModelEntry] = {}
        self._asked_at: float | None = None
        self._created = int(clock.unix_seconds())
        self._asking = asyncio.Lock()

    async def entries(self) -> tuple[ModelEntry, ...]:
        """What is served now, sorted by name. Raises Unavailable when the bus cannot be asked."""
        async with self._asking:
            if self._asked_at is None or self._clock.monotonic_seconds() - self._asked_at > self._max_age_seconds:
                found = await asyncio.gather(*(self._bus.discover(service) for service in ANSWERERS))
                self._entries = union([info for infos in found for info in infos], self._created)
                self._seen |= self._entries
                self._asked_at = self._clock.monotonic_seconds()
        return tuple(self._entries[name] for name in sorted(self._entries))

    async def resolve(self, name: str) -> str:
        """The model that a request means. A model that was there before is taken as known, since its tokenizer may
        just be restarting. Raises NotFound(``model_not_found``), Unavailable when no model is known at all."""
        if name in self._seen:
            return name
        known = [entry.id for entry in await self.entries()]
        if name in known:
            return name
        if name == ALIAS and len(known) == 1:
            return known[0]
        if not known and not self._seen:
            raise Unavailable("model.none", "no model is being served yet", retry_after_seconds=2.0)
        raise _unknown(name, sorted({*self._seen, *known}))

    def capabilities(self, name: str) -> frozenset[str]:
        """What a resolved model was last heard to announce; empty when it announces nothing."""
        entry = self._seen.get(name)
        return frozenset(entry.capabilities) if entry is not None else frozenset()

    async def entry(self, name: str) -> ModelEntry:
        """Raises NotFound(``model_not_found``)."""
        entries = await self.entries()
        for entry in entries:
            if entry.id == name:
                return entry
        raise _unknown(name, [entry.id for entry in entries])


def union(infos: list[ServiceInfo], created: int) -> dict[str, ModelEntry]:
    """One entry per model name; replicas of a model announce the same."""
    entries = (_entry(info.metadata, created) for info in infos)
    return {entry.id: entry for entry in entries if entry is not None}


def _entry(metadata: dict[str, str], created: int) -> ModelEntry | None:
    model = metadata.get("model", "")
    if not model:
        return None
    length = metadata.get("context_length", "")
    return ModelEntry(
        id=model,
        created=created,
        context_length=int(length) if length.isdecimal() else None,
        capabilities=tuple(item.strip() for item in metadata.get("capabilities", "").split(",") if item.strip()),
        licence=metadata.get("licence", ""),
        random_weights=metadata.get("random_weights", "false") == "true",
    )


def _unknown(name: str, known: list[str]) -> NotFound:
    listed = ", ".join(known) or "none"
    return NotFound("model_not_found", f"model {name[:200]!r} is not served here; known: {listed}", param="model")
