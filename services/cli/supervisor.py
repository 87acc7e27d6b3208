"""Keeps a set of child processes running: starts them in waves, restarts what died, drains in order.

Input: child specs in waves, and the order in which they drain. Output: running children, and one line of words per
thing that happens. Knows nothing of what the children do. Whatever way it ends, no child survives it.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from services.cli import child as processes
from services.cli.child import EXIT_BAD_CONFIGURATION, ChildSpec
from shared.errors import MoontideError

Report = Callable[[str], None]


class StackFailed(Exception):
    """The children cannot be kept running; the text is for a person."""


@dataclass(frozen=True)
class RestartPolicy:
    """The first restart comes at once, the next ones after a growing pause."""

    first_pause_seconds: float = 0.5
    max_pause_seconds: float = 10.0
    healthy_seconds: float = 10.0
    """A child that was ready this long starts over with the pauses."""
    max_failed_starts: int = 4
    """Ends in a row of a child that has never been ready: then the stack is given up."""

    def pause_seconds(self, restart_number: int) -> float:
        """``restart_number`` counts restarts in a row from 1."""
        if restart_number <= 1:
            return 0.0
        return min(self.max_pause_seconds, self.first_pause_seconds * 2.0 ** min(restart_number - 2, 30))


class Child:
    """A spec and the process that currently runs it."""

    def __init__(self, spec: ChildSpec, policy: RestartPolicy, report: Report) -> None:
        self.spec = spec
        self.ready = asyncio.Event()
        self._policy = policy
        self._report = report
        self._process: asyncio.subprocess.Process | None = None
        self._ready_at: float | None = None
        self._ever_ready = False
        self._stopping = False

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    async def keep(self) -> None:
        """Run until stopped. Raises StackFailed when another start would not help."""
        ends = 0
        while not self._stopping:
            log_start = processes.log_size(self.spec.log_path)
            code = await self._run_once()
            if self._stopping:
                return
            ends = 1 if self._was_healthy() else ends + 1
            self._give_up_if_hopeless(code, ends, log_start)
            pause = self._policy.pause_seconds(ends)
            self._report(f"{self.spec.name} {describe_end(code)}, restarting {_when(pause)}")
            await asyncio.sleep(pause)

    async def _run_once(self) -> int:
        """Start, note when it is ready, and wait for the end. Returns the exit code, negative for a signal."""
        self.ready.clear()
        self._ready_at = None
        try:
            self._process = await processes.spawn(self.spec)
        except OSError as error:
            raise StackFailed(f"{self.spec.name} cannot be started: {error}") from error
        if self._stopping:
            processes.kill_group(self._process)
        watch = asyncio.create_task(self._note_ready(self._process))
        try:
            return await self._process.wait()
        finally:
            watch.cancel()
            self.ready.clear()
            processes.kill_group(self._process)

    async def _note_ready(self, process: asyncio.subprocess.Process) -> None:
        started = time.monotonic()
        try:
            await asyncio.wait_for(self.spec.wait_ready(), self.spec.ready_seconds)
        except (TimeoutError, MoontideError) as error:
            self._report(f"{self.spec.name} did not get ready: {error or f'{self.spec.ready_seconds:.0f} s passed'}")
            processes.kill_group(process)
            return
        self._ready_at = time.monotonic()
        self._ever_ready = True
        self.ready.set()
        self._report(f"{self.spec.name} ready in {self._ready_at - started:.1f} s")

    def _was_healthy(self) -> bool:
        return self._ready_at is not None and time.monotonic() - self._ready_at > self._policy.healthy_seconds

    def _give_up_if_hopeless(self, code: int, ends: int, log_start: int) -> None:
        bad_configuration = code == EXIT_BAD_CONFIGURATION
        if bad_configuration or (not self._ever_ready and ends >= self._policy.max_failed_starts):
            said = processes.log_tail(self.spec.log_path, log_start) or "(it said nothing)"
            raise StackFailed(f"{self.spec.name} {describe_end(code)}:\n{said}\nlog: {self.spec.log_path}")

    async def stop(self) -> None:
        """Ask it to drain, wait within bounds, then end it with everything it started."""
        self._stopping = True
        process = self._process
        if process is None or process.returncode is not None:
            return
        try:
            processes.terminate(process)
            await asyncio.wait_for(process.wait(), self.spec.drain_seconds)
        except TimeoutError:
            self._report(f"{self.spec.name} did not drain in {self.spec.drain_seconds:.0f} s, killed")
        finally:
            processes.kill_group(process)
        await process.wait()

    def kill(self) -> None:
        self._stopping = True
        if self._process is not None and self._process.returncode is None:
            processes.kill_group(self._process)


class Supervisor:
    """All children of one stack. ``failure`` ends with StackFailed when the stack cannot go on."""

    def __init__(
        self,
        waves: Sequence[Sequence[ChildSpec]],
        drain_order: Sequence[str],
        report: Report,
        policy: RestartPolicy | None = None,
        late: Sequence[ChildSpec] = (),
    ) -> None:
        self._waves = [[Child(spec, policy or RestartPolicy(), report) for spec in wave] for wave in waves]
        self._late = [Child(spec, policy or RestartPolicy(), report) for spec in late]
        self.children = {child.spec.name: child for wave in (*self._waves, self._late) for child in wave}
        self._drain_order = [self.children[name] for name in drain_order]
        self._report = report
        self._keepers: list[asyncio.Task[None]] = []
        self.failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def start(self) -> None:
        """Returns when every child is ready. Raises StackFailed."""
        for wave in self._waves:
            for child in wave:
                self._keepers.append(asyncio.create_task(self._keep(child)))
            await self._all_ready(wave)
        self._keepers.append(asyncio.create_task(self._bound_logs()))

    def start_late(self) -> None:
        """Nobody waits for these. One that cannot be kept running is left out, and said to be."""
        self._keepers += [asyncio.create_task(self._keep_late(child)) for child in self._late]

    async def _all_ready(self, wave: Sequence[Child]) -> None:
        ready = asyncio.gather(*(child.ready.wait() for child in wave))
        started = time.monotonic()
        try:
            while not ready.done():
                await asyncio.wait((ready, self.failure), timeout=5.0, return_when=asyncio.FIRST_COMPLETED)
                if self.failure.done():
                    self.failure.result()
                self._report_waiting(wave, time.monotonic() - started)
        finally:
            ready.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await ready

    def _report_waiting(self, wave: Sequence[Child], seconds: float) -> None:
        missing = [child.spec.name for child in wave if not child.ready.is_set()]
        if missing and seconds >= 5.0:
            self._report(f"waiting for {', '.join(missing)} ({seconds:.0f} s)")

    async def _keep(self, child: Child) -> None:
        try:
            await child.keep()
        except StackFailed as error:
            if not self.failure.done():
                self.failure.set_exception(error)

    async def _keep_late(self, child: Child) -> None:
        try:
            await child.keep()
        except StackFailed as error:
            self._report(f"going on without {child.spec.name}: {error}")

    async def _bound_logs(self) -> None:
        while True:
            await asyncio.sleep(10.0)
            for child in self.children.values():
                processes.bound_log(child.spec.log_path)

    async def stop(self) -> None:
        """Drain in order. Interrupted by a cancellation, it kills what is left at once."""
        try:
            for child in self._drain_order:
                await child.stop()
        finally:
            for child in self.children.values():
                child.kill()
            for keeper in self._keepers:
                keeper.cancel()
            await asyncio.gather(*self._keepers, return_exceptions=True)
            if self.failure.done() and not self.failure.cancelled():
                self.failure.exception()  # seen: the loop must not complain about it


@asynccontextmanager
async def supervised(
    waves: Sequence[Sequence[ChildSpec]],
    drain_order: Sequence[str],
    report: Report,
    policy: RestartPolicy | None = None,
    late: Sequence[ChildSpec] = (),
) -> AsyncIterator[Supervisor]:
    """Every child but the ``late`` ones is ready inside, and all are gone behind. Raises StackFailed."""
    supervisor = Supervisor(waves, drain_order, report, policy, late)
    try:
        await supervisor.start()
        yield supervisor
    finally:
        await supervisor.stop()


def describe_end(code: int) -> str:
    """An exit code in words; negative for a signal."""
    return f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"


def _when(pause_seconds: float) -> str:
    return "now" if pause_seconds == 0 else f"in {pause_seconds:.1f} s"
