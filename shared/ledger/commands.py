"""Commands to runs: stored durably, in order, also while nobody owns the run; read and followed by its owner.

In: ``RunCommand``. Out: numbered commands. The event that a command caused carries its id, so the ledger says which
ones were taken; ``untaken`` puts both together. It must not know what a command means.
"""

import logging
from collections.abc import AsyncGenerator, Iterable, Set

import msgspec

from schemas import codec, names
from schemas.runs import RunCommand
from shared.bus.interface import Bus, Subscription
from shared.clock import Clock
from shared.errors import Unavailable

log = logging.getLogger(__name__)

MAX_BYTES = 256 * 1024 * 1024
MAX_COMMANDS = 4096
"""Of one run; beyond it a command is refused."""
READ_COMMANDS = 256
POLL_SECONDS = 5.0
"""How soon a command is seen whose announcement was lost."""
SETTLE_SECONDS = 0.05
SETTLE_TRIES = 20
"""A command is announced a moment before it can be read."""


class NumberedCommand(msgspec.Struct, frozen=True, kw_only=True):
    sequence: int
    command: RunCommand


class CommandLog:
    def __init__(self, bus: Bus, clock: Clock) -> None:
        self._bus = bus
        self._clock = clock

    async def declare(self) -> None:
        await self._bus.declare_journal(
            names.STREAM_COMMANDS, (names.COMMANDS_ALL,), max_bytes=MAX_BYTES, max_per_subject=MAX_COMMANDS
        )

    async def store(self, command: RunCommand) -> None:
        """Durable when this returns. Sent again within two minutes: one command. Raises Busy for too many."""
        await self._bus.append(
            names.run_command(command.run_id), codec.encode(command), message_id=f"command-{command.command_id}"
        )

    async def read(self, run_id: str, after_sequence: int = 0) -> list[NumberedCommand]:
        """All behind a sequence, in order."""
        found: list[NumberedCommand] = []
        while batch := await self._bus.read_log(
            names.STREAM_COMMANDS, names.run_command(run_id), after_sequence=after_sequence, limit=READ_COMMANDS
        ):
            for message in batch:
                try:
                    command = codec.decode(message.data, RunCommand)
                except msgspec.MsgspecError:
                    log.warning("unreadable command skipped", extra={"run_id": run_id})
                    continue
                found.append(NumberedCommand(sequence=message.sequence, command=command))
            after_sequence = batch[-1].sequence
        return found

    async def follow(self, run_id: str, after_sequence: int = 0) -> AsyncGenerator[NumberedCommand, None]:
        """Those behind a sequence, and then each as it comes; does not end, and outlives a broker that is away."""
        bell = await self._bus.subscribe(names.run_command(run_id))
        try:
            rung = False
            while True:
                for numbered in await self._new(run_id, after_sequence, SETTLE_TRIES if rung else 1):
                    after_sequence = numbered.sequence
                    yield numbered
                bell, rung = await self._wait(run_id, bell)
        finally:
            await bell.close()

    async def _new(self, run_id: str, after_sequence: int, tries: int) -> list[NumberedCommand]:
        for _ in range(tries):
            try:
                if found := await self.read(run_id, after_sequence):
                    return found
            except Unavailable as error:
                log.warning("commands not readable", extra={"run_id": run_id, "code": error.code})
            if tries > 1:
                await self._clock.sleep(SETTLE_SECONDS)
        return []

    async def _wait(self, run_id: str, bell: Subscription) -> tuple[Subscription, bool]:
        """The subscription to wait on next, and whether something was announced."""
        try:
            return bell, await bell.next(POLL_SECONDS) is not None
        except Unavailable:  # it overflowed, and is done
            await bell.close()
            return await self._bus.subscribe(names.run_command(run_id)), True

    async def forget(self, run_id: str) -> None:
        """Remove every command of a run that ended long ago."""
        await self._bus.purge(names.STREAM_COMMANDS, names.run_command(run_id))


def untaken(commands: Iterable[NumberedCommand], taken: Set[str]) -> list[NumberedCommand]:
    """Those that an owner has yet to take: behind the last one that was taken, since they are taken in order, and one
    that changed nothing leaves no event."""
    known = list(commands)
    last = max((numbered.sequence for numbered in known if numbered.command.command_id in taken), default=0)
    return [numbered for numbered in known if numbered.sequence > last]
