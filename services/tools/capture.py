"""What a sandboxed command says, up to a bound: more ends it.

Input: a sandbox in work and a time. Output: its output, its exit code, and in words what ended it. Must not know tools.
"""

import asyncio
from dataclasses import dataclass

from services.tools.confined import Confined

PIECE_BYTES = 65536
MIB = 1024 * 1024


@dataclass(frozen=True)
class Captured:
    output: bytes
    exit_code: int
    reason: str
    """Which bound ended it; empty where none did."""

    @property
    def text(self) -> str:
        return self.output.decode("utf-8", "replace")

    def note(self) -> str:
        """How it ended, where that is worth telling."""
        if self.reason:
            return f"[ended: {self.reason}]"
        return f"[exit code {self.exit_code}]" if self.exit_code else ""


async def captured(confined: Confined, seconds: float, max_bytes: int) -> Captured:
    """Returns when the command has ended; what it started and left behind is ended with the sandbox."""
    output = bytearray()
    reading = asyncio.create_task(_read(confined, output, max_bytes))
    try:
        async with asyncio.timeout(seconds):
            await confined.wait()
    except TimeoutError:
        confined.break_off(f"longer than {seconds:g} seconds")
    finally:
        code = await asyncio.shield(_over(confined, reading))
    return Captured(bytes(output), code, confined.reason)


async def _over(confined: Confined, reading: "asyncio.Task[None]") -> int:
    """Whoever still holds the pipe is ended, so reading comes to its end."""
    code = await confined.finish()
    await asyncio.wait([reading])
    return code


async def _read(confined: Confined, output: bytearray, max_bytes: int) -> None:
    assert confined.process.stdout is not None
    while piece := await confined.process.stdout.read(PIECE_BYTES):  # to the end: who stops reading is not told of it
        output += piece[: max_bytes - len(output)]
        if len(output) >= max_bytes:
            confined.break_off(f"more than {max_bytes // MIB} MiB of output")
