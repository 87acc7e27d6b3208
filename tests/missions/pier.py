"""The mission of 60 steps that uses every tool: repair a small library, draw a day of tides, tell the harbour.

A pure script: each turn is a function of the conversation, so that the model has no memory of its own. What a later
turn says (sums, code words, what a picture shows) is read from what tools returned, never known beforehand.
"""

import json
import re
from collections.abc import Callable
from typing import Any

from tests.endpoints.conversation import Call, Conversation, Script, Turn
from tests.missions.pictures import BAR, TALLEST, read_chart

NAME = "pier"
STEPS = 60
APPROVED = "harbour_announce"
TOOLS = (
    "$web_search", "apply_patch", "edit_file", "fetch", "harbour_announce", "harbour_note", "harbour_shout",
    "list_files", "look", "python", "read_file", "search_files", "shell", "web_search", "write_file",
)  # fmt: skip
URL = re.compile(r"http://[0-9.]+:[0-9]+/notice/\S+")

LOAD = """
import csv, pathlib
table = csv.DictReader(pathlib.Path("data/tides.csv").read_text().splitlines())
rows = [(int(row["hour"]), float(row["level"])) for row in table]
total = 0.0
print(len(rows), "rows")
"""
DRAW = f"""
import struct, zlib
width, height, bars = 24 * 12, 160, [level for _, level in rows]
top, tallest = max(bars), bars.index(max(bars))
lines = []
for y in range(height):
    line = bytearray([0])
    for x in range(width):
        bar, inside = x // 12, 2 <= x % 12 < 10
        on = inside and height - y <= max(2, bars[bar] / top * (height - 10))
        line += bytes(({TALLEST} if bar == tallest else {BAR}) if on else (255, 255, 255))
    lines.append(bytes(line))
def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
data = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"".join(lines))) + chunk(b"IEND", b"")
pathlib.Path("chart.png").write_bytes(b"\\x89PNG\\r\\n\\x1a\\n" + data)
print("drawn", tallest)
"""
PATCH = """--- a/tides/level.py
+++ b/tides/level.py
@@ -7,5 +7,5 @@

 def highest(levels):
     \"\"\"Position of the highest level.\"\"\"
-    return levels.index(min(levels))
+    return levels.index(max(levels))

"""

Maker = Callable[[Conversation], Turn]


def script(seed: int) -> Script:
    plan = _plan(seed)
    assert len(plan) == STEPS, len(plan)

    def turn(conversation: Conversation) -> Turn:
        _, maker = plan[min(conversation.step, STEPS) - 1]
        return maker(conversation)

    return turn


def goal(seed: int, label: str, notice_url: str) -> str:
    return (
        f"[mission {NAME} {seed} {label}] Repair the library in this repository, chart the day in data/tides.csv, read "
        f"the notice at {notice_url} , tell the harbour, and say what you found."
    )


def call(name: str, **arguments: Any) -> Call:
    return Call(name, json.dumps(arguments))


def turn(reasoning: str, *calls: Call, content: str = "") -> Maker:
    return lambda conversation: Turn(reasoning=reasoning, content=content, calls=calls)


def shell_tests(what: str) -> Call:
    """Exit code of the tests, and of their output only what is the same each time."""
    tests = f"said=$(python3 -B -m unittest -q {what} 2>&1); code=$?"
    run = f"{tests}; echo \"$said\" | grep -E '^(FAIL|ERROR|OK)'; exit $code"
    return call("shell", command=run)


class _Plan:
    def __init__(self) -> None:
        self.turns: list[tuple[str, Maker]] = []

    def add(self, name: str, maker: Maker) -> None:
        self.turns.append((name, maker))

    def heard(self, name: str, conversation: Conversation, index: int = 0) -> str:
        """What the tools called in the turn of that name returned."""
        step = next(number for number, (known, _) in enumerate(self.turns, 1) if known == name)
        found = conversation.results(step)
        return found[index].text if index < len(found) else f"(nothing came of {name})"


def _plan(seed: int) -> list[tuple[str, Maker]]:
    plan = _Plan()
    _look_around(plan)
    _repair(plan)
    _chart(plan)
    _tell(plan)
    _count(plan, seed)
    plan.add("answer", lambda conversation: Turn("All is done.", _report(plan, conversation)))
    return plan.turns


def _look_around(plan: _Plan) -> None:
    plan.add("list", turn("What is here?", call("list_files")))
    plan.add("readme", turn("Read.", call("read_file", path="README.md")))
    plan.add("search", turn("Where are functions?", call("search_files", pattern="^def ", glob="*.py")))
    plan.add("level", turn("The library.", call("read_file", path="tides/level.py")))
    three = (
        call("read_file", path="tests/test_level.py"),
        call("read_file", path="data/tides.csv", first_line=1, last_line=5),
        call("list_files", path="data", depth=1),
    )
    plan.add("three", turn("Three at once.", *three))
    plan.add("red", turn("Red first.", shell_tests("tests.test_level"), content="Let me see the tests fail."))


def _repair(plan: _Plan) -> None:
    plan.add(
        "edit",
        turn("Off by one.", call("edit_file", path="tides/level.py", old="(len(levels) + 1)", new="len(levels)")),
    )
    plan.add("less-red", turn("One less.", shell_tests("tests.test_level.Levels")))
    plan.add("patch", turn("min is not max.", call("apply_patch", patch=PATCH)))
    plan.add("green", turn("Green now?", shell_tests("tests/test_level.py")))
    plan.add("mended", turn("Look at it.", call("read_file", path="tides/level.py", first_line=4, last_line=11)))


