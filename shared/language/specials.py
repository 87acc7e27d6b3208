"""Names and places of the released special tokens (reference page section 4), and a tokenizer_config.json for a
vocabulary of another size. Input: the number of ranks. Knows nothing of text or of tiktoken.
"""

from typing import Any

BOS = "[BOS]"
EOS = "[EOS]"
IM_END = "<|im_end|>"
IM_USER = "<|im_user|>"
IM_ASSISTANT = "<|im_assistant|>"
IM_SYSTEM = "<|im_system|>"
IM_MIDDLE = "<|im_middle|>"
MEDIA_BEGIN = "<|media_begin|>"
MEDIA_CONTENT = "<|media_content|>"
MEDIA_END = "<|media_end|>"
MEDIA_PAD = "<|media_pad|>"
THINK = "<think>"
END_THINK = "</think>"
TOOL_SECTION_BEGIN = "<|tool_calls_section_begin|>"
TOOL_SECTION_END = "<|tool_calls_section_end|>"
TOOL_CALL_BEGIN = "<|tool_call_begin|>"
TOOL_ARGUMENT_BEGIN = "<|tool_call_argument_begin|>"
TOOL_CALL_END = "<|tool_call_end|>"

RESERVED = 256
"""Ids behind the ranks that are special; the unnamed ones are never text and never generated."""

OFFSETS: dict[str, int] = {
    BOS: 0,
    EOS: 1,
    IM_END: 2,
    IM_USER: 3,
    IM_ASSISTANT: 4,
    "<|start_header_id|>": 6,
    "<|end_header_id|>": 7,
    "[EOT]": 9,
    IM_SYSTEM: 10,
    TOOL_SECTION_BEGIN: 11,
    TOOL_SECTION_END: 12,
    TOOL_CALL_BEGIN: 13,
    TOOL_ARGUMENT_BEGIN: 14,
    TOOL_CALL_END: 15,
    IM_MIDDLE: 17,
    MEDIA_BEGIN: 18,
    MEDIA_CONTENT: 19,
    MEDIA_END: 20,
    MEDIA_PAD: 21,
    THINK: 22,
    END_THINK: 23,
    "[UNK]": 254,
    "[PAD]": 255,
}
"""Released id minus the released number of ranks (163,584)."""

OLDER_NAMES = {"<|media_start|>": MEDIA_BEGIN}
"""What Kimi-VL calls a token of the same id and meaning."""

TOOL_MARKERS = (TOOL_SECTION_BEGIN, TOOL_SECTION_END, TOOL_CALL_BEGIN, TOOL_ARGUMENT_BEGIN, TOOL_CALL_END)
STOPS = (IM_END, EOS)
"""Generation ends at either, whatever config.json says."""

_NOT_SPECIAL = frozenset((*TOOL_MARKERS, THINK, END_THINK))
_ADDITIONAL = (IM_END, IM_USER, IM_ASSISTANT, "<|start_header_id|>", "<|end_header_id|>", "[EOT]", IM_SYSTEM, IM_MIDDLE)
_MEDIA = (MEDIA_BEGIN, MEDIA_CONTENT, MEDIA_END, MEDIA_PAD)


def tokenizer_config(rank_count: int) -> dict[str, Any]:
    """A tokenizer_config.json in the released layout for ``rank_count`` ranks: specials at the released offsets."""
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    return {
        "added_tokens_decoder": {
            str(rank_count + offset): {"content": name, **flags, "special": name not in _NOT_SPECIAL}
            for name, offset in OFFSETS.items()
        },
        "additional_special_tokens": [*_ADDITIONAL, *_MEDIA],
        "bos_token": BOS,
        "clean_up_tokenization_spaces": False,
        "eos_token": EOS,
        "pad_token": "[PAD]",
        "tokenizer_class": "TikTokenTokenizer",
        "unk_token": "[UNK]",
    }
