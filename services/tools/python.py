"""``python``: code in the run's Python session, which keeps its variables from call to call, and on other machines too.

Output: what the code says, the value of its last expression or its traceback; pictures and files that it makes. Must
not know how an interpreter is kept.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from schemas.chat import MediaPart, Part, TextPart
from schemas.tools import ToolFile
from services.tools.session import Answer, InterpreterLost, Sessions
from services.tools.tool import Call, Result, declared
from shared.blobs.store import BlobStore

MAX_SECONDS = 600.0
GRACE_SECONDS = 30.0


@dataclass(frozen=True)
class Python:
    sessions: Sessions
    max_state_bytes: int
    max_output_bytes: int
    seconds: float = MAX_SECONDS

    declaration = declared(
        "python",
        "Run Python code in a session that keeps its variables. The working directory is the workspace; there is no "
        "network. Answers what the code prints, the value of its last expression, and the pictures that it makes or "
        "saves.",
        {"code": {"type": "string"}},
        required=("code",),
        effect="workspace",
        workspace="write",
        timeout_seconds=MAX_SECONDS + GRACE_SECONDS,
        expected_seconds=3.0,
    )

    async def run(self, call: Call) -> Result:
        assert call.workspace is not None
        call.progress("running code")
        output = bytearray()
        try:
            async with self.sessions.taken(call.run_id, call.workspace, call.session) as (interpreter, restored):
                async with asyncio.timeout(self.seconds):
                    answer = await interpreter.ask(
                        call.arguments["code"], restored, self.max_state_bytes, output, self.max_output_bytes
                    )
                call.progress("keeping the variables")
                state = interpreter.state = await call.blobs.put(answer.state)
        except TimeoutError:
            return ended(output, f"longer than {self.seconds:g} seconds")
        except InterpreterLost as lost:
            return ended(output, str(lost))
        parts, files = await pictures(answer, call.blobs)
        lines = [said(output), *notes(answer)]
        text = "\n".join(line for line in lines if line) or "[no output]"
        return Result(content=(TextPart(text=text), *parts), files=tuple(files), session=state, shows_changes=True)


def ended(output: bytearray, reason: str) -> Result:
    note = f"[the interpreter was ended: {reason}; the variables are as they were before this call]"
    return Result(content=(TextPart(text=f"{said(output)}\n{note}".lstrip("\n")),), shows_changes=True)


def said(output: bytearray) -> str:
    return output.decode("utf-8", "replace").rstrip("\n")


def notes(answer: Answer) -> Sequence[str]:
    lines = [f"[not kept for the next call: {name} ({reason})]" for name, reason in answer.dropped.items()]
    if answer.lost:
        lines.insert(0, f"[the variables of earlier calls could not be restored: {answer.lost}]")
    return lines


async def pictures(answer: Answer, blobs: BlobStore) -> tuple[list[Part], list[ToolFile]]:
    parts: list[Part] = []
    files: list[ToolFile] = []
    for name, data in answer.images:
        content = await blobs.put(data)
        parts.append(MediaPart(kind="image", source=content, name=name))
        files.append(ToolFile(name=name, media_type="image/png", content=content))
    return parts, files
