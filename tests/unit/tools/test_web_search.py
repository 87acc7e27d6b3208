"""``web_search``: hits of all providers in turn, failures told, keys never shown."""

import logging
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest

from services.tools.brave import Brave
from services.tools.search import Hit
from services.tools.searxng import SearXNG
from services.tools.secret import Secret
from services.tools.web_search import BuiltinSearch, WebSearch, merged
from shared.errors import BadInput, MoontideError, Unavailable
from tests.web.calls import call, text_of
from tests.web.site import Site, drip, response, site

SEARXNG = msgspec.json.encode(
    {
        "query": "tides",
        "results": [
            {"url": "https://a.example/1", "title": "One", "content": "first\n hit", "engine": "x", "score": 1.5},
            {"url": "https://b.example/2", "title": "Two", "content": None, "publishedDate": "2026-01-02T00:00:00"},
            {"url": "https://c.example/3", "title": "Three", "content": "third"},
        ],
    }
)
BRAVE = msgspec.json.encode(
    {
        "type": "search",
        "web": {
            "results": [
                {
                    "url": "https://a.example/1",
                    "title": "One &amp; <strong>only</strong>",
                    "description": "It&#x27;s <strong>the</strong> one",
                    "page_age": "2026-03-04T05:06:07",
                }
            ]
        },
    }
)


class Fixed:
    def __init__(self, name: str, answer: list[Hit] | MoontideError) -> None:
        self.name = name
        self._answer = answer

    async def search(self, question: str, limit: int) -> list[Hit]:
        if isinstance(self._answer, MoontideError):
            raise self._answer
        return self._answer[:limit]


def answering(s: Site, path: str, body: bytes, status: str = "200 OK") -> None:
    """Whatever is asked below ``path``."""
    served = response(body, "application/json", status=status)
    s.routes = _Below(path, served)


class _Below(dict):  # type: ignore[type-arg]
    def __init__(self, path: str, answer: bytes) -> None:
        self._path, self._answer = path, answer

    def get(self, path: str, default: bytes) -> bytes:  # type: ignore[override]
        return self._answer if path.split("?")[0] == self._path else default


async def test_searxng_is_asked_for_json_and_its_results_are_told(tmp_path: Path) -> None:
    async with site() as s:
        answering(s, "/sx/search", SEARXNG)
        tool = WebSearch([SearXNG(s.url("/sx/"))])
        text = text_of(await tool.run(call(tmp_path, query=" tides & moon ", limit=2)))
    asked = parse_qs(urlsplit(s.asked[0].split(" ")[1]).query)
    assert asked == {"q": ["tides & moon"], "format": ["json"]}
    assert text == ("1. One\n   https://a.example/1\n   first hit\n\n2. Two (2026-01-02)\n   https://b.example/2")


async def test_brave_gets_the_key_in_its_header_and_marks_are_removed(tmp_path: Path) -> None:
    (tmp_path / "brave.key").write_text("BSA-secret-key\n")
    async with site() as s:
        answering(s, "/res/v1/web/search", BRAVE)
        provider = Brave(Secret(tmp_path / "brave.key"), s.url(""))
        hits = await provider.search("x" * 900, 30)
    assert "X-Subscription-Token: BSA-secret-key" in s.asked[0]
    asked = parse_qs(urlsplit(s.asked[0].split(" ")[1]).query)
    assert (asked["count"], len(asked["q"][0])) == (["20"], 400)
    assert hits == [Hit("One & only", "https://a.example/1", "It's the one", "2026-03-04")]


