"""Evidence in the JSON, and the page that is sent to a colleague."""

import base64
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from schemas.telemetry import Trace, TraceSpan
from services.cli.__main__ import run
from services.cli.prose import prose
from services.cli.timeline import clock, timeline
from services.cli.waterfall import MAX_ROWS, duration_text, waterfall
from tests.unit.cli.scripted_gateway import CITING, JPEG, ScriptedGateway, manifest

MP4 = b"\0\0\0\x18ftypisom" + b"x" * 100
CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), ""
)
QUIET = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
         "--disable-sync", "--no-first-run", "--enable-logging=stderr")  # fmt: skip
VOID = {"meta", "link", "img", "br", "rect", "line", "circle"}


class Page(HTMLParser):
    """Elements in order; fails when one is not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action", "data")]
        assert not any(name.startswith("on") for name, _ in attrs)
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag


def analyze(gateway: ScriptedGateway, folder: Path, *arguments: str, ask: str = "What moves?") -> int:
    clip = folder / "a <i>clip.mp4"
    clip.write_bytes(MP4)
    return run(["analyze", str(clip), *arguments, "--ask", ask, "--url", gateway.url])


def test_every_cited_time_is_tied_to_a_frame_of_the_source(
    gateway: ScriptedGateway, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gateway.content = (CITING,)
    assert analyze(gateway, tmp_path, "--json") == 0
    assert json.loads(capsys.readouterr().out)["evidence"] == [
        {"timestamp_seconds": 4.0, "frame": 120, "quote": "At 0:04 <b>it</b> bounces."},
        {"timestamp_seconds": 12.5, "frame": 375, "quote": "It rests at 12.5 s, and not at 14 s."},
    ]


def test_an_answer_is_told_without_its_evidence(
    gateway: ScriptedGateway, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gateway.content, gateway.has_media = (CITING,), False
    assert analyze(gateway, tmp_path, "--json", "--report", str(tmp_path / "out.html")) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["evidence"] == []
    assert "no such media" in told.err


def test_the_page_shows_everything_and_nothing_from_outside_is_markup(gateway: ScriptedGateway, tmp_path: Path) -> None:
    gateway.content = (CITING, "\n<script>alert(1)</script>")
    out = tmp_path / "out.html"
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"broken" + MP4)
    assert analyze(gateway, tmp_path, str(broken), "--json", "--report", str(out), ask="<b>Why?</b> $model") == 1
    text = out.read_text()
    page = Page(text)
    assert not {"script", "iframe", "object", "form"} & set(page.tags)
    assert all(source.startswith("data:") for source in page.sources)
    assert not re.search(r"url\(|@import|https?://", text)
    for said in ("&lt;b&gt;Why?&lt;/b&gt; $model", "a &lt;i&gt;clip.mp4", "&lt;script&gt;alert(1)"):
        assert said in text
    pictures = [
        base64.b64decode(source.partition(",")[2]) for source in page.sources if source.startswith("data:image")
    ]
    assert pictures == [JPEG + name for name in (b"contact-sheet.jpg", b"frames/8.jpg", b"frames/25.jpg")]
    assert "It moves." in text, "the reasoning is there, folded"
    assert "588" in text
    assert "broken.mp4 cannot be decoded" in text
    assert list(tmp_path.glob(".*.partial")) == []


def test_a_page_that_cannot_be_written_is_said_before_anything_is_asked(
    gateway: ScriptedGateway, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert analyze(gateway, tmp_path, "--report", str(tmp_path / "nowhere" / "out.html")) == 1
    assert "out.html: No such file" in capsys.readouterr().err
    assert gateway.requests == []


def test_prose_reads_the_little_that_models_write() -> None:
    text = "# One *two*\nA **b** `c<d`\nnext\n\n---\n- x & y\n2. z"
    assert prose(text, {}) == (
        "<h4>One *two*</h4><p>A <strong>b</strong> <code>c&lt;d</code><br>next</p>"
        '<p class="item"><b>•</b>x &amp; y</p><p class="item"><b>2.</b>z</p>'
    )
    shown = prose("First. At 0:04 it ends.", {"At 0:04 it ends.": ["<img>"]})
    words = '<p>First. <span class="citing">At <span class="at">0:04</span> it ends.</span></p>'
    assert shown == f'<div class="row">{words}<div class="beside"><img></div></div>'
    assert prose("", {}) == ""


def test_a_timeline_has_every_frame_cut_and_cited_moment() -> None:
    drawn = timeline(manifest(), [4.0, 12.5, 4.0])
    Page(drawn)
    assert (drawn.count('class="sampled"'), drawn.count('class="cut"'), drawn.count("<circle")) == (26, 2, 2)
    assert drawn.count('class="scene') == 3
    assert [clock(seconds) for seconds in (0, 2.5, 59.96, 61, 3723.04)] == ["0:00", "0:02.5", "1:00", "1:01", "1:02:03"]


def span(number: int, parent: int | None) -> TraceSpan:
    return TraceSpan(
        span_id=str(number), parent_span_id="" if parent is None else str(parent), name="<chat>", kind="server",
        service="gateway", instance="g", start_unix_nanoseconds=number * 10**6, end_unix_nanoseconds=10**9,
        status="error" if number else "ok",
    )  # fmt: skip


def test_a_waterfall_shows_each_span_once_and_is_bounded() -> None:
    spans = (span(0, None), span(1, 0), span(2, 1), span(3, 99))
    drawn = waterfall(Trace(trace_id="t", spans=spans))
    Page(drawn)
    assert drawn.count('class="name"') == 4
    assert "<chat>" not in drawn
    many = waterfall(Trace(trace_id="t", spans=tuple(span(n, n - 1 if n else None) for n in range(100))))
    assert many.count('class="name"') == MAX_ROWS
    assert "40 more spans" in many
    assert waterfall(Trace(trace_id="t", spans=())) == ""
    assert [duration_text(seconds) for seconds in (0.0005, 0.25, 1.5)] == ["500 µs", "250 ms", "1.50 s"]


@pytest.mark.skipif(not CHROMIUM, reason="Chromium is not installed")
def test_a_browser_opens_it_without_a_complaint(gateway: ScriptedGateway, tmp_path: Path) -> None:
    gateway.content = (CITING,)
    out, picture = tmp_path / "out.html", tmp_path / "out.png"
    assert analyze(gateway, tmp_path, "--json", "--report", str(out)) == 0
    done = subprocess.run(
        [CHROMIUM, *QUIET, f"--user-data-dir={tmp_path / 'profile'}", f"--screenshot={picture}", out.as_uri()],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert picture.stat().st_size > 10_000, done.stderr
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
