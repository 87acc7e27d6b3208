"""A checked body as the ``RunSpec`` that a coordinator understands: messages stored, files and bundles by reference.

Input: ``RunBody``, the model that it means, and who asks. Output: ``RunSpec``. It must not know how a run is begun or
followed.
"""

import secrets

import msgspec

from schemas.blobs import BlobRef
from schemas.chat import Sampling
from schemas.request import Principal
from schemas.runs import RunBudget, RunSpec, SeedFile
from services.gateway.capabilities import Placed
from services.gateway.chat_body import Content, MessageBody, TextContent
from services.gateway.chat_request import SEED_LIMIT, ChatRequests
from services.gateway.files import FileLibrary, FileRecord
from services.gateway.models import Target
from services.gateway.run_body import BudgetBody, ForkBody, RunBody
from services.gateway.run_rules import check_path
from shared.blobs.store import BlobStore
from shared.errors import BadInput, NotFound

TITLE_CHARACTERS = 120


class RunRequests:
    """Methods raise BadInput naming the field of what cannot be used."""

    def __init__(self, blobs: BlobStore, files: FileLibrary, chats: ChatRequests) -> None:
        self._blobs = blobs
        self._files = files
        self._chats = chats

    async def build(self, body: RunBody, target: Target, principal: Principal) -> RunSpec:
        messages = [await self._stored(message, path, principal) for path, message in conversation(body)]
        return RunSpec(
            kind=body.kind,
            model=target.model,
            messages=tuple(messages),
            title=body.title or title_of(conversation(body)[-1][1].content),
            tools=None if body.tools is None else tuple(dict.fromkeys(body.tools)),
            approvals=tuple(dict.fromkeys(body.approvals or ())),
            thinking=thinks(body, target),
            sampling=sampling(body, target),
            budget=budget(body.budget),
            context_strategy=body.context_strategy or "hide_tool_results",
            files=tuple([await self._seed(body, index, principal) for index in range(len(body.files or ()))]),
            repository=await self._bundle(body.repository, principal),
        )

    async def message(self, content: str | list[Content], path: str, principal: Principal) -> BlobRef:
        """What a person says, stored."""
        return await self._stored(MessageBody(role="user", content=content), path, principal)

    async def _stored(self, message: MessageBody, path: str, principal: Principal) -> BlobRef:
        return await self._blobs.put(await self._chats.encoded(message, path, principal))

    async def _seed(self, body: RunBody, index: int, principal: Principal) -> SeedFile:
        assert body.files is not None
        file = body.files[index]
        record = await self._record(file.file_id, f"files[{index}].file_id", principal)
        path = record.filename if file.path is None else file.path
        check_path(path, f"files[{index}].path")
        return SeedFile(path=path, content=record.blob)

    async def _bundle(self, file_id: str | None, principal: Principal) -> BlobRef | None:
        return None if file_id is None else (await self._record(file_id, "repository", principal)).blob

    async def _record(self, file_id: str, field: str, principal: Principal) -> FileRecord:
        try:
            return await self._files.get(principal, file_id)
        except NotFound as error:
            raise BadInput("file.not_found", f"{field}: no file {file_id!r:.120}", param=field) from error


def conversation(body: RunBody) -> list[tuple[str, MessageBody]]:
    """(JSON path of its content, message), the goal last."""
    if body.messages is None:
        return [("goal", MessageBody(role="user", content=body.goal))]
    return [(f"messages[{index}].content", message) for index, message in enumerate(body.messages)]


def contents(body: RunBody) -> list[Placed]:
    return [(path, message.content) for path, message in conversation(body)]


def title_of(content: str | list[Content] | None) -> str:
    """The first words, on one line."""
    parts = [content] if isinstance(content, str) else [p.text for p in content or () if isinstance(p, TextContent)]
    text = "".join(filter(str.isprintable, " ".join(" ".join(parts).split())))
    return text if len(text) <= TITLE_CHARACTERS else f"{text[: TITLE_CHARACTERS - 1]}…"


def thinks(body: RunBody, target: Target) -> bool:
    if body.thinking is None:
        return target.variant is None or target.variant.thinking
    return body.thinking if isinstance(body.thinking, bool) else body.thinking.type == "enabled"


def budget(body: BudgetBody | None, base: RunBudget | None = None) -> RunBudget:
    """``base`` where ``body`` says nothing."""
    given = msgspec.structs.asdict(body) if body is not None else {}
    return msgspec.structs.replace(base or RunBudget(), **{k: v for k, v in given.items() if v is not None})


def sampling(body: RunBody, target: Target) -> Sampling:
    """The variant's values where the request has none. A seed makes every call of the run repeatable."""
    variant = target.variant
    temperature, top_p = body.temperature, body.top_p
    if variant is not None:
        temperature = variant.temperature if temperature is None else temperature
        top_p = variant.top_p if top_p is None else top_p
    return Sampling(
        temperature=temperature,
        top_p=top_p,
        seed=body.seed if body.seed is not None else secrets.randbelow(SEED_LIMIT),
        max_tokens=body.max_tokens,
        top_k=body.top_k or None,
        min_p=body.min_p or None,
        presence_penalty=body.presence_penalty or 0.0,
        frequency_penalty=body.frequency_penalty or 0.0,
        repetition_penalty=body.repetition_penalty or 1.0,
    )


def forked(spec: RunSpec, body: ForkBody, said: tuple[BlobRef, ...]) -> RunSpec:
    """The spec of a run that goes on differently; ``said``: what its goal adds behind its past."""
    return msgspec.structs.replace(
        spec,
        messages=said,
        title=body.title or spec.title,
        tools=spec.tools if body.tools is None else tuple(dict.fromkeys(body.tools)),
        approvals=spec.approvals if body.approvals is None else tuple(dict.fromkeys(body.approvals)),
        budget=budget(body.budget, spec.budget),
    )
