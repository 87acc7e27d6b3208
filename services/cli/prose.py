"""An answer as HTML: paragraphs, headings and lists, with the frames that a sentence cites beside it. Pure.

Input: a model's text, and figures per sentence. Output: HTML. Nothing of the text is markup of ours: it is escaped
first, and then only `**bold**` and `` `code` `` are read.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape

from shared.language.evidence import cited_places, sentences

_BOLD = re.compile(r"\*\*(?=\S)([^*\n]{1,400}?)(?<=\S)\*\*")
_CODE = re.compile(r"`([^`\n]{1,400})`")
_HEADING = re.compile(r"(#{1,6})\s+(.*)")
_ITEM = re.compile(r"\s*(?:[-*•]|\d{1,3}[.)])\s+")
_RULE = re.compile(r"\s*([-*_])(?:\s*\1){2,}\s*")


def prose(text: str, figures: Mapping[str, Sequence[str]]) -> str:
    """``figures``: HTML of the pictures, by the quoted sentence that they belong to."""
    rows: list[str] = []
    for kind, lines in _blocks(text):
        beside: dict[str, None] = {}
        inner = "<br>".join(_inline(line, figures, beside) for line in lines)
        rows.append(_row(_block(kind, inner), "".join(beside)))
    return "".join(rows)


def _blocks(text: str) -> Iterator[tuple[str, list[str]]]:
    """("p", lines of a paragraph), ("h4", [heading]) or (mark of a list, [item]), in order."""
    paragraph: list[str] = []
    for line in [*text.splitlines(), ""]:
        heading, item = _HEADING.fullmatch(line.strip()), _ITEM.match(line)
        plain = bool(line.strip()) and not (heading or item or _RULE.fullmatch(line))
        if plain:
            paragraph.append(line.strip())
            continue
        if paragraph:
            yield "p", paragraph
            paragraph = []
        if heading is not None:
            yield "h4", [heading[2]]
        elif item is not None and not _RULE.fullmatch(line):
            yield _mark(item[0]), [line[item.end() :]]


def _block(kind: str, inner: str) -> str:
    if kind in ("p", "h4"):
        return f"<{kind}>{inner}</{kind}>"
    return f'<p class="item"><b>{escape(kind)}</b>{inner}</p>'


def _row(block: str, beside: str) -> str:
    return f'<div class="row">{block}<div class="beside">{beside}</div></div>' if beside else block


def _mark(text: str) -> str:
    return text.strip() if text.strip()[0].isdigit() else "•"


def _inline(line: str, figures: Mapping[str, Sequence[str]], beside: dict[str, None]) -> str:
    """Every sentence escaped; the pictures of citing ones go into ``beside``, each once."""
    pieces: list[str] = []
    position = 0
    for start, end in sentences(line):
        shown = figures.get(line[start:end], ())
        beside.update(dict.fromkeys(shown))
        words = _marked(escape(line[start:end]))
        pieces += [escape(line[position:start]), f'<span class="citing">{_timed(words)}</span>' if shown else words]
        position = end
    return "".join([*pieces, escape(line[position:])])


def _timed(html: str) -> str:
    """Cited times stand out. Neither entities nor tags of ours read as times."""
    pieces: list[str] = []
    position = 0
    for start, end in cited_places(html):
        pieces += [html[position:start], f'<span class="at">{html[start:end]}</span>']
        position = end
    return "".join([*pieces, html[position:]])


def _marked(escaped: str) -> str:
    return _CODE.sub(r"<code>\1</code>", _BOLD.sub(r"<strong>\1</strong>", escaped))
