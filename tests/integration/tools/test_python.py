"""``python``: variables live on, wherever the next call is made; nothing of a call lives longer than it."""

from schemas.chat import MediaPart
from tests.integration.tools.stand import Stand

MANY = """
import os, time
for _ in range(4):
    if os.fork() == 0:
        b = bytearray(200_000_000)
        time.sleep(60)
os.wait()
"""


async def test_variables_live_on_and_in_another_process_too(stand: Stand) -> None:
    code = """
import numpy as np
x = 1
def f(): return x
class A:
    def g(self): return f() + 1
a = A()
shared = [a]
"""
    async with stand.service():
        await stand.said("python", code=code)
        assert await stand.said("python", code="x = 2\nf(), a.g(), shared[0] is a") == "(2, 3, True)"
    async with stand.service():
        assert await stand.said("python", code="f(), a.g(), shared[0] is a, isinstance(a, A)") == "(2, 3, True, True)"
        assert await stand.said("python", code="x = 5\nf(), a.g(), np.arange(3).sum()") == "(5, 6, np.int64(3))"


async def test_a_call_that_comes_twice_starts_from_the_same_variables_and_files(stand: Stand) -> None:
    async with stand.service():
        await stand.said("python", code="n = 1\nopen('log', 'a').write('begun\\n')")
        before = (stand.workspace, stand.session)
        increment = "n += 1\nopen('log', 'a').write(f'{n}\\n')\nn"
        assert await stand.said("python", code=increment) == "2"
        after = await stand.files()
        stand.workspace, stand.session = before
        assert await stand.said("python", code=increment) == "2"
        assert await stand.files() == after == {"log": b"begun\n2\n"}


async def test_what_cannot_be_kept_is_told_and_gone_everywhere(stand: Stand) -> None:
    async with stand.service():
        told = await stand.said("python", code="import threading\nlock = threading.Lock()\ny = 1")
        assert told == "[not kept for the next call: lock (TypeError: cannot pickle '_thread.lock' object)]"
        assert "NameError: name 'lock' is not defined" in await stand.said("python", code="lock")
        assert await stand.said("python", code="y") == "1"


async def test_too_many_variables_lose_the_largest(stand: Stand) -> None:
    async with stand.service(session_bytes=1_000_000):
        told = await stand.said("python", code="big = bytes(2_000_000)\nsmall = 7")
        assert told == "[not kept for the next call: big (the variables together are larger than 0 MiB)]"
        assert await stand.said("python", code="small") == "7"


async def test_errors_are_told_as_tracebacks_of_the_code(stand: Stand) -> None:
    async with stand.service():
        told = await stand.said("python", code="kept = 3\ndef f():\n    return 1/0\nf()")
        assert told.splitlines()[:3] == [
            "Traceback (most recent call last):",
            '  File "<call 1>", line 4, in <module>',
            "    f()",
        ]
        assert told.endswith("ZeroDivisionError: division by zero")
        assert await stand.said("python", code="kept") == "3"
        assert "SyntaxError" in await stand.said("python", code="1 +")


async def test_a_crash_costs_one_call_and_no_variable(stand: Stand) -> None:
    async with stand.service():
        await stand.said("python", code="x = 1")
        crashed = await stand.call("python", code="print('before')\nimport os\nx = 2\nos.abort()")
        assert crashed.session is None
        assert await stand.said("python", code="x") == "1"


async def test_pictures_come_back(stand: Stand) -> None:
    draw = """
from PIL import Image, ImageDraw
chart = Image.new("RGB", (40, 30), "white")
ImageDraw.Draw(chart).line((0, 30, 40, 0), fill="red")
chart.save("chart.png")
open("numbers.csv", "w").write("1,2\\n")
chart
"""
    async with stand.service():
        outcome = await stand.call("python", code=draw)
    assert [(file.name, file.media_type) for file in outcome.files] == [
        ("image.png", "image/png"),
        ("chart.png", "image/png"),
        ("numbers.csv", "text/csv"),
    ]
    shown = [part for part in outcome.content if isinstance(part, MediaPart)]
    for part in shown:
        assert (await stand.blobs.get(part.source)).startswith(b"\x89PNG")


