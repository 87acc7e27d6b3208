"""``python -m tests.fuzz.language``: streamed answers against the whole message, over generated transcripts.

Each case is one answer of a model. 64 are streamed at once, cut and interleaved at random, with processes that die and
continue from ``resume``; what was streamed must be the message that an independent reading of all ids gives, and at
every moment nothing may be held back longer than a marker or a character could need. ``--break`` builds in a fault that
must be found. Prints one JSON line; exit code 1 on a mismatch.
"""

import argparse
import json
import os
import random
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from schemas.chat import ChatDelta, ToolCallDelta
from schemas.generation import TokensGenerated
from services.tokenizer.progress import AnswerProgress
from shared.language import specials
from shared.language.answer import AnswerParser
from shared.language.detokenise import Detokeniser
from shared.language.vocabulary import Vocabulary, load_vocabulary, tiny_vocabulary
from tests.fuzz.transcripts import Call, Case, Reading, Transcripts, read

STREAMS = 64
DATA = Path(os.environ.get("MOONTIDE_TEST_DATA_DIR", Path(__file__).parents[3] / "shared" / "data")) / "kimi-k2.6"


class HoldsBack(AnswerParser):
    """Arguments come in one lump at the end of their call."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._lump: list[ToolCallDelta] = []

    def push(self, ids: Any) -> ChatDelta:
        delta = super().push(ids)
        self._lump += delta.tool_calls
        return msgspec.structs.replace(delta, tool_calls=())

    def finish(self) -> ChatDelta:
        rest = super().finish()
        return msgspec.structs.replace(rest, tool_calls=(*self._lump, *rest.tool_calls))


class LeaksMarker(AnswerParser):
    """The end of the reasoning is also shown."""

    def push(self, ids: Any) -> ChatDelta:
        ids = list(ids)
        delta, end = super().push(ids), self._vocabulary.special(specials.END_THINK)
        return msgspec.structs.replace(delta, content=delta.content + specials.END_THINK * ids.count(end))


class LosesCall(AnswerParser):
    """A second call in one piece is lost."""

    def push(self, ids: Any) -> ChatDelta:
        delta = super().push(ids)
        return msgspec.structs.replace(delta, tool_calls=delta.tool_calls[:1])


class SplitsCharacter(AnswerParser):
    """A character that is split between two pieces is not waited for."""

    def push(self, ids: Any) -> ChatDelta:
        delta = super().push(ids)
        self._characters = Detokeniser()
        return delta


class EndsAtMarkerInString(AnswerParser):
    """A marker ends the arguments wherever it stands."""

    def _marker(self, name: str) -> None:
        self._border(name)


class SharesState(AnswerParser):
    """All streams collect the id of a call in the same place."""

    shared = ""

    def _text(self, text: str) -> None:
        self._call_id = SharesState.shared
        super()._text(text)
        SharesState.shared = self._call_id


BREAKS: dict[str, type[AnswerParser]] = {
    "hold-back": HoldsBack,
    "leak-marker": LeaksMarker,
    "lose-call": LosesCall,
    "split-character": SplitsCharacter,
    "marker-in-string": EndsAtMarkerInString,
    "share-state": SharesState,
}


@dataclass
class Stream:
    """One answer on its way, and what has been received of it."""

    case: Case
    vocabulary: Vocabulary
    parser: type[AnswerParser]
    progress: AnswerProgress = field(init=False)
    resume: bytes = b""
    seen: Reading = field(default_factory=Reading)
    dense: bool = True
    """Whether no index of a call was skipped."""

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """The process has died; another one continues behind what was received."""
        parser = self.parser(self.vocabulary, thinking=self.case.thinking, stop=self.case.stop)
        self.progress = AnswerProgress(parser, self.vocabulary, self.resume)

    def take(self, start: int, end: int) -> None:
        if not self.progress.is_complete:
            ids = np.array(self.case.ids[start:end], "<u4").tobytes()
            self._receive(self.progress.take(TokensGenerated(first_position=start, ids=ids)))

    def finish(self) -> None:
        self._receive(self.progress.finish())

    def _receive(self, delta: ChatDelta) -> None:
        self.resume += delta.resume
        self.seen.reasoning += delta.reasoning
        self.seen.content += delta.content
        for piece in delta.tool_calls:
            if piece.index == len(self.seen.calls):
                self.seen.calls.append(Call(piece.id, piece.name))
            if piece.index >= len(self.seen.calls):
                self.dense = False
                return
            call = self.seen.calls[piece.index]
            call.arguments += piece.arguments
            call.incomplete |= piece.incomplete


def lags(seen: Reading, whole: Reading, stop: tuple[str, ...]) -> bool:
    """Whether more is held back than a marker, a stop string or a character could need to be told apart.

    ``whole``: what can be known by now.
    """
    calls = whole.calls[:-1] if whole.hanging else whole.calls
    longest = max(map(len, stop), default=1)
    return not (
        _behind(seen.reasoning, whole.reasoning, 1)
        and _behind(seen.content, whole.content, longest)
        and len(seen.calls) == len(calls)
        and all(_behind(a.arguments, b.arguments, 1) for a, b in zip(seen.calls, calls, strict=True))
    )


def _behind(seen: str, whole: str, characters: int) -> bool:
    """Whether ``seen`` is the beginning of ``whole`` up to so many characters and white space."""
    return whole.startswith(seen) and len(whole[len(seen) :].strip()) <= characters


class Run:
    """Groups of 64 streams. ``mismatches``: descriptions, at most a few."""

    def __init__(self, vocabulary: Vocabulary, seed: int, parser: type[AnswerParser]) -> None:
        self._vocabulary, self._parser, self._seed = vocabulary, parser, seed
        self._random = random.Random(seed + 1)
        self._transcripts = Transcripts(vocabulary, seed)
        self.cases = self.ids = self.deaths = 0
        self.mismatches: list[str] = []

    def group(self) -> None:
        streams = [Stream(self._transcripts.next(), self._vocabulary, self._parser) for _ in range(STREAMS)]
        chunks = {number: self._transcripts.cuts(len(s.case.ids))[::-1] for number, s in enumerate(streams)}
        open_ones = list(chunks)
        while open_ones:
            place = self._random.randrange(len(open_ones))
            if self._step(streams[open_ones[place]], chunks[open_ones[place]]):
                open_ones[place] = open_ones[-1]
                open_ones.pop()
        self.cases += STREAMS

    def _step(self, stream: Stream, chunks: list[tuple[int, int]]) -> bool:
        """One chunk; whether it was the last."""
        start, end = chunks.pop()
        stream.take(max(start - self._random.randint(0, 1), 0), end)
        chance = self._random.random()
        if chance < 0.01:
            stream.restart()
            self.deaths += 1
        elif chance < 0.025:
            known = read(stream.case, stream.case.ids[:end], self._vocabulary)
            self._check(not lags(stream.seen, known, stream.case.stop), stream, known)
        if chunks:
            return False
        stream.finish()
        expected = read(stream.case, stream.case.ids, self._vocabulary)
        expected.hanging = False
        self._check(stream.dense and stream.seen == expected, stream, expected)
        self.ids += len(stream.case.ids)
        return True

    def _check(self, good: bool, stream: Stream, expected: Reading) -> None:
        if not good:
            self.mismatches.append(f"seed {self._seed}: {stream.case}\nstreamed {stream.seen}\nexpected {expected}")


def run(cases: int, seed: int, sabotage: str, released: bool) -> Run:
    vocabulary = load_vocabulary(DATA) if released else Vocabulary(tiny_vocabulary())
    found = Run(vocabulary, seed, BREAKS.get(sabotage, AnswerParser))
    while found.cases < cases and len(found.mismatches) < 3:
        found.group()
    return found


def main() -> int:
    options = _options()
    started = time.monotonic()
    share = -(-options.cases // options.processes)
    seeds = [options.seed * 1000 + number for number in range(options.processes)]
    vocabularies = [number % 2 == 1 and DATA.is_dir() for number in range(options.processes)]
    with ProcessPoolExecutor(options.processes) as pool:
        runs = list(pool.map(_job, [(share, s, options.sabotage, v) for s, v in zip(seeds, vocabularies, strict=True)]))
    mismatches = [text for found in runs for text in found["mismatches"]]
    for text in mismatches[:3]:
        print(text, file=sys.stderr)
    sums = {key: sum(found[key] for found in runs) for key in ("cases", "ids", "deaths")}
    result = {
        **sums,
        "mismatches": len(mismatches),
        "streams_at_once": STREAMS,
        "released_vocabulary": any(vocabularies),
        "seed": options.seed,
        "break": options.sabotage or None,
        "seconds": round(time.monotonic() - started, 1),
        "ok": not mismatches,
    }
    print(json.dumps(result))
    return 1 if mismatches else 0


def _job(arguments: tuple[int, int, str, bool]) -> dict[str, Any]:
    found = run(*arguments)
    return {"cases": found.cases, "ids": found.ids, "deaths": found.deaths, "mismatches": found.mismatches}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--cases", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--break", dest="sabotage", default="", choices=["", *BREAKS])
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
