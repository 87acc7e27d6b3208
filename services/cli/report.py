"""`moontide analyze --report`: one self-contained page, to be sent to a colleague.

Input: the question, and per input an answer with what the model saw, or an error. Output: a file that appears whole or
not at all, and that loads nothing from anywhere. Everything from outside is escaped. It must not know how answers are
made.
"""

import base64
import datetime
import importlib.resources
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template
from typing import IO, Self

from schemas.telemetry import Trace
from services.cli.answer import Answer, MediaFact
from services.cli.prose import prose
from services.cli.sighting import Pictures, Sighting
from services.cli.timeline import clock, timeline
from services.cli.waterfall import duration_text, waterfall
from shared.errors import BadInput, MoontideError

TEMPLATE = "report.html"
SECTIONS = "<!-- sections -->"
BESIDE = 3
"""Frames beside one sentence."""


@dataclass(frozen=True)
class Page:
    """What is shown of one answered input."""

    answer: Answer
    sighting: Sighting
    pictures: Pictures
    trace: Trace | None
    total_seconds: float


class Report:
    """A page that grows by one section per input, beside its place, and is moved there at the end."""

    def __init__(self, path: Path, question: str, model: str) -> None:
        self._path = path
        self._partial = path.with_name(f".{path.name}.partial")
        self._head, self._tail = _frame(question, model)
        self._file: IO[str] | None = None
        self._sections = 0

    def __enter__(self) -> Self:
        """Raises BadInput when nothing can be written there."""
        try:
            self._file = self._partial.open("w", encoding="utf-8")
        except OSError as error:
            reason = f"{self._path}: {error.strerror}"
            raise BadInput("report.unwritable", reason, param=str(self._path)) from error
        self._write(self._head)
        return self

    def add(self, name: str, page: Page | MoontideError) -> None:
        self._sections += 1
        body = _failure(page) if isinstance(page, MoontideError) else _answered(page)
        self._write(f'<section id="input-{self._sections}"><h2>{escape(name)}</h2>{body}</section>\n')

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        """An incomplete page is thrown away."""
        assert self._file is not None
        with self._file:
            if kind is None:
                self._write(self._tail)
        if kind is None:
            self._partial.replace(self._path)
        else:
            self._partial.unlink(missing_ok=True)

    def _write(self, text: str) -> None:
        assert self._file is not None
        self._file.write(text)


def _frame(question: str, model: str) -> tuple[str, str]:
    text = importlib.resources.files("services.cli").joinpath(TEMPLATE).read_text(encoding="utf-8")
    now = datetime.datetime.now().astimezone()
    page = Template(text).substitute(
        question=escape(question),
        model=escape(model),
        date=f"{now.day} {now:%B %Y, %H:%M}",
        machine_date=now.isoformat(timespec="seconds"),
    )
    head, _, tail = page.partition(SECTIONS)
    return head, tail


def _answered(page: Page) -> str:
    answer, sighting = page.answer, page.sighting
    media = answer.media[0] if answer.media else None
    seconds = [one.timestamp_seconds for one in sighting.evidence]
    strip = timeline(sighting.manifest, seconds) if sighting.manifest is not None else ""
    figures = _figures(page)
    text = prose(answer.content, figures) or '<p class="quiet">The answer is empty.</p>'
    return "".join(
        [
            f'<p class="facts">{escape(media_words(media))}</p>' if media is not None else "",
            _overview(page),
            f"<figure>{strip}{_legend(sighting)}</figure>" if strip else "",
            f'<div class="answer">{text}</div>',
            _reasoning(answer.reasoning),
            _numbers(page),
            _trace(page),
        ]
    )


def media_words(media: MediaFact) -> str:
    """``Video · 320 × 180 · 0:13 · 26 frames seen``."""
    words = [media.kind.capitalize(), f"{media.width} × {media.height}"]
    if media.kind == "video":
        words += [clock(media.duration_seconds or 0.0), f"{media.sampled_frames} frames seen by the model"]
    return " · ".join(words)


def _failure(error: MoontideError) -> str:
    return (
        f'<p class="failure"><strong>No answer.</strong> {escape(error.message)} <code>{escape(error.code)}</code></p>'
    )


def _overview(page: Page) -> str:
    """The contact sheet of a video, the picture itself of an image."""
    sheet = page.pictures.contact_sheet
    if sheet is not None:
        return f'<figure class="sheet">{_image(sheet, "Contact sheet: the video from start to end")}</figure>'
    manifest = page.sighting.manifest
    if manifest is not None and manifest.kind == "image" and 0 in page.pictures.frames:
        return f'<figure class="picture">{_image(page.pictures.frames[0], "The image as the model saw it")}</figure>'
    return ""


def _legend(sighting: Sighting) -> str:
    manifest = sighting.manifest
    cuts = len(manifest.scene_cuts_seconds) if manifest is not None else 0
    parts = [
        '<span class="key sampled"></span>frame seen by the model',
        f'<span class="key cut"></span>scene cut ({cuts})' if cuts else "",
        '<span class="key cited"></span>cited in the answer' if sighting.evidence else "",
    ]
    return f"<figcaption>{' '.join(f'<span>{part}</span>' for part in parts if part)}</figcaption>"


def _figures(page: Page) -> dict[str, list[str]]:
    """HTML by sentence: its frames, each once."""
    found: dict[str, list[int]] = {}
    for one in page.sighting.evidence:
        positions = found.setdefault(one.quote, [])
        if one.frame in page.pictures.frames and one.frame not in positions:
            positions.append(one.frame)
    return {quote: [_beside(page, place) for place in places[:BESIDE]] for quote, places in found.items()}


def _beside(page: Page, position: int) -> str:
    manifest = page.sighting.manifest
    time = clock(manifest.frames[position].timestamp_seconds) if manifest is not None else ""
    picture = _image(page.pictures.frames[position], f"Frame at {time}")
    return f'<span class="frame">{picture}<small>{time}</small></span>'


def _reasoning(text: str) -> str:
    if not text.strip():
        return ""
    words = len(text.split())
    label = f"Reasoning <small>{words:,} word{'s' if words != 1 else ''}</small>"
    return f'<details><summary>{label}</summary><div class="reasoning">{escape(text.strip())}</div></details>'


def _numbers(page: Page) -> str:
    usage, timings = page.answer.usage, page.answer.timings
    cells = [
        ("prompt tokens", f"{usage.prompt_tokens:,}"),
        *([("of media", f"{usage.media_tokens:,}")] if usage.media_tokens else []),
        ("answer tokens", f"{usage.completion_tokens:,}"),
        ("finish", escape(page.answer.finish_reason or "–")),
        ("media ready", duration_text(timings.ingest_seconds)),
        ("first token", duration_text(timings.prefill_seconds)),
        ("writing", duration_text(timings.decode_seconds)),
        ("in all", duration_text(page.total_seconds)),
    ]
    return f'<dl class="numbers">{"".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in cells)}</dl>'


def _trace(page: Page) -> str:
    shown = waterfall(page.trace) if page.trace is not None else ""
    name = f"<code>moontide trace {escape(page.answer.trace_id)}</code>"
    return f'<details class="trace" open><summary>Trace <small>{name}</small></summary>{shown}</details>'


def _image(jpeg: bytes, alt: str) -> str:
    return f'<img src="data:image/jpeg;base64,{base64.b64encode(jpeg).decode("ascii")}" alt="{escape(alt)}">'
