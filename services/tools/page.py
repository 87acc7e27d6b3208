"""A web page as text, made in a process that may die: parsers of foreign HTML are not trusted with ours.

``python -m services.tools.page CHARSET URL`` reads HTML on standard input and writes the title, an empty line and the
text: paragraphs, lists, tables and code as they stand, navigation left out, links with absolute addresses behind them.
The only file that knows resiliparse. Must not know the network.
"""

import re
import resource
import sys
from urllib.parse import urljoin

from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.encoding import detect_encoding
from resiliparse.parse.html import HTMLTree

MEMORY_BYTES = 1024 * 1024 * 1024
CPU_SECONDS = 10
SKIPPED = ("nav", "footer", "aside", "dialog", "[role=navigation]", "[role=banner]", "[role=contentinfo]")
_GAP = re.compile(r"\n{3,}")


def page_text(html: bytes, charset: str, url: str) -> tuple[str, str]:
    """(title, text). A page whose text is all navigation is told whole."""
    tree = HTMLTree.parse_from_bytes(html, charset or _encoding(html))
    for link in tree.document.query_selector_all("a[href]") if tree.document is not None else ():
        link["href"] = _absolute(url, link["href"] or "")
    text = _plain(tree, list(SKIPPED)) or _plain(tree, [])
    return " ".join((tree.title or "").split()), text


def _encoding(html: bytes) -> str:
    """Text that is UTF-8 is meant so; a detector is wrong about short ones."""
    try:
        html.decode("utf-8")
    except UnicodeDecodeError:
        return detect_encoding(html, from_html_meta=True) or "utf-8"
    return "utf-8"


def _plain(tree: HTMLTree, skipped: list[str]) -> str:
    text = extract_plain_text(
        tree, preserve_formatting=True, main_content=False, links=True, alt_texts=True, skip_elements=skipped
    )
    return _GAP.sub("\n\n", text).strip()


def _absolute(url: str, href: str) -> str:
    try:
        return urljoin(url, href)
    except ValueError:
        return href


def main(charset: str, url: str) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    title, text = page_text(sys.stdin.buffer.read(), charset, url)
    sys.stdout.buffer.write(f"{title}\n\n{text}".encode("utf-8", "replace"))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
