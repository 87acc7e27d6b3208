"""The models that are served now, as far as a run needs to know them.

Input: what tokenizers and upstreams announce in discovery. Output: context length and abilities by name, cached for a
second. It must not know how a model is called.
"""

import asyncio

import msgspec

from schemas import names
from shared.bus.interface import Bus, ServiceInfo
from shared.clock import Clock
from shared.errors import NotFound, Unavailable

ANSWERERS = (names.SERVICE_TOKENIZER, names.SERVICE_UPSTREAM)
MAX_AGE_SECONDS = 1.0


class ServedModel(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    context_length: int | None = None
    capabilities: frozenset[str] = frozenset()
    counts_tokens: bool = False

    @property
    def calls_tools(self) -> bool:
        """A model that announces nothing is asked, and may refuse."""
        return not self.capabilities or "tools" in self.capabilities


class Models:
    def __init__(self, bus: Bus, clock: Clock) -> None:
        self._bus = bus
        self._clock = clock
        self._served: dict[str, ServedModel] = {}
        self._seen: dict[str, ServedModel] = {}
        self._asked_at: float | None = None
        self._asking = asyncio.Lock()

    async def served(self) -> dict[str, ServedModel]:
        async with self._asking:
            now = self._clock.monotonic_seconds()
            if self._asked_at is None or now - self._asked_at > MAX_AGE_SECONDS:
                found = await asyncio.gather(*(self._bus.discover(service) for service in ANSWERERS))
                self._served = union([info for infos in found for info in infos])
                self._seen |= self._served
                self._asked_at = self._clock.monotonic_seconds()
        return self._served

    async def find(self, name: str) -> ServedModel:
        """A model that was there before counts as served: it may just be restarting.

        Raises NotFound(``model_not_found``), Unavailable(``model.none``) when no model is known at all."""
        if name in self._seen:
            return self._seen[name]
        served = await self.served()
        if name in served:
            return served[name]
        if not self._seen:
            raise Unavailable("model.none", "no model is being served yet", retry_after_seconds=2.0)
        known = ", ".join(sorted(self._seen))
        raise NotFound("model_not_found", f"model {name[:200]!r} is not served here; known: {known}", param="model")

    def last_known(self, name: str) -> ServedModel:
        return self._seen.get(name) or ServedModel(name=name)


def union(infos: list[ServiceInfo]) -> dict[str, ServedModel]:
    """One entry per name; replicas of a model announce the same."""
    models = {}
    for info in infos:
        name = info.metadata.get("model", "")
        if name:
            models[name] = _model(name, info)
    return models


def _model(name: str, info: ServiceInfo) -> ServedModel:
    length = info.metadata.get("context_length", "")
    listed = info.metadata.get("capabilities", "").split(",")
    return ServedModel(
        name=name,
        context_length=int(length) if length.isdecimal() and int(length) > 0 else None,
        capabilities=frozenset(item.strip() for item in listed if item.strip()),
        counts_tokens=info.name == names.SERVICE_TOKENIZER,
    )
