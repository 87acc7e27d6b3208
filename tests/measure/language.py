"""``python -m tests.measure.language``: what the language boundary costs, against tiktoken driven directly, as JSON.

Runs are interleaved, and medians are compared: a long text; and a history of about 200,000 tokens that grows by one
message at each step, with the built-in template and with one that a checkpoint brings. Also round trips of random text.
"""

import argparse
import json
import os
import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import tiktoken

from schemas.chat import Message, TextPart, ToolCall
from shared.language.checkpoint_template import CheckpointTemplate
from shared.language.prompt import PromptEncoder
from shared.language.segments import Marker, Text
from shared.language.specials import tokenizer_config
from shared.language.template import Template, k26_template, render
from shared.language.vocabulary import SPLIT_PATTERN, Vocabulary, cut, load_vocabulary, tiny_vocabulary

DATA = Path(os.environ.get("MOONTIDE_TEST_DATA_DIR", Path(__file__).parents[3] / "shared" / "data")) / "kimi-k2.6"
OWN_TEMPLATE = """
{%- for m in messages -%}
<|im_{% if m.role in ('user', 'assistant') %}{{ m.role }}{% else %}system{% endif %}|>{{ m.role }}<|im_middle|>
{%- if m.role == 'assistant' -%}<think>{{ m.reasoning_content }}</think>{%- endif -%}
{%- if m.role == 'tool' -%}## Return of {{ m.tool_call_id }}{{ '\\n' }}{%- endif -%}
{{ m.content }}
{%- for call in m.tool_calls or [] -%}
<|tool_call_begin|>{{ call.id }}<|tool_call_argument_begin|>{{ call.function.arguments }}<|tool_call_end|>
{%- endfor -%}<|im_end|>
{%- endfor -%}<|im_assistant|>assistant<|im_middle|><think>"""


def vocabulary() -> Vocabulary:
    """The released one where it is at hand."""
    return load_vocabulary(DATA) if DATA.is_dir() else Vocabulary(tiny_vocabulary(), tokenizer_config(2048))


def driven_directly(vocabulary: Vocabulary) -> tiktoken.Encoding:
    ranks = {vocabulary.token_bytes(rank): rank for rank in range(vocabulary.rank_count)}
    return tiktoken.Encoding("direct", pat_str=SPLIT_PATTERN, mergeable_ranks=ranks, special_tokens={})


def prose(chars: int, seed: int) -> str:
    """Text of this project's corpus, in another order: English, code, and some of other scripts."""
    lines = (Path(__file__).parents[2] / "shared/language/data/corpus.txt").read_text(encoding="utf-8").splitlines()
    source, pieces, size = random.Random(seed), [], 0
    while size < chars:
        words = source.choice(lines).split(" ")
        source.shuffle(words)
        pieces.append(" ".join(words))
        size += len(pieces[-1]) + 1
    return "\n".join(pieces)[:chars]


def history(chars: int, message_chars: int) -> list[Message]:
    """An agent's: a task, then tool calls and their results."""
    messages = [Message(role="user", content=(TextPart(text=prose(message_chars, 0)),))]
    for step in range(chars // (2 * message_chars)):
        arguments = json.dumps({"path": f"src/{step}.py", "text": prose(message_chars, 2 * step + 1)})
        call = ToolCall(id=f"functions.edit:{step}", name="edit", arguments=arguments)
        messages.append(Message(role="assistant", reasoning="Next.", tool_calls=(call,)))
        result = prose(message_chars, 2 * step + 2)
        messages.append(Message(role="tool", tool_call_id=call.id, content=(TextPart(text=result),)))
    return messages


def seconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def long_text(vocabulary: Vocabulary, direct: tiktoken.Encoding, chars: int, runs: int) -> dict[str, Any]:
    ours, theirs, tokens = [], [], 0
    for number in range(runs):
        text = prose(chars, number)
        ours.append(seconds(lambda text=text: vocabulary.encode(text)))
        theirs.append(seconds(lambda text=text: direct.encode_ordinary(text)))
        expected = [token for piece in cut(text) for token in direct.encode_ordinary(piece)]
        tokens = len(expected)
        if vocabulary.encode(text).tolist() != expected:
            raise AssertionError("the ids differ from tiktoken's")
    return {
        "tokens": tokens,
        "tokens_per_second": round(tokens / statistics.median(ours)),
        "of_tiktoken": round(statistics.median(b / a for a, b in zip(ours, theirs, strict=True)), 3),
    }


def growing(vocabulary: Vocabulary, direct: tiktoken.Encoding, template: Template, chars: int) -> dict[str, Any]:
    """From messages as they arrive to ids; tiktoken is given the texts of the same prompt, without its markers."""
    encoder, messages = PromptEncoder(vocabulary), history(chars, 2_000)
    kept = len(messages) - 20
    encoder.encode(render(messages[:kept], template=template))
    ours, theirs, tokens = [], [], 0
    for end in range(kept + 2, len(messages) + 1, 2):
        fresh = [msgspec.msgpack.decode(msgspec.msgpack.encode(m), type=Message) for m in messages[:end]]
        ours.append(seconds(lambda fresh=fresh: encoder.encode(render(fresh, template=template))))
        turns = render(fresh, template=template)
        texts = [segment.text for turn in turns for segment in turn if isinstance(segment, Text)]
        theirs.append(seconds(lambda texts=texts: [direct.encode_ordinary(text) for text in texts]))
        tokens = len(encoder.encode(turns).ids)
        markers = sum(isinstance(segment, Marker) for turn in turns for segment in turn)
        if tokens - markers > sum(len(direct.encode_ordinary(text)) for text in texts):
            raise AssertionError("the prompt is longer than its parts")
    return {
        "tokens": tokens,
        "milliseconds": round(1000 * statistics.median(ours), 2),
        "times_tiktoken": round(statistics.median(b / a for a, b in zip(ours, theirs, strict=True)), 1),
    }


def round_trips(vocabulary: Vocabulary, count: int, seed: int) -> int:
    """How many random Unicode strings did not come back."""
    source, failed = random.Random(seed), 0
    for _ in range(count):
        text = "".join(_character(source) for _ in range(source.randint(0, 24)))
        failed += vocabulary.decode_bytes(vocabulary.encode(text)).decode() != text
    return failed


def _character(source: random.Random) -> str:
    code = source.randrange((0x80, 0x3000, 0xD800, 0x110000)[source.randrange(4)])
    return chr(code if not 0xD800 <= code < 0xE000 else code - 0x800)


def measure(*, chars: int, runs: int, strings: int, seed: int) -> dict[str, Any]:
    words = vocabulary()
    direct = driven_directly(words)
    own = CheckpointTemplate(OWN_TEMPLATE, words.special_ids)
    return {
        "vocabulary": words.size,
        "long_text": long_text(words, direct, chars, runs),
        "growing_history": growing(words, direct, k26_template, chars),
        "growing_history_own_template": growing(words, direct, own, chars),
        "round_trips": strings,
        "round_trips_failed": round_trips(words, strings, seed),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--chars", type=int, default=800_000)
    parser.add_argument("--runs", type=int, default=21)
    parser.add_argument("--strings", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    result = measure(chars=options.chars, runs=options.runs, strings=options.strings, seed=options.seed)
    good = result["long_text"]["of_tiktoken"] >= 0.95 and result["growing_history"]["times_tiktoken"] >= 20
    print(json.dumps({**result, "ok": good and not result["round_trips_failed"]}))
    return 0 if good and not result["round_trips_failed"] else 1


if __name__ == "__main__":
    sys.exit(main())
