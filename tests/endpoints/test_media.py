"""Videos at any endpoint: as they are where that is taken, else as frames with their times, in order, within bounds."""

import base64
import re
from itertools import pairwise
from typing import Any

import pytest

from schemas.chat import MediaPart, Message, TextPart, ToolCall
from schemas.codec import decode, encode
from schemas.failure import Failure
from schemas.media import MediaFrame, MediaManifest
from shared.errors import BadInput, DeadlineExceeded
from tests.endpoints.scripted import Script, serving
from tests.endpoints.stands import Stand, request, stand, user

PNG = b"\x89PNG\r\n\x1a\n" + b"picture"
MP4 = b"\x00\x00\x00\x18ftypmp42" + b"film"
IMAGES_ONLY = Script(defects=frozenset(("refuses_video",)))


async def clip(
    one: Stand, name: str = "clip.mp4", *, frames: int = 10, size: int = 30, cuts: tuple[float, ...] = ()
) -> MediaPart:
    pictures = [b"\xff\xd8\xff" + f"{name} {place}".encode().ljust(size, b".") for place in range(frames)]
    kept = [
        MediaFrame(index=place * 15, timestamp_seconds=place / 2, jpeg=await one.blobs.put(picture))
        for place, picture in enumerate(pictures)
    ]
    one.ingest.manifests[name] = MediaManifest(
        kind="video", width=320, height=180, duration_seconds=frames / 2, frames=tuple(kept), chunks=(), media_tokens=0,
        scene_cuts_seconds=cuts,
    )  # fmt: skip
    return MediaPart(kind="video", source=await one.blobs.put(MP4 + name.encode()), name=name)


async def picture(one: Stand, name: str = "a.png", data: bytes = PNG) -> MediaPart:
    source = await one.blobs.put(data)
    frame = MediaFrame(index=0, timestamp_seconds=0.0, jpeg=source)
    one.ingest.manifests[name] = MediaManifest(
        kind="image", width=4, height=3, frames=(frame,), chunks=(), media_tokens=1
    )
    return MediaPart(kind="image", source=source, name=name)


def sent_frames(body: dict[str, Any]) -> list[tuple[str, bytes]]:
    """(text before it, bytes) of every image of the last message."""
    parts = body["messages"][-1]["content"]
    found = []
    for before, part in pairwise(parts):
        if part["type"] == "image_url":
            url = part["image_url"]["url"]
            found.append((before["text"], base64.b64decode(url.partition("base64,")[2])))
    return found


async def test_a_video_goes_as_it_is_where_it_is_taken() -> None:
    async with serving() as endpoint, stand(endpoint.url) as one:
        part = await clip(one)
        answer = await one.ask(request(user("look: ", part, "what?")))
    content = endpoint.requests[0]["messages"][0]["content"]
    assert [entry["type"] for entry in content] == ["text", "video_url", "text"]
    assert content[1]["video_url"]["url"] == f"data:video/mp4;base64,{base64.b64encode(MP4 + b'clip.mp4').decode()}"
    assert "0 images and 1 videos" in answer.content
    assert answer.finished is not None
    assert answer.finished.media[0].name == "clip.mp4"


async def test_a_refused_video_goes_as_frames_and_the_refusal_is_remembered() -> None:
    async with serving(IMAGES_ONLY) as endpoint, stand(endpoint.url) as one:
        part = await clip(one)
        first = await one.ask(request(user(part, "what?")))
        await one.ask(request(user(part, "what?")))
    kinds = [{entry["type"] for entry in body["messages"][0]["content"]} for body in endpoint.requests]
    assert kinds == [{"video_url", "text"}, {"image_url", "text"}, {"image_url", "text"}]
    frames = sent_frames(endpoint.requests[1])
    assert [text for text, _ in frames] == [f"[00:00:{place // 2:02d}.{place % 2 * 5}00]" for place in range(10)]
    assert [data.rstrip(b".")[3:] for _, data in frames] == [f"clip.mp4 {place}".encode() for place in range(10)]
    assert "10 images and 0 videos" in first.content


async def test_what_is_refused_either_way_says_nothing_about_videos() -> None:
    script = Script(defects=frozenset(("refuses",)), hits=2)
    async with serving(script) as endpoint, stand(endpoint.url) as one:
        part = await clip(one)
        with pytest.raises(BadInput):
            await one.ask(request(user(part)))
        await one.ask(request(user(part)))
    assert endpoint.requests[2]["messages"][0]["content"][0]["type"] == "video_url"


async def test_frames_are_bounded_by_count_and_bytes_and_the_summary_holds_what_was_seen() -> None:
    async with (
        serving(IMAGES_ONLY) as endpoint,
        stand(endpoint.url, video="frames", max_frames=4, frame_choice="scenes") as one,
    ):
        answer = await one.ask(request(user(await clip(one, frames=20, cuts=(3.0, 7.2)))))
        assert answer.finished is not None
        (summary,) = answer.finished.media
        seen = decode(await one.blobs.get(summary.manifest), MediaManifest)
    times = [text for text, _ in sent_frames(endpoint.requests[0])]
    assert {"[00:00:00.000]", "[00:00:03.000]", "[00:00:07.500]"} < set(times)
    assert times == sorted(times)
    assert [frame.timestamp_seconds for frame in seen.frames] == [
        float(re.sub(r"\[00:00:(.*)\]", r"\1", text)) for text in times
    ]
    assert (summary.sampled_frames, summary.chunks) == (4, 0)

    async with serving(IMAGES_ONLY) as endpoint, stand(endpoint.url, video="frames", frames_max_bytes=1000) as one:
        both = [await clip(one, "a.mp4", size=190), await clip(one, "b.mp4", size=190)]
        await one.ask(request(user(*both)))
    frames = sent_frames(endpoint.requests[0])
    assert sum(len(data) for _, data in frames) <= 1000
    assert len(frames) == 4, "two of each"


