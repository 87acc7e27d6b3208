"""The models that are served: the union of what tokenizers and upstreams announce in discovery, their variants, and
the agent of each that can call tools while a coordinator is there.

Input: discovery metadata. Output: model entries, and what a name stands for. Cached for about a second; it must not
know how a model is called.
"""

import asyncio
import logging
from dataclasses import dataclass

import msgspec

from schemas import codec, names
from schemas.chat import ModelVariant
from shared.bus.interface import Bus, ServiceInfo
from shared.clock import Clock
from shared.errors import NotFound, Unavailable

log = logging.getLogger(__name__)

ANSWERERS = (names.SERVICE_TOKENIZER, names.SERVICE_UPSTREAM)
"""Micro services that answer chats."""

AGENT_SUFFIX = "-agent"
TOOLS = "tools"
"""The capability that an agent needs."""

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
    variant_of: str | None = None
    """Another name for the same weights, with defaults of its own."""


class ModelList(msgspec.Struct, frozen=True, kw_only=True):
    object: str = "list"
    data: tuple[ModelEntry, ...]


@dataclass(frozen=True)
class Target:
    """What the ``model`` of a request stands for."""

    entry: ModelEntry
    variant: ModelVariant | None = None
    counts_tokens: bool = False
    agent: bool = False
    """A chat with it is a durable run."""

    @property
    def model(self) -> str:
        """The name on the bus."""
        return self.entry.variant_of or self.entry.id

    @property
    def capabilities(self) -> frozenset[str]:
        return frozenset(self.entry.capabilities)


class ModelDirectory:
    def __init__(self, bus: Bus, clock: Clock, max_age_seconds: float) -> None:
        self._bus = bus
        self._clock = clock
        self._max_age_seconds = max_age_seconds
        self._targets: dict[str, Target] = {}
        self._seen: dict[str, Target] = {}
        self._kinds: frozenset[str] = frozenset()
        self._asked_at: float | None = None
        self._created = int(clock.unix_seconds())
        self._asking = asyncio.Lock()

    async def entries(self) -> tuple[ModelEntry, ...]:
        """What is served now, sorted by name. Raises Unavailable when the bus cannot be asked."""
        async with self._asking:
            if self._asked_at is None or self._clock.monotonic_seconds() - self._asked_at > self._max_age_seconds:
                asked = (names.SERVICE_COORDINATOR, *ANSWERERS)
                coordinators, *found = await asyncio.gather(*(self._bus.discover(service) for service in asked))
                self._kinds = kinds(coordinators)
                targets = union([info for infos in found for info in infos], self._created)
                self._targets = with_agents(targets) if "agent" in self._kinds else targets
                self._seen |= self._targets
                self._asked_at = self._clock.monotonic_seconds()
        return tuple(self._targets[name].entry for name in sorted(self._targets))

    async def kinds(self) -> frozenset[str]:
        """Kinds of runs that coordinators take now. Raises as ``entries``."""
        await self.entries()
        return self._kinds

    async def resolve(self, name: str) -> Target:
        """What a request means. A model that was there before is taken as known, since its tokenizer may just be
        restarting. Raises NotFound(``model_not_found``), Unavailable when no model is known at all."""
        if name in self._seen:
            return self._seen[name]
        entries = await self.entries()
        if name in self._targets:
            return self._targets[name]
        models = [entry.id for entry in entries if entry.variant_of is None]
        if name == ALIAS and len(models) == 1:
            return self._targets[models[0]]
        if not models and not self._seen:
            raise Unavailable("model.none", "no model is being served yet", retry_after_seconds=2.0)
        raise _unknown(name, sorted({*self._seen, *self._targets}))

    async def entry(self, name: str) -> ModelEntry:
        """Raises NotFound(``model_not_found``)."""
        entries = await self.entries()
        for entry in entries:
            if entry.id == name:
                return entry
        raise _unknown(name, [entry.id for entry in entries])


def union(infos: list[ServiceInfo], created: int) -> dict[str, Target]:
    """One target per name; replicas of a model announce the same. A model's own name wins over a variant's."""
    targets: dict[str, Target] = {}
    for info in infos:
        entry = _entry(info.metadata, created)
        if entry is None:
            continue
        counts = info.name == names.SERVICE_TOKENIZER
        for variant in _variants(info.metadata):
            named = msgspec.structs.replace(entry, id=variant.id, variant_of=entry.id)
            if variant.id not in targets or targets[variant.id].variant is not None:
                targets[variant.id] = Target(named, variant, counts)
        targets[entry.id] = Target(entry, None, counts)
    return targets


def with_agents(targets: dict[str, Target]) -> dict[str, Target]:
    """A name of its own wins over an agent's."""
    agents: dict[str, Target] = {}
    for target in targets.values():
        if target.variant is None and TOOLS in target.capabilities:
            name = f"{target.entry.id}{AGENT_SUFFIX}"
            named = msgspec.structs.replace(target.entry, id=name, variant_of=target.entry.id)
            agents[name] = Target(named, None, agent=True)
    return agents | targets


def kinds(coordinators: list[ServiceInfo]) -> frozenset[str]:
    """Announced as ``kinds``, with commas between them."""
    announced = [info.metadata.get("kinds", "").split(",") for info in coordinators]
    return frozenset(kind.strip() for kinds in announced for kind in kinds if kind.strip())


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


def _variants(metadata: dict[str, str]) -> tuple[ModelVariant, ...]:
    text = metadata.get("variants", "")
    try:
        return codec.decode_json(text, tuple[ModelVariant, ...]) if text else ()
    except (msgspec.DecodeError, RecursionError):
        log.warning("variants cannot be read", extra={"model": metadata.get("model", "")})
        return ()


def _unknown(name: str, known: list[str]) -> NotFound:
    listed = ", ".join(known) or "none"
    return NotFound("model_not_found", f"model {name[:200]!r} is not served here; known: {listed}", param="model")
