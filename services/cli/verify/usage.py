"""Checks of usage counts: they add up, keep to the limit, and are the same in a stream."""

from services.cli.verify.judgement import NotOffered, require
from services.cli.verify.probe import Probe
from services.cli.verify.reply import Reply
from services.cli.verify.streams import question

COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens")
SMALL_LIMIT = 8


async def total(probe: Probe) -> dict[str, int]:
    reply = await probe.whole(probe.body(question(2)))
    prompt, completion, both = (_count(reply, name) for name in COUNTS)
    require(prompt > 0 and completion > 0, f"{prompt} and {completion} tokens are counted", reply.exchange)
    told = f"prompt {prompt} + completion {completion} is not total {both}"
    require(prompt + completion == both, told, reply.exchange)
    return {"prompt_tokens": prompt, "completion_tokens": completion}


async def limit(probe: Probe) -> None:
    reply = await probe.whole(probe.body(question(3), limit=SMALL_LIMIT))
    count = reply.count("completion_tokens")
    if count is None:
        raise NotOffered("completion tokens are not counted", reply.exchange)
    require(count <= SMALL_LIMIT, f"{count} completion tokens, {SMALL_LIMIT} were allowed", reply.exchange)


async def streamed(probe: Probe) -> None:
    """Completion tokens are compared where the answers are equal."""
    body = probe.body(question(4))
    whole = await probe.whole(body)
    if whole.usage is None:
        raise NotOffered("usage is not sent", whole.exchange)
    stream = await probe.streamed(body, usage=True)
    require(stream.usage is not None, "stream_options.include_usage: no usage came", stream.exchange)
    for name in COUNTS if stream.words == whole.words else COUNTS[:1]:
        told = f"{name}: {stream.count(name)} streamed, {whole.count(name)} unstreamed"
        require(stream.count(name) == whole.count(name), told, stream.exchange, whole.exchange)


def _count(reply: Reply, name: str) -> int:
    count = reply.count(name)
    require(count is not None, f"usage.{name} is no count", reply.exchange)
    return count or 0
