"""Cuts lie at absolute multiples; the answer is computed token by token."""

from services.inference.schedule import Work, next_work


def plan(prompt: int, emitted: int, slice_tokens: int = 16) -> list[Work]:
    works: list[Work] = []
    while not works or not works[-1].samples:
        works.append(next_work(prompt, emitted, works[-1].end if works else 0, slice_tokens))
    return works


def test_a_prompt_is_cut_at_multiples_and_its_end_samples() -> None:
    assert [(w.start, w.end, w.samples) for w in plan(40, 0)] == [(0, 16, False), (16, 32, False), (32, 40, True)]


def test_emitted_tokens_are_replayed_one_by_one_behind_the_same_slices() -> None:
    works = plan(40, 3)
    assert works[:3] == [Work(0, 16, True, False), Work(16, 32, True, False), Work(32, 40, True, False)]
    assert [(w.start, w.end, w.prefill, w.samples) for w in works[3:]] == [
        (40, 41, False, False),
        (41, 42, False, False),
        (42, 43, False, True),
    ]
