"""Generated answers of a model, and what they mean, worked out in one piece.

Input: a random source and a vocabulary. Output: lists of ids (valid, truncated, full of markers), and for such a list
the whole message. The meaning is read from the finished list with all of it at hand, not by the streaming parser.
"""

import codecs
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from shared.language import specials
from shared.language.vocabulary import Vocabulary

PIECES = 2_000
WORDS = ("tide ", "Mond ", "月が", "é", "🌊", "\n", "  ", "END", " st", "EN", '"', "\\", "{", "}", "[1, ", "null", "x")
MARKERS = (*specials.TOOL_MARKERS, specials.THINK, specials.END_THINK)
STOPS = ((), (), ("END",), ("END", " st", "tide M"))


@dataclass(frozen=True)
class Case:
    ids: list[int]
    thinking: bool
    stop: tuple[str, ...]


@dataclass
class Call:
    id: str
    name: str
    arguments: str = ""
    incomplete: bool = False


@dataclass
class Reading:
    """The message, and ``hanging``: whether it ends inside the head of a call, which nobody can have seen yet."""

    reasoning: str = ""
    content: str = ""
    calls: list[Call] = field(default_factory=list)
    hanging: bool = False


class Transcripts:
    """Cases from pieces that are encoded once, so that a million of them take minutes."""

    def __init__(self, vocabulary: Vocabulary, seed: int) -> None:
        self._vocabulary = vocabulary
        self._random = random.Random(seed)
        self._single = {vocabulary.token_bytes(n)[0]: n for n in range(256)}
        self._texts = [self._encoded(self._words()) for _ in range(PIECES)]
        self._values = [self._encoded(json.dumps(self._value(0), ensure_ascii=False)) for _ in range(PIECES)]
        self._heads = [self._encoded(f"functions.f{n % 9}:{n}") for n in range(64)]
        self._heads += [self._encoded(text) for text in ("", " find:3 ", "call_x", "functions.", "a.b:c:1")]
        self._specials = [vocabulary.special(name) for name in MARKERS]

    def next(self) -> Case:
        chance = self._random.random()
        ids = self._noise() if chance < 0.25 else self._answer(messy=chance < 0.6)
        if self._random.random() < 0.4:
            ids = ids[: self._random.randint(0, len(ids))]
        return Case(ids, self._random.random() < 0.7, self._random.choice(STOPS))

    def cuts(self, length: int) -> list[tuple[int, int]]:
        """Borders of chunks: one by one, a few, or in one piece."""
        count = self._random.choice((length, 4, 1))
        inner = sorted(self._random.randint(0, length) for _ in range(count))
        return list(pairwise([0, *inner, length]))

    def _answer(self, *, messy: bool) -> list[int]:
        pick, special = self._random.choice, self._vocabulary.special
        ids = [*pick(self._texts)]
        ids += [special(specials.END_THINK)] if self._random.random() < 0.8 else []
        ids += pick(self._texts)
        for _ in range(self._random.randint(0, 2)):
            ids += [special(specials.TOOL_SECTION_BEGIN)]
            for _ in range(self._random.randint(1, 3)):
                ids += self._call(messy=messy)
            ids += [special(specials.TOOL_SECTION_END)] if not messy or self._random.random() < 0.7 else []
            ids += pick(self._texts) if self._random.random() < 0.3 else []
        return ids

    def _call(self, *, messy: bool) -> list[int]:
        pick, special = self._random.choice, self._vocabulary.special
        value = pick(self._values)
        if messy and self._random.random() < 0.5:
            place = self._random.randint(0, len(value))
            value = [*value[:place], pick(self._specials), *value[place + self._random.randint(0, 1) :]]
        parts = [[special(specials.TOOL_CALL_BEGIN)], pick(self._heads), [special(specials.TOOL_ARGUMENT_BEGIN)]]
        parts += [value, [special(specials.TOOL_CALL_END)]]
        if messy and self._random.random() < 0.3:
            del parts[self._random.randrange(len(parts))]
        return [token_id for part in parts for token_id in part]

    def _noise(self) -> list[int]:
        ids: list[int] = []
        for _ in range(self._random.randint(0, 12)):
            chance = self._random.random()
            if chance < 0.5:
                ids.append(self._random.choice(self._specials))
            elif chance < 0.6:
                ids.append(self._random.randrange(self._vocabulary.size))
            else:
                ids += self._random.choice(self._texts)[:6]
        return ids

    def _words(self) -> str:
        marked = self._random.random() < 0.15
        words = [*WORDS, *MARKERS] if marked else WORDS
        return "".join(self._random.choice(words) for _ in range(self._random.randint(0, 5)))

    def _value(self, depth: int) -> Any:
        if depth and self._random.random() < 0.7:
            return self._random.choice([self._words(), self._words(), 7, None, True])
        return {self._words(): self._value(depth + 1) for _ in range(self._random.randint(0, 3))}

    def _encoded(self, text: str) -> list[int]:
        """As the vocabulary would, or byte by byte, so that characters are split between tokens."""
        if self._random.random() < 0.9:
            return self._vocabulary.encode(text).tolist()
        return [self._single[byte] for byte in text.encode()]


def read(case: Case, ids: Sequence[int], vocabulary: Vocabulary) -> Reading:
    """What ``ids`` say, if nothing follows."""
    return _Reader(case, ids, vocabulary).read()


