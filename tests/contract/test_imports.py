"""What a process loads: everything but the model and the engine runs without torch."""

import json
import subprocess
import sys

import pytest

from .source import ROOT, name_of, python_files

WITHOUT_MODEL = ("gateway", "ingest", "tokenizer", "recorder", "cli", "coordinator", "upstream", "tools")
MODULES = [
    f"services.{service}.{module}"
    for service in WITHOUT_MODEL
    for module in ("app", "__main__")
    if (ROOT / "services" / service / f"{module}.py").exists()
]
FORBIDDEN = ("torch", "transformers", "safetensors", "kernels", "shared.model")
PROGRAM = f"""
import importlib, json, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
print(json.dumps([name for name in {FORBIDDEN!r} if name in sys.modules]))
"""


def loaded(*modules: str) -> list[str]:
    """Which of ``FORBIDDEN`` a fresh process has loaded after importing ``modules``."""
    command = [sys.executable, "-c", PROGRAM, *modules]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("module", MODULES)
def test_a_service_does_not_load_the_model(module: str) -> None:
    assert loaded(module) == []


def test_libraries_do_not_load_the_model() -> None:
    files = [name_of(path) for path in python_files("schemas", "shared")]
    modules = [name.removesuffix(".py").replace("/", ".").removesuffix(".__init__") for name in files]
    assert loaded(*(name for name in modules if not name.startswith("shared.model"))) == []


def test_schemas_import_msgspec_and_the_standard_library_only() -> None:
    program = "import sys, schemas.generate; print([n for n in sys.modules if n.split('.')[0] in ('shared', 'numpy')])"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
