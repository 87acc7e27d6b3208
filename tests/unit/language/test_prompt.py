"""Prompts: placeholders expanded, spans where the embeddings go, encodings kept within their bound."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from schemas.blobs import BlobRef
from schemas.media import MediaChunk, MediaKind, MediaManifest
from shared.language import specials
from shared.language.prompt import Prompt, PromptEncoder
from shared.language.segments import Marker, MediaSlot, Segment, Text, joined
from shared.language.vocabulary import TokenIds, Vocabulary, tiny_vocabulary


def manifest(kind: MediaKind, *chunks: tuple[str, int]) -> MediaManifest:
    return MediaManifest(
        kind=kind,
        width=28,
        height=28,
        frames=(),
        chunks=tuple(
            MediaChunk(
                timestamp_seconds=0.0,
                timestamp_text=stamp,
                grid=(1, 2, 2 * tokens),
                tokens=tokens,
                frames=(0,),
                patches=BlobRef(key=f"sha256/{tokens:064x}", size_bytes=1),
            )
            for stamp, tokens in chunks
        ),
        media_tokens=sum(tokens for _, tokens in chunks),
    )


def spelled(vocabulary: Vocabulary, prompt: Prompt) -> str:
    names = vocabulary.special_names
    return "".join(names.get(i) or vocabulary.token_bytes(i).decode() for i in prompt.ids.tolist())


TURN: list[Segment] = [Marker(specials.IM_USER), Text("see "), MediaSlot("video", 0), Text("\n"), MediaSlot("image", 1)]


def test_media_becomes_placeholders(tiny: Vocabulary) -> None:
    manifests = [manifest("video", ("00:00:00.000", 3), ("00:00:02.000", 2)), manifest("image", ("", 4))]
    prompt = PromptEncoder(tiny).encode([TURN], manifests)
    pad = specials.MEDIA_PAD
    assert spelled(tiny, prompt) == (
        f"<|im_user|>see 00:00:00.000<|media_begin|>video<|media_content|>{pad * 3}<|media_end|>"
        f"00:00:02.000<|media_begin|>video<|media_content|>{pad * 2}<|media_end|>\n"
        f"<|media_begin|>image<|media_content|>{pad * 4}<|media_end|>"
    )
    assert prompt.media_tokens == 9
    ids = prompt.ids.tolist()
    for span, chunk in zip(prompt.media, [c for m in manifests for c in m.chunks], strict=True):
        assert ids[span.position : span.position + span.tokens] == [tiny.special(pad)] * chunk.tokens
        assert ids[span.position - 1] == tiny.special(specials.MEDIA_CONTENT)
        assert (span.grid, span.patches) == (chunk.grid, chunk.patches)


def test_text_before_a_video_and_its_timestamp_are_one_text(tiny: Vocabulary) -> None:
    prompt = PromptEncoder(tiny).encode([TURN[:3]], [manifest("video", ("00:00:00.000", 1))])
    begin = prompt.ids.tolist().index(tiny.special(specials.MEDIA_BEGIN))
    assert prompt.ids[1:begin].tolist() == tiny.encode("see 00:00:00.000").tolist()


@given(st.lists(st.one_of(st.text(max_size=3).map(Text), st.just(Marker("[EOT]")))))
def test_joined_texts_are_never_neighbours_or_empty(segments: list[Segment]) -> None:
    result = joined(segments)
    kinds = [isinstance(segment, Text) for segment in result]
    assert not any(a and b for a, b in pairwise(kinds))
    assert all(segment.text for segment in result if isinstance(segment, Text))
    assert _spell(result) == _spell(segments)


def _spell(segments: list[Segment]) -> str:
    return "".join(s.text if isinstance(s, Text) else "\0" for s in segments)


class _Counting(Vocabulary):
    """Counts what is really encoded."""

    encoded = 0

    def encode(self, text: str) -> TokenIds:
        self.encoded += 1
        return super().encode(text)


def test_a_known_text_is_not_encoded_again() -> None:
    vocabulary = _Counting(tiny_vocabulary())
    encoder = PromptEncoder(vocabulary, max_cached_chars=10)
    for value in ("hello", "world", "hello"):
        encoder.encode([[Text(value)]])
    assert vocabulary.encoded == 2
    encoder.encode([[Text("third")]])  # evicts "world", used longest ago
    encoder.encode([[Text("hello")]])
    assert vocabulary.encoded == 3
    encoder.encode([[Text("world")]])
    assert vocabulary.encoded == 4
    encoder.encode([[Text("too long to keep")]])
    encoder.encode([[Text("too long to keep")]])
    assert vocabulary.encoded == 6


def test_nothing_is_an_empty_prompt(tiny: Vocabulary) -> None:
    prompt = PromptEncoder(tiny).encode([])
    assert (len(prompt.ids), prompt.media) == (0, ())
