"""Accepted chats whose holder died, or gave up writing: closed with the terminal record that is missing.

In: the events log, and what holders answer. Out: ``failed`` records (code ``request.lost``). A chat is closed only when
its holder was asked several times over several seconds and never had it. It must not know what a chat is about.
"""

import asyncio
import logging
from collections.abc import Iterable

import msgspec

from schemas import codec, names
from schemas.events import CloudEvent, HolderAnswered, HolderQuery, RequestData
from schemas.failure import Failure
from services.coordinator.absences import Absences
from shared.bus.interface import Bus, StoredMessage
from shared.clock import Clock
from shared.errors import MoontideError, Unavailable
from shared.request_events import RequestEvents

log = logging.getLogger(__name__)

GONE_SECONDS = 10.0
"""Nobody answers for the holder, or it does not know the chat: longer than a reconnect takes."""
SILENT_SECONDS = 30.0
"""The holder is connected and does not answer: frozen, or very busy."""
LOOKS = 4
MAX_GAP_SECONDS = 15.0
ASK_SECONDS = 1.0
ASKED_IDS = 1000
ASKED_AT_ONCE = 16
PAGE_EVENTS = 1000
PAGES = 20
"""Of the log, read in one scan."""

LOST = Failure(
    code="request.lost", message="the process that held this request ended before its answer did", status=503
)


class LostChats:
    def __init__(self, bus: Bus, clock: Clock, events: RequestEvents) -> None:
        self._bus = bus
        self._clock = clock
        self._events = events
        self._open: dict[str, RequestData] = {}
        """Accepted chats without a terminal record, by request id."""
        self._position = 0
        self._gone = Absences(GONE_SECONDS, LOOKS, MAX_GAP_SECONDS)
        self._silent = Absences(SILENT_SECONDS, LOOKS, MAX_GAP_SECONDS)

    def disturbed(self) -> None:
        self._gone.disturbed()
        self._silent.disturbed()

    async def scan(self) -> None:
        """Raises Unavailable: then the next scan goes on."""
        if not await self._read():
            return
        gone, silent = await self._ask()
        await self._bus.flush()  # not our connection, then
        now = self._clock.monotonic_seconds()
        for request_id in {*self._gone.look(now, gone), *self._silent.look(now, silent)}:
            data = msgspec.structs.replace(self._open[request_id], failure=LOST)
            if await self._events.record_terminal("failed", data):
                log.warning("lost chat closed", extra={"request_id": request_id, "holder": data.holder})

    async def _read(self) -> bool:
        """Whether all of the log is known."""
        for _ in range(PAGES):
            page = await self._bus.read_log(
                names.STREAM_EVENTS, names.EVENTS_ALL, after_sequence=self._position, limit=PAGE_EVENTS
            )
            if not page:
                return True
            for message in page:
                self._take(message)
            self._position = page[-1].sequence
        return False

    def _take(self, message: StoredMessage) -> None:
        try:
            event = codec.decode_json(message.data, CloudEvent)
        except msgspec.MsgspecError:
            return
        if event.data.kind != "chat":
            return
        if event.type == "dev.moontide.request.accepted":
            self._open[event.data.request_id] = event.data
        else:
            self._open.pop(event.data.request_id, None)

    async def _ask(self) -> tuple[set[str], set[str]]:
        """Of the open chats: those that nobody has, and those of holders that are silent."""
        by_holder: dict[str, list[str]] = {}
        for request_id, data in self._open.items():
            by_holder.setdefault(data.holder, []).append(request_id)
        places = asyncio.Semaphore(ASKED_AT_ONCE)
        answers = await asyncio.gather(*(self._held(holder, ids, places) for holder, ids in by_holder.items()))
        gone: set[str] = set()
        silent: set[str] = set()
        for ids, held in zip(by_holder.values(), answers, strict=True):
            if held is None:
                silent.update(ids)
            else:
                gone |= set(ids) - held
        return gone, silent

    async def _held(self, holder: str, ids: list[str], places: asyncio.Semaphore) -> set[str] | None:
        """None: the holder is there and does not answer."""
        held: set[str] = set()
        async with places:
            for some in chunks(ids, ASKED_IDS):
                query = codec.encode(HolderQuery(request_ids=tuple(some)))
                try:
                    reply = await self._bus.request(names.holder(holder), query, ASK_SECONDS)
                    held.update(codec.decode(reply, HolderAnswered).held)
                except Unavailable as error:
                    return set() if error.code == "bus.no_responder" else None
                except (MoontideError, msgspec.MsgspecError, ValueError):
                    return None
        return held


def chunks(ids: list[str], size: int) -> Iterable[list[str]]:
    return (ids[start : start + size] for start in range(0, len(ids), size))
