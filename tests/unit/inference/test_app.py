"""The whole service over the fake bus: a caller whose engine dies in the middle gets the answer of a whole run."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from schemas import names
from schemas.generation import GenerateRequest, GenerationFinished, GenerationItem, TokensGenerated
from services.inference.app import app
from services.inference.command import main as command
from services.inference.config import InferenceConfig
from shared.blobs.store import BlobStore
from shared.bus.fake import FakeBroker
from shared.calls.follow import follow
from shared.calls.interface import CallPolicy, CallTarget
from shared.clock import SystemClock
from shared.service import Process
from shared.telemetry.tracing import Telemetry
from tests.unit.inference.conftest import Caller, context, request

POLICY = CallPolicy(beat_seconds=0.05, silence_seconds=0.4)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made") / "Noise"
    assert command(["checkpoint", "init", "--preset", "tiny", "--seed", "3", "--out", str(out)]) == 0
    return out


def process(broker: FakeBroker, blobs: Path) -> Process:
    bus = broker.bus("inference")
    telemetry = Telemetry("inference", bus.instance, bus)
    return Process(name="inference", bus=bus, blobs=BlobStore.open(blobs.as_uri()), telemetry=telemetry)


async def ask(broker: FakeBroker, caller: Caller, body: GenerateRequest, at_token: int, kill: Process | None) -> None:
    """Follow one generation; once ``at_token`` tokens are there, ``kill`` dies without a word."""
    received = b""

    def make_body() -> GenerateRequest:
        return msgspec.structs.replace(body, emitted_ids=received)

    target = CallTarget(subject=names.generate("noise"), context=context(), policy=POLICY)
    async for item in follow(broker.bus("tokenizer"), SystemClock(), target, make_body, GenerationItem):
        await caller.send(item)
        if isinstance(item, TokensGenerated):
            received += item.ids
        if kill is not None and len(received) >= 4 * at_token:
            kill.bus.kill()  # type: ignore[attr-defined]
            kill = None


async def test_an_engine_that_dies_in_the_middle_is_replaced_and_nothing_is_doubled(
    directory: Path, tmp_path: Path
) -> None:
    broker = FakeBroker(1)
    config = InferenceConfig(checkpoint_dir=directory, threads=1)
    body = request(model="noise", max_tokens=200)
    first, second = process(broker, tmp_path), process(broker, tmp_path)
    whole, resumed = Caller(), Caller()
    async with app(config, first):
        await ask(broker, whole, body, 0, None)
        info = await broker.bus("any").discover(names.SERVICE_ENGINE)
        assert info[0].metadata["model"] == "noise"
        assert info[0].metadata["context_length"] == "262144"
        assert info[0].metadata["system_fingerprint"] == whole.finished.system_fingerprint
        asking = asyncio.create_task(ask(broker, resumed, body, 5, first))
        await resumed.first.wait()  # so the first engine answers
        async with app(config, second):
            await asking
    assert resumed.ids == whole.ids
    assert len(whole.ids) == 200
    assert isinstance(resumed.items[-1], GenerationFinished)


def test_inspect_prints_figures_as_json(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["checkpoint", "inspect", str(directory), "--json"]) == 0
    assert '"context_length":262144' in capsys.readouterr().out


def test_commands_that_cannot_work_say_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["checkpoint", "inspect", str(tmp_path)]) == 1
    assert "config.json" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        command(["checkpoint", "init", "--preset", "huge", "--out", str(tmp_path / "x")])
    assert ended.value.code == 2


def test_the_model_is_named_after_its_directory(directory: Path) -> None:
    assert InferenceConfig(checkpoint_dir=directory).served_model == "noise"
