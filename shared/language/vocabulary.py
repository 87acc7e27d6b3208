"""A vocabulary in the released format: text to ids, ids to bytes.

Input: a tiktoken file (``<base64 token> <rank>`` a line) and tokenizer_config.json. Encoding never yields a special
id: a marker in user text stays text. Knows nothing of templates or messages.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import tiktoken

from shared.errors import BadInput
from shared.language.specials import OFFSETS, OLDER_NAMES, RESERVED

TokenIds = npt.NDArray[np.uint32]

VOCABULARY_FILE = "tiktoken.model"
CONFIG_FILE = "tokenizer_config.json"

_UPPER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]"
_LOWER = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]"
_BEFORE_WORD = r"[^\r\n\p{L}\p{N}]?"
_CONTRACTION = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
SPLIT_PATTERN = "|".join(
    (
        r"[\p{Han}]+",
        f"{_BEFORE_WORD}{_UPPER}*{_LOWER}+{_CONTRACTION}",
        f"{_BEFORE_WORD}{_UPPER}+{_LOWER}*{_CONTRACTION}",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    )
)
"""The released split (reference page section 4), in the syntax of tiktoken's regex engine."""

MAX_PIECE_CHARS = 400_000
MAX_RUN_CHARS = 25_000
"""As released: longer texts, and longer runs of (non-)whitespace, are cut before they are encoded."""

_NO_TOKEN = "\ue000no token\ue001"
"""tiktoken looks for special tokens before it writes to numpy, slowly if there are none at all. None is allowed, so
that this one stays text too."""
_NONE: frozenset[str] = frozenset()

_RUN = re.compile(r"\s+|\S+")


class Vocabulary:
    """Ranks and special ids of one checkpoint. Immutable, so threads may share it."""

    def __init__(self, data: bytes, config: Mapping[str, Any] | None = None) -> None:
        """``data``: the tiktoken file; ``config``: tokenizer_config.json. Raises BadInput for a malformed file."""
        ranks = _parse_ranks(data)
        self.rank_count = len(ranks)
        self.size = self.rank_count + RESERVED
        self.special_ids: Mapping[str, int] = _special_ids(self.rank_count, config or {})
        self.special_names: Mapping[int, str] = {number: name for name, number in self.special_ids.items()}
        self.digest = _digest(data, self.special_ids)
        self._tokens = sorted(ranks, key=ranks.__getitem__)
        self._encoding = tiktoken.Encoding(
            "moontide", pat_str=SPLIT_PATTERN, mergeable_ranks=ranks, special_tokens={_NO_TOKEN: self.rank_count}
        )

    def encode(self, text: str) -> TokenIds:
        """Ids of ``text``, uint32, all below ``rank_count``."""
        pieces = [self._encode_piece(piece) for piece in cut(text)]
        if len(pieces) == 1:
            return pieces[0]
        return np.concatenate(pieces) if pieces else np.empty(0, np.uint32)

    def _encode_piece(self, piece: str) -> TokenIds:
        try:
            return self._encoding.encode_to_numpy(piece, allowed_special=_NONE, disallowed_special=())
        except UnicodeEncodeError:  # half of a surrogate pair: the other form knows what to do
            return np.array(self._encoding.encode_ordinary(piece), np.uint32)

    def special(self, name: str) -> int:
        """Id of a released special token."""
        return self.special_ids[name]

    def token_bytes(self, token_id: int) -> bytes:
        """Bytes a token stands for; empty for every special or unknown id, so that no marker can become text."""
        return self._tokens[token_id] if 0 <= token_id < self.rank_count else b""

    def decode_bytes(self, ids: TokenIds) -> bytes:
        return b"".join(self.token_bytes(token_id) for token_id in ids.tolist())


def load_vocabulary(directory: Path) -> Vocabulary:
    """The vocabulary of a checkpoint directory. Raises BadInput naming the file that is missing or malformed."""
    config = directory / CONFIG_FILE
    try:
        data = (directory / VOCABULARY_FILE).read_bytes()
        settings = msgspec.json.decode(config.read_bytes(), type=dict[str, Any]) if config.exists() else {}
    except (OSError, msgspec.DecodeError) as error:
        raise BadInput("checkpoint.vocabulary", f"cannot read the vocabulary in {directory}: {error}") from error
    return Vocabulary(data, settings)


def tiny_vocabulary() -> bytes:
    """A tiktoken file of 2,048 ranks, trained on text of this project (``training.py``)."""
    return resources.files("shared.language.data").joinpath("tiny.tiktoken").read_bytes()


def cut(text: str) -> Iterator[str]:
    """``text`` in the pieces that the released tokenizer encodes one by one."""
    for start in range(0, len(text), MAX_PIECE_CHARS):
        piece = text[start : start + MAX_PIECE_CHARS]
        if _may_have_long_run(piece):
            yield from _cut_runs(piece)
        else:
            yield piece


def _may_have_long_run(piece: str) -> bool:
    """False is certain: a run longer than the limit covers one aligned stretch of half the limit entirely."""
    half = MAX_RUN_CHARS // 2
    stretches = (piece[start : start + half] for start in range(0, len(piece) - half + 1, half))
    return len(piece) > MAX_RUN_CHARS and any(s.isspace() or s.split(None, 1) == [s] for s in stretches)


def _cut_runs(piece: str) -> Iterator[str]:
    start = 0
    for run in _RUN.finditer(piece):
        for border in range(run.start() + MAX_RUN_CHARS, run.end(), MAX_RUN_CHARS):
            yield piece[start:border]
            start = border
    yield piece[start:]


def _parse_ranks(data: bytes) -> dict[bytes, int]:
    try:
        pairs = [line.split() for line in data.splitlines() if line]
        ranks = {base64.b64decode(token, validate=True): int(rank) for token, rank in pairs}
    except (ValueError, binascii.Error) as error:
        raise BadInput("checkpoint.vocabulary", f"the vocabulary file is malformed: {error}") from error
    if sorted(ranks.values()) != list(range(len(pairs))):
        raise BadInput("checkpoint.vocabulary", "the vocabulary's ranks are not 0, 1, 2, … without repetition")
    if any(bytes((value,)) not in ranks for value in range(256)):
        raise BadInput("checkpoint.vocabulary", "the vocabulary lacks some of the 256 single bytes")
    return ranks


def _special_ids(rank_count: int, config: Mapping[str, Any]) -> dict[str, int]:
    """Released names at the ids that tokenizer_config.json gives them, else at their released offset."""
    ids = {name: rank_count + offset for name, offset in OFFSETS.items()}
    try:
        declared = {entry["content"]: int(key) for key, entry in config.get("added_tokens_decoder", {}).items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput("checkpoint.vocabulary", "added_tokens_decoder of tokenizer_config.json is malformed") from error
    for name, number in declared.items():
        ids[OLDER_NAMES.get(name) or name] = number
    misplaced = [name for name, number in ids.items() if not rank_count <= number < rank_count + RESERVED]
    if misplaced or len(set(ids.values())) != len(ids):
        raise BadInput("checkpoint.vocabulary", f"special tokens overlap each other or the ranks: {misplaced or ids}")
    return ids


def _digest(data: bytes, special_ids: Mapping[str, int]) -> str:
    digest = hashlib.sha256(data)
    digest.update(msgspec.json.encode(sorted(special_ids.items())))
    return digest.hexdigest()
