"""HTTP handlers of what a run says: its events as a stream, single events, and its files.

Input: requests whose principal is known. Output: server-sent events whose ids are places in the ledger, and bytes. A
reader that does not read is dropped, and resumes behind the last event that it has.
"""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import aclosing, contextmanager

from aiohttp import web

from schemas.request import Principal
from schemas.runs import RunDelta
from services.gateway.config import GatewayConfig
from services.gateway.error_body import json_response, to_failure
from services.gateway.event_stream import EventStream
from services.gateway.file_body import FileBodies
from services.gateway.identity import PRINCIPAL
from services.gateway.json_body import refused
from services.gateway.limits import Budget
from services.gateway.run_event_body import Cut, cut_at
from services.gateway.run_event_view import EventViews, delta_view
from services.gateway.run_feed import TERMINAL, RunFeed
from services.gateway.run_files import RunFiles
from services.gateway.run_id import checked_run_id
from services.gateway.run_view import RunFileList
from services.gateway.runs import Runs
from shared.errors import Cancelled, MoontideError

log = logging.getLogger(__name__)

LAST_EVENT_ID = "Last-Event-ID"
RETRY_SECONDS = 1.0
"""After which a browser comes back to a stream that broke."""


class RunEventHandlers:
    def __init__(
        self,
        config: GatewayConfig,
        runs: Runs,
        views: EventViews,
        files: RunFiles,
        bodies: FileBodies,
        watchers: Budget,
    ) -> None:
        self._config = config
        self._runs = runs
        self._views = views
        self._files = files
        self._bodies = bodies
        self._watchers = watchers
        self._watching: set[asyncio.Task[object]] = set()

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/v1/runs/{id}/events", self.events),
            web.get("/v1/runs/{id}/events/{event}", self.event),
            web.get("/v1/runs/{id}/files", self.list_files),
            web.get("/v1/runs/{id}/files/{name:.+}", self.file),
        ]

    def let_go(self) -> None:
        """At the end of the gateway: readers of runs need not be waited for, since they resume elsewhere."""
        for task in self._watching:
            task.cancel()

    async def events(self, request: web.Request) -> web.StreamResponse:
        """``GET /v1/runs/{id}/events``, resumed by ``Last-Event-ID`` or ``?after=``. 204 when nothing will follow,
        which ends a browser's attempts to come back."""
        run_id, cut = checked_run_id(request.match_info["id"]), _cut(request)
        with self._watchers.take(), self._watched():
            summary = await self._runs.get(request[PRINCIPAL], run_id)
            if summary.status in TERMINAL and cut.sequence >= summary.last_sequence:
                return web.Response(status=204)
            stream = EventStream(request, self._config.write_timeout_seconds)
            try:
                await self._send(stream, request[PRINCIPAL], run_id, cut)
            except Exception as error:
                if not stream.started:
                    raise
                if not isinstance(error, MoontideError):
                    log.exception("stream of a run failed")
                if not isinstance(error, Cancelled):
                    await stream.fail(to_failure(error))
            return stream.response

    async def _send(self, stream: EventStream, principal: Principal, run_id: str, cut: Cut) -> None:
        feed = RunFeed(self._runs, principal, self._config.run_poll_seconds, self._config.run_unreachable_seconds)
        await feed.open(run_id)
        try:
            await self._tell(stream, feed, cut)
        finally:
            await feed.close()

    async def _tell(self, stream: EventStream, feed: RunFeed, cut: Cut) -> None:
        await stream.open(RETRY_SECONDS)
        async with stream.kept_alive(self._config.heartbeat_seconds), aclosing(feed.items(cut.sequence)) as items:
            async for item in items:
                if isinstance(item, RunDelta):
                    await stream.send(delta_view(item))
                    continue
                skip = cut.events if item.sequence == cut.sequence + 1 else 0
                for event in await self._views.of(item, skip):
                    await stream.send_numbered(event.id, event)

    @contextmanager
    def _watched(self) -> Iterator[None]:
        task = asyncio.current_task()
        assert task is not None
        self._watching.add(task)
        try:
            yield
        finally:
            self._watching.discard(task)

    async def event(self, request: web.Request) -> web.Response:
        """``GET /v1/runs/{id}/events/{event}``: one event with all of its text."""
        run_id = checked_run_id(request.match_info["id"])
        numbered, index = await self._files.event(request[PRINCIPAL], run_id, request.match_info["event"])
        return json_response(await self._views.whole(numbered, index))

    async def list_files(self, request: web.Request) -> web.Response:
        """``GET /v1/runs/{id}/files``: outputs, and the workspace as the last step left it."""
        run_id = checked_run_id(request.match_info["id"])
        return json_response(RunFileList(data=await self._files.list(request[PRINCIPAL], run_id)))

    async def file(self, request: web.Request) -> web.StreamResponse:
        """``GET /v1/runs/{id}/files/{name}``."""
        run_id = checked_run_id(request.match_info["id"])
        file = await self._files.find(request[PRINCIPAL], run_id, request.match_info["name"])
        return await self._bodies.answer(request, file.content, file.media_type)


def _cut(request: web.Request) -> Cut:
    """Raises BadInput."""
    name = LAST_EVENT_ID if LAST_EVENT_ID in request.headers else "after"
    text = request.headers.get(LAST_EVENT_ID) or request.query.get("after") or "0"
    try:
        return cut_at(text)
    except ValueError as error:
        raise refused(name, "must be the id of an event of this stream") from error
