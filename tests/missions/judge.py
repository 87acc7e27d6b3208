"""What a run of the mission left, read from its ledger and the blobs, and whether that is right.

Input: the replayed state and the store. Output: ``Results``, equal for equal missions however often somebody died; and
what is wrong with them, in words. It looks at files, pictures, patches and the answer; not at who said what when.
"""

import re
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

from schemas import codec
from schemas.blobs import BlobRef
from schemas.chat import MediaPart, Message, TextPart
from schemas.tools import WorkspaceTree
from shared.blobs.store import BlobStore
from shared.ledger.state import RunState
from tests.endpoints.harbour import code_word
from tests.missions import library, repository
from tests.missions.pictures import read_chart


@dataclass(frozen=True)
class Results:
    status: str
    answer: str
    files: dict[str, str]
    """Path → key of its content, of the last workspace."""
    patch: bytes
    steps: tuple[str, ...]
    """Every message of the conversation as text, without the run's own name."""

    def named(self, label: str) -> "Results":
        """The same for every label of the mission."""
        return replace(self, steps=tuple(step.replace(f"({label})", "(LABEL)") for step in self.steps))

    def difference(self, wanted: "Results") -> str:
        """Where it begins, in words."""
        for field in ("status", "answer", "files", "patch"):
            if getattr(self, field) != getattr(wanted, field):
                return f"{field} is {getattr(self, field)!r:.300}, not {getattr(wanted, field)!r:.300}"
        for number, (mine, theirs) in enumerate(zip(self.steps, wanted.steps, strict=False)):
            if mine != theirs:
                return f"message {number} is {mine!r:.300}, not {theirs!r:.300}"
        return f"{len(self.steps)} messages instead of {len(wanted.steps)}"


async def results(state: RunState, blobs: BlobStore) -> Results:
    tree = await _tree(state.workspace, blobs)
    messages = [codec.decode(await blobs.get(turn.message), Message) for turn in state.conversation.turns]
    patches = [file.content for file in state.files if file.media_type == "text/x-diff"]
    answer = codec.decode(await blobs.get(state.answer), Message) if state.answer is not None else None
    return Results(
        status=state.place.status,
        answer=_text(answer) if answer is not None else "",
        files={file.path: file.link or file.content.key for file in tree.files},
        patch=await blobs.get(patches[0]) if patches else b"",
        steps=tuple(_line(message).replace(state.run_id, "RUN") for message in messages[1:]),
    )


async def _tree(workspace: BlobRef | None, blobs: BlobStore) -> WorkspaceTree:
    return codec.decode(await blobs.get(workspace), WorkspaceTree) if workspace is not None else WorkspaceTree()


def _text(message: Message) -> str:
    return "".join(part.text for part in message.content if isinstance(part, TextPart))


def _line(message: Message) -> str:
    """Ids of calls are left out: who takes over a step may name them anew."""
    media = " ".join(part.source.key for part in message.content if isinstance(part, MediaPart))
    calls = " ".join(f"{call.name}({call.arguments})" for call in message.tool_calls)
    return f"{message.role}: {message.reasoning or ''}|{_text(message)}|{calls}|{media}"


async def problems(
    found: Results, state: RunState, blobs: BlobStore, seed: int, folder: Path, *, sees: bool
) -> list[str]:
    """What is not as the mission wants it. ``sees``: the model was shown pictures, and not only their places."""
    wrong = [] if found.status == "finished" else [f"the run is {found.status}: {state.failure}"]
    wrong += _answer_problems(found.answer, seed, sees=sees)
    wrong += await _file_problems(found, blobs, seed, state.workspace, sees=sees)
    wrong += _patch_problems(found.patch, seed, folder)
    return wrong if _went_red_then_green(found) else [*wrong, "the tests were not red and then green"]


def sums(seed: int) -> str:
    """What the Python session's variable must have come to."""
    total = 0.0
    for number in range(1, 8):
        levels = [level for hour, level in enumerate(repository.measurements(seed)) if hour % 8 == number]
        total += sum(levels) * (seed + number)
    return f"{total:.6f}"


def _answer_problems(answer: str, seed: int, *, sees: bool) -> list[str]:
    wanted = [code_word(str(seed)), f"{library.datum(seed)} metres", f"channel {library.channel(seed)}", sums(seed)]
    wanted += [_tallest(seed)] if sees else []
    return [f"the answer lacks {word!r}" for word in wanted if word not in answer]


def _tallest(seed: int) -> str:
    levels = repository.measurements(seed)
    return f"{repository.HOURS} bars, 288x160 pixels, the tallest is number {levels.index(max(levels))}"


async def _file_problems(
    found: Results, blobs: BlobStore, seed: int, workspace: BlobRef | None, *, sees: bool
) -> list[str]:
    tree = await _tree(workspace, blobs)
    content = {file.path: await blobs.get(file.content) for file in tree.files if not file.link}
    wanted = {
        "NOTES.md": f"code word: {code_word(str(seed))}",
        "log.txt": "".join(f"line {number}\n" for number in range(1, 8)),
        "CHART.md": _tallest(seed) if sees else "pictures",
        "tides/level.py": "levels.index(max(levels))",
        **{f"parts/{number}.txt": f"part {number} of {seed}\n" for number in range(1, 8)},
    }
    wrong = [f"{path} lacks {text!r}" for path, text in wanted.items() if text.encode() not in content.get(path, b"")]
    if "chart.png" not in content:
        return [*wrong, "no chart was drawn"]
    chart = read_chart(content["chart.png"])
    return wrong if _tallest(seed) in chart.words else [*wrong, f"the picture is {chart.words}"]


def _patch_problems(patch: bytes, seed: int, folder: Path) -> list[str]:
    """Red before, and green in a fresh clone with the patch."""
    folder.mkdir(parents=True)
    try:
        clone = repository.patched_clone(folder, repository.bundle(folder, seed), patch)
    except subprocess.CalledProcessError as error:
        return [f"the patch does not apply: {error}"]
    wrong = [] if repository.tests_pass(clone) else ["the patched tests are red"]
    repository.git(clone, "stash", "-q", "-u")
    return [*wrong, "the tests were never red"] if repository.tests_pass(clone) else wrong


def _went_red_then_green(found: Results) -> bool:
    """The tests ran several times before they passed, as the tools' results tell."""
    ran = [step for step in found.steps if step.startswith("tool:") and re.search(r"\b(FAIL|OK)\b", step)]
    return len(ran) >= 3 and "FAIL" in ran[0] and "FAIL" not in ran[-1]
