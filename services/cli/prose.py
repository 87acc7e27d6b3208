"""An answer as HTML: paragraphs, headings and lists, with the frames that a sentence cites beside it. Pure.

Input: a model's text, and figures per sentence. Output: HTML. Nothing of the text is markup of ours: it is escaped
first, and then only `**bold**` and `` `code` `` are read.
"""

import re
from collections.abc import Mapping
from html import escape

from shared.language.evidence import sentences

_BOLD = re.compile(r"\*\*(?=\S)([^*\n]{1,400}?)(?<=\S)\*\*")
_CODE = re.compile(r"`([^`\n]{1,400})`")
_HEADING = re.compile(r"(#{1,6})\s+(.*)")
_ITEM = re.compile(r"\s*(?:[-*•]|\d{1,3}[.)])\s+")
_RULE = re.compile(r"\s*([-*_])(?:\s*\1){2,}\s*")


def prose(text: str, figures: Mapping[str, str]) -> str:
    """``figures``: HTML by the quoted sentence that it belongs to."""
    blocks: list[str] = []
    paragraph: list[str] = []

    def close() -> None:
        if paragraph:
            blocks.append(f"<p>{'<br>'.join(paragraph)}</p>")
            paragraph.clear()

    for line in text.splitlines():
        heading, item = _HEADING.fullmatch(line.strip()), _ITEM.match(line)
        if not line.strip() or _RULE.fullmatch(line):
            close()
        elif heading is not None:
            close()
            blocks.append(f"<h4>{_inline(heading[2], figures)}</h4>")
        elif item is not None:
            close()
            blocks.append(f'<p class="item"><b>{escape(_mark(item[0]))}</b>{_inline(line[item.end() :], figures)}</p>')
        else:
            paragraph.append(_inline(line.strip(), figures))
    close()
    return "".join(blocks)


def _mark(text: str) -> str:
    return text.strip() if text.strip()[0].isdigit() else "•"


def _inline(line: str, figures: Mapping[str, str]) -> str:
    """Every sentence escaped; the figures of one stand before it, so that they float beside its first line."""
    pieces: list[str] = []
    position = 0
    for start, end in sentences(line):
        pieces.append(escape(line[position:start]))
        figure = figures.get(line[start:end], "")
        words = _marked(escape(line[start:end]))
        pieces.append(f'{figure}<span class="citing">{words}</span>' if figure else words)
        position = end
    return "".join([*pieces, escape(line[position:])])


def _marked(escaped: str) -> str:
    return _CODE.sub(r"<code>\1</code>", _BOLD.sub(r"<strong>\1</strong>", escaped))
