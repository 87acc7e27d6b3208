"""``fetch``: text of pages and files, the rest refused by name; long texts in pieces; heavy pages cost a child."""

from pathlib import Path

import pytest

from services.tools import page_reader
from services.tools.address import destinations
from services.tools.fetch import Fetch
from services.tools.http import Web
from services.tools.page import page_text
from shared.errors import BadInput, MoontideError, Unavailable
from tests.web.calls import call, text_of
from tests.web.site import Site, response, site

PAGE = """<!doctype html><html><head><title> A
 title </title><script>evil()</script><style>p{}</style></head><body><nav><a href="/home">Home</a></nav>
<h1>Tides</h1><p>The moon <b>pulls</b>, see <a href="../more?x=1">more</a>.</p><ul><li>high<li>low</ul>
<table><tr><th>port<th>metres<tr><td>Brest<td>7.2</table><pre>for x in y:
    pass</pre><img alt="a chart" src=c.png><footer>imprint</footer></body></html>"""


def fetch(*sites: Site, max_chars: int = 30_000) -> Fetch:
    return Fetch(Web(destinations(["127.0.0.0/8"], [site.port for site in sites])), max_chars=max_chars)


async def test_a_page_becomes_readable_text_with_links(tmp_path: Path) -> None:
    async with site(a=b"") as s:
        s.routes["/docs/tides"] = response(PAGE.encode(), "text/html; charset=utf-8")
        text = text_of(await fetch(s).run(call(tmp_path, url=s.url("/docs/tides"))))
    assert text.startswith(f"{s.url('/docs/tides')} · text/html · ")
    for expected in ("# A title", "Tides", f"more ({s.url('/more?x=1')})", "• high", "Brest", "7.2", "a chart"):
        assert expected in text
    assert "for x in y:\n    pass" in text
    for left_out in ("evil", "p{}", "Home", "imprint", "<"):
        assert left_out not in text


async def test_a_long_text_comes_in_pieces_and_whole_for_people(tmp_path: Path) -> None:
    body = "".join(f"line {number}\n" for number in range(3000))
    async with site(a=response(body.encode())) as s:
        tool = fetch(s, max_chars=10_000)
        first = await tool.run(call(tmp_path, url=s.url("/a")))
        assert text_of(first).endswith("[cut here: continue with start=10000]")
        kept = await call(tmp_path).blobs.get(first.files[0].content)
        assert kept.decode() == body
        assert first.files[0].name == "a.txt"
        pieces, start = "", 0
        while start < len(body):
            text = text_of(await tool.run(call(tmp_path, url=s.url("/a"), start=start)))
            shown = text.split("\n\n", 1)[1].split("\n\n[cut here")[0]
            pieces, start = pieces + shown, start + len(shown)
    assert pieces == body


@pytest.mark.parametrize("kind", ["image/png", "application/pdf", "application/zip", "video/mp4", "font/woff2"])
async def test_what_is_no_text_is_named_and_refused_unread(tmp_path: Path, kind: str) -> None:
    async with site(a=response(b"\x89PNG" * 9, kind)) as s:
        with pytest.raises(BadInput, match=f"is {kind} of 36 bytes: only text is read") as caught:
            await fetch(s).run(call(tmp_path, url=s.url("/a")))
    assert caught.value.code == "fetch.not_text"


@pytest.mark.parametrize(
    ("body", "kind", "shown"),
    [
        (b'{"a": 1}', "application/json", '{"a": 1}'),
        (b"<a/>", "application/vnd.x+xml", "<a/>"),
        ("grün".encode("latin-1"), "text/plain; charset=iso-8859-1", "grün"),
        ("grün".encode("utf-16"), "text/plain", "grün"),
        ("\ufeffgrün".encode(), "text/plain; charset=unheard-of", "grün"),
        (b"gr\xfcn", "text/plain", "gr\ufffdn"),
        (b"<html><p>bare", "", "bare"),
        (b"bare", "", "bare"),
    ],
)
async def test_text_is_read_in_its_encoding(tmp_path: Path, body: bytes, kind: str, shown: str) -> None:
    async with site(a=response(body, kind)) as s:
        text = text_of(await fetch(s).run(call(tmp_path, url=s.url("/a"))))
    assert text.endswith(f"\n\n{shown}")


async def test_bytes_that_pretend_to_be_text_are_refused(tmp_path: Path) -> None:
    async with site(a=response(b"MZ\0\0\x01", "text/plain"), b=response(b"\0\1\2", "")) as s:
        for path in ("/a", "/b"):
            with pytest.raises(BadInput) as caught:
                await fetch(s).run(call(tmp_path, url=s.url(path)))
            assert caught.value.code == "fetch.not_text"


@pytest.mark.parametrize(
    ("status", "kind"),
    [("404 Not Found", BadInput), ("403 Forbidden", BadInput), ("500 Oh", Unavailable), ("429 Slow", Unavailable)],
)
async def test_a_refusal_of_the_server_is_told(tmp_path: Path, status: str, kind: type[MoontideError]) -> None:
    async with site(a=response(b"no", status=status)) as s:
        with pytest.raises(kind, match=f"answers {status}") as caught:
            await fetch(s).run(call(tmp_path, url=s.url("/a")))
    assert caught.value.code == "fetch.status"
    assert not caught.value.retryable


async def test_a_page_that_kills_its_reader_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_reader, "READ_SECONDS", 0.5)
    heavy = b"<div><a href=x>b" * 200_000
    with pytest.raises(BadInput) as caught:
        await page_reader.read_page(heavy, None, "http://a.example/")
    assert caught.value.code == "fetch.unreadable"


def test_a_page_that_is_all_navigation_is_told_whole() -> None:
    title, text = page_text(b"<nav><a href=/a>First</a> <a href='http://['>bad</a></nav>", "", "http://a.example/")
    assert (title, text) == ("", "First (http://a.example/a) bad (http://[)")


@pytest.mark.parametrize("html", [b"", b"\xff\xfe", b"<", b"<html", b"\0" * 50, b"<table>" * 3000, b"<!--" * 99])
def test_any_bytes_are_a_page(html: bytes) -> None:
    page_text(html, "", "http://a.example/")


async def test_local_addresses_need_an_index(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as caught:
        await fetch().run(call(tmp_path, url="local:notes/a.md"))
    assert caught.value.code == "fetch.no_index"
