"""Configuration: one spelling, every problem at once, bounds checked."""

from pathlib import Path
from typing import Annotated

import msgspec
import pytest

from shared.config import ConfigError, load


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    directory: Path
    workers: Annotated[int, msgspec.Meta(ge=1)] = 2
    fraction: float = 0.5
    verbose: bool = False
    note: str | None = None
    names: tuple[str, ...] = ()
    nats_url: str = "nats://127.0.0.1:4222"


def test_values_are_read_and_converted() -> None:
    config = load(
        Sample,
        "sample",
        {
            "MOONTIDE_SAMPLE_DIRECTORY": "/srv",
            "MOONTIDE_SAMPLE_WORKERS": "3",
            "MOONTIDE_SAMPLE_VERBOSE": "true",
            "MOONTIDE_SAMPLE_NAMES": "a, b",
            "NATS_URL": "nats://broker:4222",
        },
    )
    assert config == Sample(
        directory=Path("/srv"), workers=3, verbose=True, names=("a", "b"), nats_url="nats://broker:4222"
    )


def test_defaults_hold_when_nothing_is_set() -> None:
    assert load(Sample, "sample", {"MOONTIDE_SAMPLE_DIRECTORY": "d"}) == Sample(directory=Path("d"))


def test_every_problem_is_reported_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        load(Sample, "sample", {"MOONTIDE_SAMPLE_WORKERS": "many", "MOONTIDE_SAMPLE_VERBOSE": "yes"})
    text = str(caught.value)
    assert "MOONTIDE_SAMPLE_DIRECTORY is required" in text
    assert "MOONTIDE_SAMPLE_WORKERS='many'" in text
    assert "MOONTIDE_SAMPLE_VERBOSE='yes': expected true or false" in text


def test_bounds_of_the_struct_hold() -> None:
    with pytest.raises(ConfigError, match="WORKERS"):
        load(Sample, "sample", {"MOONTIDE_SAMPLE_DIRECTORY": "d", "MOONTIDE_SAMPLE_WORKERS": "0"})
