"""The variants table, Instant and Thinking: what an answer is drawn with when its request says nothing."""

import pytest

from schemas.chat import ChatRequest, Sampling
from services.tokenizer.checkpoint import Checkpoint, GenerationDefaults, ModelSettings, TextSection
from services.tokenizer.sampling import Decoding, Situation, decide
from services.tokenizer.variants import variants
from shared.errors import BadInput
from shared.language.template import k26_template
from shared.language.vocabulary import Vocabulary, tiny_vocabulary

CONTEXT = 1000
PROMPT = 200


def checkpoint(defaults: GenerationDefaults, model_type: str = "kimi_k25") -> Checkpoint:
    vocabulary = Vocabulary(tiny_vocabulary())
    text = TextSection(max_position_embeddings=CONTEXT, vocab_size=vocabulary.size)
    settings = ModelSettings(model_type=model_type, text_config=text)
    return Checkpoint(vocabulary, settings, defaults, "unknown", k26_template)


def drawn(suffix: str, defaults: GenerationDefaults, server_budget: int | None = None) -> Decoding:
    """As the gateway asks for a variant whose request has neither sampling nor limits."""
    own = checkpoint(defaults)
    (variant,) = (item for item in variants("m", own) if item.id == f"m-{suffix}")
    sampling = Sampling(temperature=variant.temperature, top_p=variant.top_p, max_tokens=variant.max_tokens)
    request = ChatRequest(
        model="m",
        messages=(b"",),
        thinking=variant.thinking,
        thinking_budget_tokens=variant.thinking_budget_tokens,
        sampling=sampling,
    )
    return decide(request, "r", Situation(own, PROMPT, variant.thinking, server_budget))


@pytest.mark.parametrize(
    ("suffix", "own", "temperature", "top_p"),
    [
        ("instant", {}, 0.6, 0.95),
        ("thinking", {}, 1.0, 0.95),
        ("instant", {"temperature": 1.0, "top_p": 0.9}, 0.6, 0.9),
        ("thinking", {"temperature": 0.8, "top_p": 0.9}, 0.8, 0.9),
        ("instant", {"temperature": 0.0}, 0.0, 0.95),
    ],
)
def test_sampling(suffix: str, own: dict[str, float], temperature: float, top_p: float) -> None:
    decoding = drawn(suffix, GenerationDefaults(**own))  # type: ignore[arg-type]
    assert (decoding.temperature, decoding.top_p) == (temperature, top_p)


@pytest.mark.parametrize(
    ("own", "server", "budget"),
    [(None, None, None), (60, None, 60), (60, 90, 90), (None, 90, 90), (None, 500, 200), (0, None, 0)],
)
def test_only_thinking_has_a_budget(own: int | None, server: int | None, budget: int | None) -> None:
    defaults = GenerationDefaults(max_new_tokens=400, thinking_budget_tokens=own)
    assert drawn("instant", defaults, server).thinking is None
    limit = drawn("thinking", defaults, server).thinking
    assert (None if limit is None else limit.budget_tokens) == budget


@pytest.mark.parametrize("suffix", ["instant", "thinking"])
@pytest.mark.parametrize(("own", "limit"), [(50, 50), (None, CONTEXT - PROMPT), (CONTEXT, CONTEXT - PROMPT)])
def test_the_default_limit_yields_to_a_long_prompt(suffix: str, own: int | None, limit: int) -> None:
    assert drawn(suffix, GenerationDefaults(max_new_tokens=own)).max_tokens == limit


@pytest.mark.parametrize(("prompt", "wanted", "param"), [(CONTEXT + 1, None, "messages"), (PROMPT, 801, "max_tokens")])
def test_what_exceeds_the_context_is_refused(prompt: int, wanted: int | None, param: str) -> None:
    request = ChatRequest(model="m", messages=(b"",), sampling=Sampling(max_tokens=wanted))
    with pytest.raises(BadInput) as caught:
        decide(request, "r", Situation(checkpoint(GenerationDefaults()), prompt, True))
    assert caught.value.param == param


def test_a_model_with_one_mode_has_no_variants() -> None:
    assert variants("m", checkpoint(GenerationDefaults(), "kimi_vl")) == ()
