"""The embedded index: what is found, what is forgotten, what is never read, and where it ends."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.tools.address import destinations
from services.tools.fetch import Fetch
from services.tools.http import Web
from services.tools.index import IndexLimits, LocalIndex
from services.tools.search_text import PASSAGE_CHARS, match_expression, passages, spaced, unspaced
from shared.errors import BadInput, NotFound, Unavailable
from tests.waiting import until
from tests.web.calls import call, text_of

NEVER = 3600.0
ONCE = IndexLimits(scan_seconds=NEVER)


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    folder = tmp_path / "notes"
    (folder / "sea").mkdir(parents=True)
    (folder / "sea" / "tides.md").write_text("# Tides of Brest\n\nHigh water is at noon. Fishermen wait for springs.\n")
    (folder / "sea" / "ports.html").write_text("<title>Ports</title><nav>menu</nav><p>Brest and Rosc\u00f6ff</p>")
    (folder / "月.txt").write_text("月球引起潮汐。今天天气很好。")
    (folder / "chart.png").write_bytes(b"\x89PNG\0\0tides")
    (folder / ".secret").write_text("tides hidden")
    (folder / ".git").mkdir()
    (folder / ".git" / "config").write_text("tides hidden")
    return folder


@asynccontextmanager
async def index_of(*folders: Path, limits: IndexLimits = ONCE) -> AsyncIterator[LocalIndex]:
    async with LocalIndex.open(folders, folders[0].parent / "index.db", limits) as index:
        await index.scanned()
        yield index


async def urls(index: LocalIndex, question: str) -> list[str]:
    return [hit.url for hit in await index.search(question, 10)]


async def test_words_find_files_and_the_title_weighs_more(notes: Path) -> None:
    (notes / "other.txt").write_text("something about tides in passing " * 3)
    async with index_of(notes) as index:
        first, *others = await index.search("the tides?", 10)
        assert (first.title, first.url) == ("Tides of Brest", "local:notes/sea/tides.md")
        assert "High water" in first.snippet
        assert [hit.url for hit in others] == ["local:notes/other.txt"]
        assert await urls(index, "fishing fisherman wait") == ["local:notes/sea/tides.md"]
        assert await urls(index, "roscoff") == ["local:notes/sea/ports.html"]
        assert await urls(index, "menu hidden PNG") == []


async def test_scripts_without_spaces_are_found_inside_sentences(notes: Path) -> None:
    async with index_of(notes) as index:
        (hit,) = await index.search("潮汐", 5)
        assert hit.url == "local:notes/%E6%9C%88.txt"
        assert hit.snippet == "月球引起潮汐。今天天气很好。"
        assert await urls(index, "汐潮") == []
        assert (await index.read(hit.url)).text.startswith("月球")


async def test_phrases_are_phrases_and_nothing_is_an_operator(notes: Path) -> None:
    async with index_of(notes) as index:
        assert await urls(index, '"water is at noon"') == ["local:notes/sea/tides.md"]
        assert await urls(index, '"noon at is water"') == []
        for question in (
            '" OR *',
            "title:",
            "NEAR(a b)",
            "(",
            "^",
            "a AND NOT",
            "-",
            "'; DROP TABLE files;--",
            "",
            "?!",
        ):
            await index.search(question, 3)


async def test_what_changes_is_read_again_and_what_is_gone_is_forgotten(notes: Path) -> None:
    async with index_of(notes) as index:
        tides = notes / "sea" / "tides.md"
        tides.write_text("now about whales")
        os.utime(tides, ns=(1, 1))
        (notes / "new.txt").write_text("new whales")
        (notes / "sea" / "ports.html").unlink()
        await index.scan()
        assert sorted(await urls(index, "whales")) == ["local:notes/new.txt", "local:notes/sea/tides.md"]
        assert await urls(index, "springs roscoff") == []


async def test_an_unchanged_file_is_not_read_again(notes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with index_of(notes) as index:
        monkeypatch.setattr("services.tools.index._read", None)  # anybody who reads now fails
        await index.scan()
    async with index_of(notes) as again:  # nor by the next process
        assert await urls(again, "springs") == ["local:notes/sea/tides.md"]


async def test_links_lead_nowhere(notes: Path) -> None:
    outside = notes.parent / "outside"
    outside.mkdir()
    (outside / "canary.txt").write_text("canary tides")
    (notes / "link.txt").symlink_to(outside / "canary.txt")
    (notes / "linked").symlink_to(outside)
    async with index_of(notes) as index:
        assert await urls(index, "canary") == []
        addresses = [
            *("link.txt", "linked/canary.txt", "../outside/canary.txt", "%2e%2e/outside/canary.txt", "/etc/passwd"),
            *(
                "sea/../../outside/canary.txt",
                ".secret",
                ".git/config",
                "",
                "sea",
                "sea/",
                "sea//tides.md",
                "x\0y",
                "x%00y",
            ),
        ]
        for address in addresses:
            with pytest.raises(NotFound) as caught:
                await index.read(f"local:notes/{address}")
            assert caught.value.code == "search.not_found"
        for address in ("local:", "local:outside/canary.txt", f"local:{outside}/canary.txt", "local:/etc/passwd"):
            with pytest.raises(NotFound):
                await index.read(address)


async def test_the_index_is_bounded(notes: Path) -> None:
    for number in range(30):
        (notes / f"a{number:02}.txt").write_text(f"whale number {number} " * 20)
    (notes / "zz.txt").write_text("x" * 5000 + " lastword")
    limits = IndexLimits(max_files=10, max_file_bytes=1000, max_bytes=2000, scan_seconds=NEVER)
    async with index_of(notes, limits=limits) as index:
        assert len(await urls(index, "whale")) == 6
        assert await urls(index, "lastword") == []
        cut = await index.read("local:notes/zz.txt")
        assert (len(cut.text), cut.truncated) == (1000, True)


async def test_a_long_file_is_found_at_its_passage_and_read_from_there(notes: Path, tmp_path: Path) -> None:
    words = "\n\n".join(f"Paragraph {number} says nothing at all of interest." for number in range(400))
    (notes / "long.txt").write_text(words.replace("Paragraph 300 says", "Paragraph 300 zanzibar"))
    async with index_of(notes) as index:
        (hit,) = await index.search("zanzibar", 3)
        assert hit.start > PASSAGE_CHARS
        tool = Fetch(Web(destinations([], [80])), index.read)
        text = text_of(await tool.run(call(tmp_path, url=hit.url, start=hit.start)))
    assert "zanzibar" in text[: PASSAGE_CHARS + 200]


async def test_an_index_that_breaks_is_told_and_mended(notes: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with index_of(notes) as index:
        index._connection.execute("DROP TABLE files")
        with pytest.raises(Unavailable) as caught:
            await index.search("tides", 3)
        assert caught.value.code == "search.index"
    limits = IndexLimits(scan_seconds=0.01)
    async with LocalIndex.open([notes], notes.parent / "other.db", limits) as index:
        await index.scanned()
        index._connection.execute("ALTER TABLE files RENAME TO away")
        await until(lambda: "index not brought up to date" in caplog.text)
        index._connection.execute("ALTER TABLE away RENAME TO files")
        (notes / "new.txt").write_text("zanzibar")
        async with asyncio.timeout(20):
            while not await urls(index, "zanzibar"):  # noqa: ASYNC110 - the condition has no event
                await asyncio.sleep(0.01)


async def test_folders_must_be_there_and_named_apart(notes: Path, tmp_path: Path) -> None:
    (tmp_path / "b" / "notes").mkdir(parents=True)
    for folders in ([tmp_path / "missing"], [notes, tmp_path / "b" / "notes"]):
        with pytest.raises(BadInput) as caught:
            async with LocalIndex.open(folders, tmp_path / "index.db"):
                pass
        assert caught.value.code == "search.config"


@given(st.text(max_size=4 * PASSAGE_CHARS))
def test_passages_are_the_text_in_order(text: str) -> None:
    pieces = list(passages(text))
    assert all(text[start : start + len(body)] == body for start, body in pieces)
    assert "".join(body for _, body in pieces).split() == text.split()
    assert all(len(body) <= PASSAGE_CHARS for _, body in pieces)


@given(st.text(alphabet="ab c月球潮汐、x1"))
def test_spacing_is_undone(text: str) -> None:
    assert unspaced(spaced(text)).replace(" ", "") == text.replace(" ", "")


@given(st.text(max_size=200))
def test_any_question_is_an_expression_of_quoted_words(question: str) -> None:
    for term in match_expression(question).split(" OR ") if match_expression(question) else []:
        assert term.startswith('"')
        assert term.endswith('"')
        assert '"' not in term[1:-1]
