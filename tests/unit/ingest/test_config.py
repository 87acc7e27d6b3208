"""Area INGEST: defaults start, bad values are all named."""

import pytest

from services.ingest.config import IngestConfig
from shared.config import ConfigError, load


def test_defaults_need_no_variable() -> None:
    assert load(IngestConfig, "ingest", {}) == IngestConfig()


def test_every_bad_value_is_named() -> None:
    environ = {
        "MOONTIDE_INGEST_WORKERS": "0",
        "MOONTIDE_INGEST_JOB_SECONDS": "soon",
        "MOONTIDE_INGEST_THREADS": "9x",
    }
    with pytest.raises(ConfigError) as refused:
        load(IngestConfig, "ingest", environ)
    assert sorted(problem.split("=")[0] for problem in refused.value.problems) == sorted(environ)