async def test_a_frame_that_cannot_fit_is_refused() -> None:
    async with serving() as endpoint, stand(endpoint.url, video="frames", frames_max_bytes=10) as one:
        with pytest.raises(BadInput, match="not one frame"):
            await one.ask(request(user(await clip(one))))
    assert endpoint.requests == []


async def test_a_video_too_large_to_send_goes_as_frames_and_an_image_is_refused() -> None:
    async with serving() as endpoint, stand(endpoint.url, media_max_bytes=16) as one:
        await one.ask(request(user(await clip(one))))
        assert len(sent_frames(endpoint.requests[0])) == 10
        with pytest.raises(BadInput, match=r"a\.png"):
            await one.ask(request(user(await picture(one, data=PNG * 9))))


async def test_images_go_as_they_are_in_their_own_format() -> None:
    async with serving() as endpoint, stand(endpoint.url) as one:
        await one.ask(request(user(await picture(one), "and", await picture(one, "b.webp", b"RIFF0000WEBPVP8 "))))
    urls = [
        part["image_url"]["url"]
        for part in endpoint.requests[0]["messages"][0]["content"]
        if part["type"] == "image_url"
    ]
    assert [url.split(";")[0] for url in urls] == ["data:image/png", "data:image/webp"]


async def tool_steps(one: Stand) -> tuple[bytes, ...]:
    """Two calls of one step whose results show something, and one of the next step."""
    calls = tuple(ToolCall(id=f"look:{number}", name="look", arguments="{}") for number in range(2))
    return (
        user("look at both"),
        encode(Message(role="assistant", tool_calls=calls)),
        tool("look:0", "before", await picture(one), "after"),
        tool("look:1", await clip(one)),
        encode(Message(role="assistant", tool_calls=(ToolCall(id="look:2", name="look", arguments="{}"),))),
        tool("look:2", await picture(one, "b.png")),
    )


def tool(call_id: str, *content: str | MediaPart) -> bytes:
    parts = tuple(TextPart(text=part) if isinstance(part, str) else part for part in content)
    return encode(Message(role="tool", tool_call_id=call_id, content=parts))


async def test_what_tools_show_follows_behind_the_results_of_their_step() -> None:
    """Every call is answered before anybody else speaks, in text alone; nothing that was shown is lost or moved."""
    async with serving(IMAGES_ONLY) as endpoint, stand(endpoint.url, video="frames", max_frames=2) as one:
        answer = await one.ask(request(*await tool_steps(one)))
    told = endpoint.requests[0]["messages"]
    assert [message["role"] for message in told] == [
        *("user", "assistant", "tool", "tool", "user", "assistant", "tool", "user")
    ]
    assert told[2]["content"] == "before[image 'a.png': shown in the next message]after"
    assert told[3]["content"] == "[video 'clip.mp4': shown in the next message]"
    first, second = told[4]["content"], told[7]["content"]
    assert first[0] == {"type": "text", "text": "[image 'a.png', from the result of look:0]"}
    assert first[1]["image_url"]["url"] == f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    assert first[2]["text"] == "[video 'clip.mp4', from the result of look:1]"
    assert [part["type"] for part in first[3:]] == ["text", "text", "image_url", "text", "image_url"]
    assert [part["type"] for part in second] == ["text", "image_url"]
    assert answer.finished is not None
    assert [summary.name for summary in answer.finished.media] == ["a.png", "clip.mp4", "b.png"]


async def test_an_endpoint_that_takes_media_in_results_gets_them_there() -> None:
    async with serving() as endpoint, stand(endpoint.url, tool_media="native") as one:
        await one.ask(request(*await tool_steps(one)))
    told = endpoint.requests[0]["messages"]
    assert [message["role"] for message in told] == ["user", "assistant", "tool", "tool", "assistant", "tool"]
    assert [part["type"] for part in told[2]["content"]] == ["text", "image_url", "text"]
    assert [part["type"] for part in told[3]["content"]] == ["video_url"]


async def test_a_bad_input_is_named_and_nobody_is_asked() -> None:
    async with serving() as endpoint, stand(endpoint.url) as one:
        failure = Failure(code="media.undecodable", message="broken.png: is no image", status=400, param="broken.png")
        one.ingest.failures["broken.png"] = failure
        part = MediaPart(kind="image", source=await one.blobs.put(b"x"), name="broken.png")
        with pytest.raises(BadInput, match=r"broken\.png"):
            await one.ask(request(user(part, await picture(one))))
    assert endpoint.requests == []


async def test_without_ingest_the_wait_ends() -> None:
    async with serving() as endpoint, stand(endpoint.url, media_seconds=0.2) as one:
        one.ingest.silent = True
        with pytest.raises(DeadlineExceeded, match=r"a\.png"):
            await one.ask(request(user(await picture(one))))
