"""An answer as a person reads it: told as it grows, kept back while another input is being told.

Input: growing answers. Output: text on stdout. An attempt that starts over is not told twice.
"""

from services.cli.answer import Answer, MediaFact
from services.cli.terminal import Voice


class Transcript:
    """Silent until ``go_live``; remembers how much of reasoning and content was told."""

    def __init__(self) -> None:
        self._voice: Voice | None = None
        self._heard: Answer | None = None
        self._told_reasoning = 0
        self._told_content = 0

    def go_live(self, heading: str = "") -> None:
        self._voice = Voice()
        if heading:
            self._voice.heading(heading)
        if self._heard is not None:
            self.hear(self._heard)

    def hear(self, answer: Answer) -> None:
        self._heard = answer
        if self._voice is None:
            return
        reasoning = answer.reasoning[self._told_reasoning :]
        content = answer.content[self._told_content :]
        self._told_reasoning += len(reasoning)
        self._told_content += len(content)
        if reasoning:
            self._voice.reasoning(reasoning)
        if content:
            self._voice.content(content)

    def tell_facts(self, answer: Answer, total_seconds: float) -> None:
        """Media, usage and timings below the answer."""
        if self._voice is not None:
            for line in facts(answer, total_seconds):
                self._voice.fact(line)

    def tell_failure(self, text: str) -> None:
        if self._voice is not None:
            self._voice.failure(text)

    def end(self) -> None:
        if self._voice is not None:
            self._voice.end_line()


def facts(answer: Answer, total_seconds: float) -> list[str]:
    usage, timings = answer.usage, answer.timings
    return [
        *(media_words(media) for media in answer.media),
        f"usage    {usage.prompt_tokens} prompt tokens ({usage.media_tokens} of media), "
        f"{usage.completion_tokens} completion tokens, finish reason {answer.finish_reason}",
        f"timings  ingest {timings.ingest_seconds:.2f} s, prefill {timings.prefill_seconds:.2f} s, "
        f"decode {timings.decode_seconds:.2f} s, total {total_seconds:.2f} s",
        f"model    {answer.model}",
        f"trace    {answer.trace_id}",
    ]


def media_words(media: MediaFact) -> str:
    size = f"media    {media.kind} {media.width}x{media.height}"
    if media.kind == "image":
        return size
    return f"{size}, {media.duration_seconds or 0.0:.1f} s, {media.sampled_frames} frames in {media.chunks} chunks"
