"""Words for a full-text index, and questions to it. Pure.

Input: texts and questions of people. Output: passages with their places, the form in which a text is indexed, and
FTS5 match expressions. Scripts without spaces between words are indexed by character and asked for as phrases. Must
not know SQLite or files.
"""

import re
from collections.abc import Iterator

PASSAGE_CHARS = 1600
MAX_TERMS = 32
_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u0e00-\u0e7f"
_CHARACTER = re.compile(f"([{_UNSPACED}])")
_BETWEEN = re.compile(f"(?<=[{_UNSPACED}]) | (?=[{_UNSPACED}])")
_TERM = re.compile(f'"([^"]{{1,200}})"|[{_UNSPACED}]+|[^\\W{_UNSPACED}]+')
_WORD = re.compile(r"\w+")


def passages(text: str) -> Iterator[tuple[int, str]]:
    """(first character, text) of pieces of about a page, cut between paragraphs, lines or words, in that order."""
    start = 0
    while start < len(text):
        end = _end(text, start)
        if text[start:end].strip():
            yield start, text[start:end]
        start = end


def spaced(text: str) -> str:
    """With spaces around characters of scripts that put none between words."""
    return _CHARACTER.sub(r" \1 ", text) if _CHARACTER.search(text) else text


def unspaced(text: str) -> str:
    """What ``spaced`` made, as it is read."""
    return _BETWEEN.sub("", text.replace("  ", " "))


def match_expression(question: str) -> str:
    """Any of the question's words, and its quoted phrases as phrases; empty when it holds neither. Nothing in the
    question can become an operator."""
    phrases: list[str] = []
    for found in _TERM.finditer(question):
        words = _WORD.findall(spaced(found.group(1) or found.group(0)))
        phrase = '"' + " ".join(words) + '"'
        if words and phrase not in phrases:
            phrases.append(phrase)
    return " OR ".join(phrases[:MAX_TERMS])


def _end(text: str, start: int) -> int:
    if len(text) - start <= PASSAGE_CHARS:
        return len(text)
    latest = start + PASSAGE_CHARS
    for boundary in ("\n\n", "\n", " "):
        place = text.rfind(boundary, start + PASSAGE_CHARS // 2, latest)
        if place >= 0:
            return place + len(boundary)
    return latest