def _chart(plan: _Plan) -> None:
    plan.add("load", turn("Load the day.", call("python", code=LOAD)))
    mean = "from tides import level\nmean = level.mean([level_ for _, level_ in rows])\nprint(f'{mean:.4f}')"
    plan.add("mean", turn("With the mended library.", call("python", code=mean)))
    plan.add("draw", turn("Draw it.", call("python", code=DRAW)))
    plan.add("look", turn("Is it right?", call("look", path="chart.png", question="How many bars?")))
    plan.add("seen", _seen)
    plan.add(
        "files", turn("Is it there?", call("shell", command="wc -c < chart.png && head -c 4 chart.png | tail -c 3"))
    )


def _seen(conversation: Conversation) -> Turn:
    """What the picture shows is written down: only who was shown it can."""
    return Turn(
        "Write down what I see.", calls=(call("write_file", path="CHART.md", content=_sight(conversation) + "\n"),)
    )


def _sight(conversation: Conversation) -> str:
    images = [image for one in conversation.said for image in one.images]
    if images:
        return read_chart(images[-1]).words
    return f"{sum(one.media for one in conversation.said)} pictures, unseen"


def _tell(plan: _Plan) -> None:
    plan.add("datum", turn("What is the datum?", call("web_search", query="tide datum of the pier gauge", limit=3)))
    plan.add("builtin", turn("By the builtin too.", call("$web_search", query="harbour master channel of the pier")))
    plan.add("notice", _notice)
    plan.add("notes", lambda conversation: _notes(plan, conversation))
    two = (call("harbour_note", text="mean level computed"), call("harbour_note", text="chart drawn"))
    plan.add("two-notes", turn("Note both.", *two))
    plan.add("announce", _aloud("Ask before telling everybody.", APPROVED, "the pier has a chart"))
    plan.add("check", turn("Read my notes.", call("read_file", path="NOTES.md", first_line=1, last_line=3)))


def _aloud(reasoning: str, tool: str, text: str) -> Maker:
    """Effects without a key: whose they are is told by the text."""

    def maker(conversation: Conversation) -> Turn:
        label = conversation.mission.label if conversation.mission else ""
        return Turn(reasoning, calls=(call(tool, text=f"{text} ({label})"),))

    return maker


def _notice(conversation: Conversation) -> Turn:
    goal_text = next(one.text for one in conversation.said if one.role == "user")
    found = URL.search(goal_text)
    return Turn("Read the notice.", calls=(call("fetch", url=found[0] if found else "http://127.0.0.1:1/"),))


def _notes(plan: _Plan, conversation: Conversation) -> Turn:
    lines = ["# Notes", f"mean: {plan.heard('mean', conversation).strip()}", f"code word: {_word(plan, conversation)}"]
    return Turn("Keep this.", calls=(call("write_file", path="NOTES.md", content="\n".join(lines) + "\n"),))


def _word(plan: _Plan, conversation: Conversation) -> str:
    found = re.search(r"code word is ([a-z]+-\d+)", plan.heard("notice", conversation))
    return found[1] if found else "unknown"


def _count(plan: _Plan, seed: int) -> None:
    """Variables, files and parallel calls, over and over: state must come along through every takeover."""
    for number in range(1, 8):
        part = f"sum(level for hour, level in rows if hour % 8 == {number})"
        code = f"total += {part} * {seed + number}\nprint(f'{{total:.6f}}')"
        plan.add(f"sum-{number}", turn(f"Sum {number}.", call("python", code=code)))
        append = f"echo 'line {number}' >> log.txt && wc -l < log.txt"
        plan.add(f"log-{number}", turn("Log it.", call("shell", command=append)))
        both = (
            call("write_file", path=f"parts/{number}.txt", content=f"part {number} of {seed}\n"),
            call("python", code=f"print('still', len(rows), {number})"),
            call("read_file", path="log.txt", first_line=number, last_line=number),
        )
        plan.add(f"both-{number}", turn("Three in order.", *both))
        plan.add(f"note-{number}", turn("Tell the harbour.", call("harbour_note", text=f"sum {number} is known")))
    plan.add("loud", _aloud("Once aloud.", "harbour_shout", "a chart of the pier"))
    plan.add("all", turn("All parts.", call("shell", command="cat parts/*.txt | sort | md5sum && wc -l < log.txt")))
    plan.add("search-parts", turn("Find them.", call("search_files", pattern="part [0-9]+", path="parts")))
    plan.add("total", turn("The end of it.", call("python", code="print(f'total {total:.6f}')")))
    plan.add("last-green", turn("Still green.", shell_tests("tests.test_level tests.test_level.Levels.test_mean")))
    plan.add("status", turn("What changed?", call("list_files", depth=2)))
    plan.add("tail", turn("The log's end.", call("read_file", path="log.txt", first_line=6, last_line=7)))


def _report(plan: _Plan, conversation: Conversation) -> str:
    total = re.search(r"total (\S+)", plan.heard("total", conversation))
    datum = re.search(r"(\d\.\d+) metres", plan.heard("datum", conversation))
    channel = re.search(r"channel (\d+)", plan.heard("builtin", conversation))
    return "\n".join(
        (
            f"The picture is {_sight(conversation)}.",
            f"The code word is {_word(plan, conversation)}.",
            f"The datum is {datum[1] if datum else 'unknown'} metres.",
            f"The harbour master listens on channel {channel[1] if channel else 'unknown'}.",
            f"The weighted total is {total[1] if total else 'unknown'}.",
        )
    )