@pytest.mark.parametrize(
    ("status", "code"),
    [
        ("401 Unauthorized", "search.unauthorized"),
        ("403 Forbidden", "search.unauthorized"),
        ("429 Too Many", "search.quota"),
        ("500 Oh", "search.unreachable"),
        ("302 Found", "search.unreachable"),
    ],
)
async def test_a_refusal_is_told_in_our_words_and_without_the_key(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, status: str, code: str
) -> None:
    (tmp_path / "key").write_text("BSA-secret-key")
    with caplog.at_level(logging.DEBUG):
        async with site() as s:
            answering(s, "/res/v1/web/search", b"bad key BSA-secret-key", status)
            tool = WebSearch([Brave(Secret(tmp_path / "key"), s.url(""))])
            with pytest.raises(Unavailable) as caught:
                await tool.run(call(tmp_path, query="a"))
    assert caught.value.code == code
    assert not caught.value.retryable
    assert "secret" not in caplog.text + caught.value.message + repr(tool) + repr(Secret(tmp_path / "key"))


@pytest.mark.parametrize("body", [b"", b"[]", b"<html>", b'{"results": 1}', b'{"results": [{"url": 1}]}'])
async def test_an_answer_that_is_none_is_told(tmp_path: Path, body: bytes) -> None:
    async with site() as s:
        answering(s, "/search", body)
        with pytest.raises(Unavailable) as caught:
            await WebSearch([SearXNG(s.url(""))]).run(call(tmp_path, query="a"))
    assert caught.value.code == "search.malformed"


async def test_an_endless_answer_is_no_answer(tmp_path: Path) -> None:
    async with site() as s:
        s.routes["/search?q=a&format=json"] = drip(b"HTTP/1.1 200 OK\r\n\r\n", b" " * 65536)
        with pytest.raises(Unavailable) as caught:
            await WebSearch([SearXNG(s.url(""))]).run(call(tmp_path, query="a"))
    assert caught.value.code == "search.malformed"


async def test_a_missing_key_is_told_by_its_file(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"the key file brave\.key cannot be used") as caught:
        await Brave(Secret(tmp_path / "brave.key")).search("a", 1)
    assert caught.value.code == "tools.no_key"


async def test_providers_take_turns_and_a_failing_one_is_named(tmp_path: Path) -> None:
    first = Fixed("a", [Hit(f"a{number}", f"u:{number}", "s") for number in range(5)])
    second = Fixed("b", [Hit("b0", "u:1", "s"), Hit("b1", "v:1", "s")])
    broken = Fixed("c", Unavailable("search.quota", "C is used up", status=502))
    text = text_of(await WebSearch([first, second, broken]).run(call(tmp_path, query="q", limit=4)))
    assert text.startswith("[C is used up]\n1. a0\n")
    assert [line.strip() for line in text.splitlines() if line.startswith("   ") and ":" in line] == [
        *("u:0", "u:1", "v:1", "u:2")
    ]
    with pytest.raises(Unavailable, match="used up"):
        await WebSearch([broken]).run(call(tmp_path, query="q"))


async def test_nothing_found_is_said(tmp_path: Path) -> None:
    text = text_of(await WebSearch([Fixed("a", [])]).run(call(tmp_path, query="q")))
    assert text == "Nothing was found for 'q'."


@pytest.mark.parametrize("query", ["", "   ", "x" * 1001])
async def test_a_query_has_a_length(tmp_path: Path, query: str) -> None:
    with pytest.raises(BadInput) as caught:
        await WebSearch([Fixed("a", [])]).run(call(tmp_path, query=query))
    assert (caught.value.code, caught.value.param) == ("search.query", "query")


def test_hits_without_an_address_are_dropped() -> None:
    assert merged([[Hit("a", "", "s")], []], 5) == []


async def test_kimis_builtin_searches_for_a_query_and_gives_the_rest_back(tmp_path: Path) -> None:
    builtin = BuiltinSearch(WebSearch([Fixed("a", [Hit(f"a{number}", f"u:{number}", "s") for number in range(30)])]))
    assert builtin.declaration.name == "$web_search"
    assert text_of(await builtin.run(call(tmp_path, query="tides", limit=1))) == "1. a0\n   u:0\n   s"
    assert text_of(await builtin.run(call(tmp_path, query="tides", limit="many"))).count("   u:") == 8
    opaque = {"search_result": {"search_id": "x1"}, "usage": {"total_tokens": 5}}
    assert msgspec.json.decode(text_of(await builtin.run(call(tmp_path, **opaque)))) == opaque