async def test_nothing_of_a_call_lives_longer(stand: Stand) -> None:
    busy = """
import subprocess, threading, time
subprocess.Popen(["sh", "-c", "while true; do date +%s%N > from-a-child; done"])
def write():
    while True:
        open("from-a-thread", "w").write(str(time.time()))
threading.Thread(target=write, daemon=True).start()
time.sleep(0.2)
"""
    async with stand.service():
        await stand.said("python", code=busy)
        first = await stand.files()
        assert await stand.said("shell", command="sleep 0.3; ps -e -o comm= | sort | uniq -c | wc -l") != "0"
        assert (await stand.files())["from-a-child"] == first["from-a-child"]


async def test_modules_of_the_workspace_and_awaiting(stand: Stand) -> None:
    async with stand.service():
        await stand.call("write_file", path="state.py", content="value = 41\n")
        assert await stand.said("python", code="import state\nstate.value + 1") == "42"
        assert await stand.said("python", code="import asyncio\nawait asyncio.sleep(0, 'slept')") == "'slept'"


async def test_output_is_bounded(stand: Stand) -> None:
    async with stand.service(output_bytes=1024 * 1024):
        outcome = await stand.call("python", code="while True: print('x' * 1000)")
        assert "the interpreter was ended: more than 1 MiB of output" in outcome.content[0].text  # type: ignore[union-attr]
        whole = await stand.blobs.get(outcome.files[0].content)
        assert 1024 * 1024 <= len(whole) < 1024 * 1024 + 1000


async def test_memory_is_bounded(stand: Stand) -> None:
    async with stand.service(memory_bytes=300 * 1024 * 1024):
        assert "MemoryError" in await stand.said("python", code="bytearray(400_000_000)")
        told = await stand.said("python", code=MANY)
        assert "more than 300 MiB of memory" in told or "crashed" in told or told.endswith(", 9)")
        assert await stand.said("python", code="1 + 1") == "2"


async def test_code_that_speaks_for_the_interpreter_ends_it(stand: Stand) -> None:
    forge = """
import os
for descriptor in range(3, 64):
    try:
        os.write(descriptor, b"\\xff" * 100)
    except OSError:
        pass
"""
    async with stand.service():
        await stand.said("python", code="x = 1")
        assert "the interpreter was ended" in await stand.said("python", code=forge)
        assert await stand.said("python", code="x") == "1"


async def test_what_is_drawn_next_is_the_same_in_every_process(stand: Stand) -> None:
    seed = "import random, numpy as np\nrandom.seed(7); np.random.seed(7); random.random(), np.random.rand()"
    draw = "random.random(), float(np.random.rand())"
    async with stand.service():
        await stand.said("python", code=seed)
        before = stand.session
        drawn = await stand.said("python", code=draw)
    async with stand.service():
        stand.session = before
        assert await stand.said("python", code=draw) == drawn
        stand.session = None
        unseeded = await stand.said("python", code="import random\nrandom.random()")
        stand.session = None
        assert await stand.said("python", code="import random\nrandom.random()") == unseeded


async def test_a_module_of_the_workspace_is_taken_as_it_is_now(stand: Stand) -> None:
    async with stand.service():
        await stand.call("write_file", path="mine.py", content="def f(): return 1\n")
        assert await stand.said("python", code="from mine import f\nimport mine\nf(), mine.f()") == "(1, 1)"
        await stand.call("edit_file", path="mine.py", old="1", new="2")
        assert await stand.said("python", code="f(), mine.f()") == "(2, 2)"


async def test_settings_of_the_process_begin_anew(stand: Stand) -> None:
    async with stand.service():
        await stand.said("python", code="import os, sys\nos.environ['A'] = '1'\nsys.path.append('/x')\nos.chdir('/')")
        assert await stand.said("python", code="'A' in os.environ, '/x' in sys.path, os.getcwd()") == (
            "(False, False, '/workspace')"
        )
