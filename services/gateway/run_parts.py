"""Wiring of everything about runs: what serves ``/v1/runs``, and what a chat with an agent uses of it.

Input: the parts of the gateway. Output: routes, and what ends with the gateway.
"""

from aiohttp import web

from services.gateway.agent_chat import AgentChats
from services.gateway.config import GatewayConfig
from services.gateway.file_body import FileBodies
from services.gateway.limits import Budget
from services.gateway.message_view import Messages
from services.gateway.models import ModelDirectory
from services.gateway.quotas import Quotas
from services.gateway.request_body import RequestBodies
from services.gateway.run_command_handlers import RunCommandHandlers
from services.gateway.run_event_handlers import RunEventHandlers
from services.gateway.run_event_view import EventViews
from services.gateway.run_files import RunFiles
from services.gateway.run_handlers import RunHandlers
from services.gateway.run_request import RunRequests
from services.gateway.run_starts import RunStarts
from services.gateway.runs import Runs
from shared.service import Process


class RunParts:
    def __init__(
        self,
        config: GatewayConfig,
        process: Process,
        models: ModelDirectory,
        bodies: RequestBodies,
        requests: RunRequests,
        file_bodies: FileBodies,
        quotas: Quotas,
    ) -> None:
        self.runs = Runs(process.bus, process.clock, config.run_timeout_seconds)
        self.messages = Messages(process.blobs)
        self.starts = RunStarts(self.runs, process.blobs, models, requests, quotas)
        watchers = Budget("readers of runs", config.max_watchers)
        self.agents = AgentChats(config, self.runs, self.starts, self.messages, watchers)
        views = EventViews(self.messages)
        files = RunFiles(self.runs, process.blobs, views)
        self._handlers = RunHandlers(
            config.sampling, process.telemetry, bodies, models, requests, self.starts, self.runs, self.messages
        )
        self._commands = RunCommandHandlers(bodies, requests, self.runs)
        self._events = RunEventHandlers(config, self.runs, views, files, file_bodies, watchers)

    def routes(self) -> list[web.RouteDef]:
        return [*self._handlers.routes(), *self._commands.routes(), *self._events.routes()]

    async def let_go(self, application: web.Application) -> None:
        """For ``on_shutdown``."""
        self.agents.drain()
        self._events.let_go()

    async def settle(self, application: web.Application) -> None:
        """For ``on_cleanup``."""
        await self.agents.settle()
