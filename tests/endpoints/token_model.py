"""``python -m tests.endpoints.token_model``: a stand-in engine whose model works on scripted missions.

No weights: token ids in, token ids out. Input: the prompt's ids, read back into a conversation by its markers. Output:
the script's next turn in Kimi's token text, from where earlier attempts got to. What a real tokenizer makes of it is a
real parser's work.
"""

import argparse
import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from schemas import names
from schemas.generation import GenerateRequest, GenerationFinished, TokensGenerated
from schemas.request import RequestContext
from shared import service
from shared.blobs.store import BlobStore
from shared.bus.interface import Bus
from shared.calls.interface import CallWriter
from shared.calls.serve import serve
from shared.clock import SystemClock
from shared.language import specials
from shared.language.vocabulary import Vocabulary, load_vocabulary
from shared.service import Process, Service
from tests.endpoints.conversation import Conversation, Said, Scripts, Turn, named

PIECE_TOKENS = 24
ROLES = {specials.IM_USER: "user", specials.IM_ASSISTANT: "assistant", specials.IM_SYSTEM: "system"}


@dataclass
class TokenModel:
    vocabulary: Vocabulary
    scripts: Scripts
    blobs: BlobStore
    log: Path | None = None
    seconds: float = 0.0

    async def __call__(self, context: RequestContext, request: GenerateRequest, out: CallWriter) -> None:
        prompt = _ids(await self.blobs.resolve(request.prompt_ids))
        emitted = _ids(await self.blobs.resolve(request.emitted_ids))
        conversation = self.conversation(prompt)
        self._note("asked", conversation, len(emitted))
        ids = self.ids(self.scripts.turn(conversation), conversation, thinking=self._opens_reasoning(prompt))
        assert emitted == ids[: len(emitted)], "an answer goes on as it began"
        for start in range(len(emitted), len(ids), PIECE_TOKENS):
            await asyncio.sleep(self.seconds * PIECE_TOKENS / max(len(ids), 1))
            piece = np.array(ids[start : start + PIECE_TOKENS], "<u4").tobytes()
            await out.send(TokensGenerated(first_position=start, ids=piece))
        await out.send(_finished(len(prompt), len(ids)))
        self._note("answered", conversation, len(prompt) + len(ids))

    def ids(self, turn: Turn, conversation: Conversation, *, thinking: bool) -> list[int]:
        """The turn as the model would write it, without the stop id."""
        special, text = self.vocabulary.special, self._text
        ids = [*text(turn.reasoning), special(specials.END_THINK)] if thinking else []
        ids += text(turn.content)
        if turn.calls:
            ids.append(special(specials.TOOL_SECTION_BEGIN))
            for index, call in enumerate(turn.calls, conversation.calls_before):
                ids += [special(specials.TOOL_CALL_BEGIN), *text(f"functions.{call.name}:{index}")]
                ids += [special(specials.TOOL_ARGUMENT_BEGIN), *text(call.arguments), special(specials.TOOL_CALL_END)]
            ids.append(special(specials.TOOL_SECTION_END))
        return ids

    def conversation(self, prompt: Sequence[int]) -> Conversation:
        """Turns are whole where ``<|im_end|>`` closes them: the opening of the answer is none."""
        said, role, body = list[Said](), "", list[int]()
        middle = False
        for number in prompt:
            name = self.vocabulary.special_names.get(number, "")
            if name in ROLES:
                role, body, middle = ROLES[name], [], False
            elif name == specials.IM_MIDDLE:
                role, body, middle = self._role(role, body), [], True
            elif name == specials.IM_END and middle:
                said.append(self._said(role, body))
                middle = False
            else:
                body.append(number)
        calls = sum(number == self.vocabulary.special(specials.TOOL_CALL_BEGIN) for number in prompt)
        return Conversation([one for one in said if one.role != "tool_declare"], calls)

    def _role(self, role: str, name: Sequence[int]) -> str:
        named = self._decoded(name)
        return named if role == "system" and named in ("tool", "tool_declare") else role

    def _said(self, role: str, body: list[int]) -> Said:
        media = sum(number == self.vocabulary.special(specials.MEDIA_BEGIN) for number in body)
        text = self._decoded(body)
        if role == "tool":
            text = text.partition("\n")[2]  # behind "## Return of …"
        return Said(role, text, media=media)

    def _opens_reasoning(self, prompt: Sequence[int]) -> bool:
        return prompt[-1] == self.vocabulary.special(specials.THINK)

    def _text(self, text: str) -> list[int]:
        return self.vocabulary.encode(text).tolist()

    def _decoded(self, ids: Sequence[int]) -> str:
        return self.vocabulary.decode_bytes(np.array(ids, np.uint32)).decode()

    def _note(self, what: str, conversation: Conversation, tokens: int) -> None:
        if self.log is None or conversation.mission is None:
            return
        row = {"time": time.time(), "what": what, "run": conversation.mission.label, "step": conversation.step}
        with self.log.open("a") as log:
            log.write(json.dumps(row | {"digest": conversation.digest, "tokens": tokens}) + "\n")


@asynccontextmanager
async def answering(bus: Bus, model: TokenModel, name: str) -> AsyncIterator[None]:
    """``generate.<name>`` is answered."""
    async with serve(
        bus,
        SystemClock(),
        name=names.SERVICE_ENGINE,
        subject=names.generate(name),
        handler=model,
        body_type=GenerateRequest,
        max_calls=64,
        version="1.0.0",
        drain_seconds=0.0,
    ):
        yield


def _ids(data: bytes) -> list[int]:
    return np.frombuffer(data, "<u4").tolist()


def _finished(prompt: int, completion: int) -> GenerationFinished:
    return GenerationFinished(
        finish_reason="stop",
        prompt_tokens=prompt,
        completion_tokens=completion,
        prefill_seconds=0.0,
        decode_seconds=0.0,
        system_fingerprint="mt-scripted",
    )


class Nothing(msgspec.Struct, frozen=True, kw_only=True):
    """Configuration: all of it comes as arguments."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.endpoints.token_model")
    parser.add_argument(
        "--checkpoint", type=Path, required=True, help="a directory with a vocabulary; its name is served"
    )
    parser.add_argument("--log", type=Path)
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--scripts", default="tests.missions.scripts:SCRIPTS")
    parsed = parser.parse_args()
    vocabulary = load_vocabulary(parsed.checkpoint)

    @asynccontextmanager
    async def app(config: Nothing, process: Process) -> AsyncIterator[None]:
        model = TokenModel(vocabulary, named(parsed.scripts), process.blobs, parsed.log, parsed.seconds)
        async with answering(process.bus, model, parsed.checkpoint.name):
            yield

    service.main(Service(name="engine", config=Nothing, app=app))


if __name__ == "__main__":
    main()
