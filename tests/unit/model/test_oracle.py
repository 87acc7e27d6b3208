"""Against transformers and compressed-tensors, on a few random networks; ``python -m tests.oracle`` runs many."""

import pytest

pytest.importorskip("transformers", reason="the oracle of the model is not installed")
pytest.importorskip("compressed_tensors", reason="the oracle of INT4 is not installed")

from tests.oracle import comparisons
from tests.oracle.comparisons import LAST, LENGTH, Row

SEEDS = range(2)


def check(row: Row) -> None:
    assert row.good, row


def test_text_logits() -> None:
    check(comparisons.text_logits(SEEDS))


def test_text_logits_at_the_end_of_the_context() -> None:
    check(comparisons.text_logits(SEEDS, first=LAST - LENGTH))


def test_slices_and_single_steps() -> None:
    check(comparisons.ways_of_feeding(SEEDS))


def test_vision_embeddings() -> None:
    check(comparisons.vision_rows(SEEDS))


def test_image_conditioned_logits() -> None:
    check(comparisons.image_logits(SEEDS))


def test_kimi_vl() -> None:
    check(comparisons.kimi_vl_rows(SEEDS))
    check(comparisons.kimi_vl_logits(SEEDS))


def test_bfloat16_chooses_alike() -> None:
    check(comparisons.bfloat16_choice(SEEDS))


def test_int4() -> None:
    check(comparisons.int4((1, 7, 8, 31, 32, 33, 64, 100, 256)))
