"""A Python session: code in, what it says out, and its variables kept as bytes after every call.

Input: calls on standard input. Output: answers on what was standard output; what the code says goes to standard error
as it comes, with a mark at its end. It may crash or be killed at any time: whoever asks holds the state.
"""

import ast
import asyncio
import contextlib
import importlib
import inspect
import io
import linecache
import os
import random
import sys
import traceback
import types
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
exchange: Any = importlib.import_module("exchange")
state: Any = importlib.import_module("state")
del sys.modules["exchange"], sys.modules["state"]  # names that the code may want for modules of its own

MAX_IMAGES = 8
MAX_VALUE_CHARACTERS = 200_000
WORKSPACE = "/workspace"


def main() -> None:
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    session = Session()
    while (request := exchange.read(requests)) is not None:
        head, pieces = request
        answer, images = session.call(head, pieces)
        answers.write(exchange.packed(answer, images))
        answers.flush()


class Session:
    def __init__(self) -> None:
        self._module = types.ModuleType("__main__")
        self._calls = 0
        sys.modules["__main__"] = self._module
        sys.path[0] = WORKSPACE  # modules of the workspace, as for a program that begins there
        self._path, self._environment = list(sys.path), dict(os.environ)
        random.seed(0)  # equal calls have equal results

    def call(self, head: dict[str, Any], pieces: list[bytes]) -> tuple[dict[str, Any], list[bytes]]:
        """(answer, [state, image …])."""
        namespace = vars(self._module)
        self._begin()
        lost = self._restored(pieces[0]) if pieces else ""
        images: list[tuple[str, bytes]] = []
        value = self._run(head["code"], namespace)
        if value is not None:
            show(value, images)
        images += figures()
        kept, dropped = state.kept(namespace, head["max_bytes"])
        flush()
        os.write(2, head["mark"].encode())
        names = [name for name, _ in images[:MAX_IMAGES]]
        answer = {"dropped": dropped, "lost": lost, "images": names, "reusable": not knows_the_workspace()}
        return answer, [kept, *(data for _, data in images[:MAX_IMAGES])]

    def _begin(self) -> None:
        """What is not kept begins anew, whether the interpreter is new or not."""
        with contextlib.suppress(OSError):
            os.chdir(WORKSPACE)
        sys.path[:] = self._path
        os.environ.clear()
        os.environ.update(self._environment)

    def _restored(self, data: bytes) -> str:
        """Why the variables are not there; empty when they are."""
        try:
            state.restore(data, vars(self._module))
        except BaseException as error:  # noqa: BLE001 - what was stored may do anything
            return f"{type(error).__name__}: {error}"[:300]
        return ""

    def _run(self, code: str, namespace: dict[str, Any]) -> Any:
        """The value of the last expression; None where there is none, or where an error was told."""
        self._calls += 1
        name = f"<call {self._calls}>"
        linecache.cache[name] = (len(code), None, code.splitlines(keepends=True), name)
        try:
            return evaluated(code, name, namespace)
        except SystemExit as error:
            print(f"SystemExit: {error.code}")
        except BaseException as error:  # noqa: BLE001 - it is the code's, and is told
            flush()
            tell(error)
        return None


def knows_the_workspace() -> bool:
    """Whether a module of the workspace is loaded. Its file may change: the next call takes it as it is then."""
    files = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    return any(isinstance(file, str) and file.startswith(f"{WORKSPACE}/") for file in files)


def evaluated(code: str, name: str, namespace: dict[str, Any]) -> Any:
    tree = ast.parse(code, name)
    last = tree.body[-1] if tree.body else None
    if isinstance(last, ast.Expr):
        tree.body.pop()
    finish(compile(tree, name, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), namespace)
    if not isinstance(last, ast.Expr):
        return None
    expression = ast.Expression(last.value)
    return finish(compile(expression, name, "eval", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), namespace)


def finish(code: types.CodeType, namespace: dict[str, Any]) -> Any:
    """Code that awaits at its top level is awaited."""
    if code.co_flags & inspect.CO_COROUTINE:
        return asyncio.run(eval(code, namespace))
    return eval(code, namespace)


def tell(error: BaseException) -> None:
    """The traceback from the session's code on."""
    trace = error.__traceback__
    while trace is not None and not trace.tb_frame.f_code.co_filename.startswith("<call "):
        trace = trace.tb_next
    sys.stderr.write("".join(traceback.format_exception(type(error), error, trace)))


def show(value: Any, images: list[tuple[str, bytes]]) -> None:
    """As an interactive session does; a picture is shown as one."""
    image = sys.modules.get("PIL.Image")
    try:
        if image is not None and isinstance(value, image.Image):
            file = io.BytesIO()
            value.convert("RGB").save(file, "PNG")
            images.append(("image.png", file.getvalue()))
        else:
            print(repr(value)[:MAX_VALUE_CHARACTERS])
    except BaseException as error:  # noqa: BLE001 - a value's own methods may do anything
        tell(error)


def figures() -> list[tuple[str, bytes]]:
    """Figures of matplotlib that are open, as pictures; they are closed then."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    drawn: list[tuple[str, bytes]] = []
    if pyplot is not None:
        with contextlib.suppress(Exception):
            for number in pyplot.get_fignums():
                file = io.BytesIO()
                pyplot.figure(number).savefig(file, format="png")
                drawn.append((f"figure-{number}.png", file.getvalue()))
            pyplot.close("all")
    return drawn


def flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()


if __name__ == "__main__":
    main()
