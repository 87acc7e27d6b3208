"""Checks of image and video input: they are taken, they are not dropped, and what is none is refused."""

import asyncio

from services.cli.verify import samples
from services.cli.verify.exchange import Wish
from services.cli.verify.judgement import require, shaped_error
from services.cli.verify.probe import CHAT, Probe
from services.cli.verify.refusals import STATUSES

QUESTION = "What do you see?"


async def image(probe: Probe) -> dict[str, int]:
    return await _seen(probe, "image_url", await asyncio.to_thread(samples.png))


async def video(probe: Probe) -> dict[str, int]:
    return await _seen(probe, "video_url", await asyncio.to_thread(samples.mp4))


async def broken_image(probe: Probe) -> None:
    body = _body(probe, "image_url", "data:image/png;base64,bm90IGFuIGltYWdl")
    shaped_error(await probe.exchange(Wish("POST", CHAT, body)), STATUSES)


async def _seen(probe: Probe, kind: str, uri: str) -> dict[str, int]:
    """Media that are looked at cost prompt tokens; where tokens are not counted, an answer must do."""
    reply = await probe.whole(_body(probe, kind, uri))
    require(bool(reply.content or reply.reasoning), "nothing is said", reply.exchange)
    blind = await probe.whole(probe.body([{"role": "user", "content": [{"type": "text", "text": QUESTION}]}]))
    seen, unseen = reply.count("prompt_tokens"), blind.count("prompt_tokens")
    if seen is None or unseen is None:
        return {}
    told = f"it is dropped: {seen} prompt tokens with it, {unseen} without"
    require(seen > unseen, told, reply.exchange, blind.exchange)
    return {"prompt_tokens": seen - unseen}


def _body(probe: Probe, kind: str, uri: str) -> dict[str, object]:
    content = [{"type": kind, kind: {"url": uri}}, {"type": "text", "text": QUESTION}]
    return probe.body([{"role": "user", "content": content}])