class _Reader:
    def __init__(self, case: Case, ids: Sequence[int], vocabulary: Vocabulary) -> None:
        self.case = case
        self.items = [_item(token_id, vocabulary) for token_id in ids]
        self.place = 0
        self.result = Reading()

    def read(self) -> Reading:
        inside = "text"
        if self.case.thinking:
            self.result.reasoning, last = self._until({specials.END_THINK, *_OPENERS})
            inside = _AFTER[last]
        steps = {"text": self._content, "calls": self._calls, "call": self._call}
        while inside != "end":
            inside = steps[inside]()
        return self.result

    def _until(self, borders: set[str]) -> tuple[str, str]:
        """Text up to a border, which is consumed and returned; "" at the end."""
        data = b""
        while self.place < len(self.items):
            item = self.items[self.place]
            self.place += 1
            if isinstance(item, bytes):
                data += item
            elif item in borders:
                return data.decode("utf-8", "replace"), item
        return data.decode("utf-8", "replace"), ""

    def _content(self) -> str:
        start = self.place
        text, last = self._until(_OPENERS)
        stopped = self._stopped(self.items[start : self.place])
        self.result.content += text if stopped is None else stopped
        return _AFTER[last] if stopped is None else "end"

    def _stopped(self, items: Sequence[bytes | str]) -> str | None:
        """The content up to the stop string that is complete first, if any is."""
        data = b""
        for item in items if self.case.stop else ():
            data += item if isinstance(item, bytes) else b""
            text = _complete(data)
            if places := [place for stop in self.case.stop if (place := text.find(stop)) >= 0]:
                return text[: min(places)]
        return None

    def _calls(self) -> str:
        """Between calls white space vanishes, and anything else begins content."""
        data, start = b"", self.place
        while self.place < len(self.items):
            item = self.items[self.place]
            self.place += 1
            data += item if isinstance(item, bytes) else b""
            if _complete(data).strip():
                space = len(_complete(data)) - len(_complete(data).lstrip())
                self.items[start : self.place] = [data[len(_complete(data)[:space].encode()) :]]
                self.place = start
                return "text"
            if item in (specials.TOOL_CALL_BEGIN, specials.TOOL_SECTION_END):
                self.result.content += data.decode("utf-8", "replace").strip()
                return "call" if item == specials.TOOL_CALL_BEGIN else "text"
        self.result.content += data.decode("utf-8", "replace").strip()
        return "end"

    def _call(self) -> str:
        head, last = self._until({specials.TOOL_ARGUMENT_BEGIN, *_CALL_ENDS})
        head = head[:256].strip()
        call = Call(head or f"call_{len(self.result.calls)}", head.split(":")[0].split(".")[-1])
        self.result.calls.append(call)
        if last != specials.TOOL_ARGUMENT_BEGIN:
            call.incomplete, self.result.hanging = True, last == ""
            return _AFTER_CALL[last]
        text, last = self._arguments()
        call.arguments = text.strip() or ("{}" if last == specials.TOOL_CALL_END else "")
        call.incomplete = not _balanced(call.arguments)
        return _AFTER_CALL[last]

    def _arguments(self) -> tuple[str, str]:
        text, data = "", b""
        while self.place < len(self.items):
            item = self.items[self.place]
            self.place += 1
            if isinstance(item, bytes):
                data += item
            elif _in_string(text + data.decode("utf-8", "replace")) and self._is_text(item):
                text, data = text + data.decode("utf-8", "replace") + item, b""
            elif item in _CALL_ENDS:
                return text + data.decode("utf-8", "replace"), item
        return text + data.decode("utf-8", "replace"), ""

    def _is_text(self, marker: str) -> bool:
        """Of a marker inside a string; ``place`` is behind it."""
        if marker in (specials.TOOL_CALL_END, specials.TOOL_SECTION_END):
            following = self.items[self.place] if self.place < len(self.items) else specials.TOOL_SECTION_END
            return isinstance(following, bytes) or following not in (*_OPENERS, specials.TOOL_SECTION_END)
        return marker in (
            specials.THINK,
            specials.END_THINK,
            specials.TOOL_SECTION_BEGIN,
            specials.TOOL_ARGUMENT_BEGIN,
        )


def _item(token_id: int, vocabulary: Vocabulary) -> bytes | str:
    """Bytes of text, or the name of a marker ("" for one without a meaning here)."""
    if token_id < vocabulary.rank_count:
        return vocabulary.token_bytes(token_id)
    return vocabulary.special_names.get(token_id, "")


_OPENERS = {specials.TOOL_SECTION_BEGIN, specials.TOOL_CALL_BEGIN}
_CALL_ENDS = {specials.TOOL_CALL_BEGIN, specials.TOOL_CALL_END, specials.TOOL_SECTION_END}
_AFTER = {
    "": "end",
    specials.END_THINK: "text",
    specials.TOOL_SECTION_BEGIN: "calls",
    specials.TOOL_CALL_BEGIN: "call",
}
_AFTER_CALL = {
    "": "end",
    specials.TOOL_CALL_BEGIN: "call",
    specials.TOOL_CALL_END: "calls",
    specials.TOOL_SECTION_END: "text",
}


def _complete(data: bytes) -> str:
    """Text of the characters that no following byte can change."""
    return codecs.getincrementaldecoder("utf-8")("replace").decode(data)


def _in_string(text: str) -> bool:
    inside, place = False, 0
    while place < len(text):
        if inside and text[place] == "\\":
            place += 1
        elif text[place] == '"':
            inside = not inside
        place += 1
    return inside


def _balanced(text: str) -> bool:
    """Whether brackets outside strings are closed, and strings too."""
    bare = ""
    inside, place = False, 0
    while place < len(text):
        if inside and text[place] == "\\":
            place += 1
        elif text[place] == '"':
            inside = not inside
        elif not inside:
            bare += text[place]
        place += 1
    opened = sum(bare.count(bracket) for bracket in "{[")
    return bool(text) and not inside and opened == sum(bare.count(bracket) for bracket in "}]")
