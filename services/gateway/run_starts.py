"""Beginning a run exactly once: checked against what is there, then under a new id, or under the id that an idempotency
key has been given before.

Input: who asks, a checked body, the client's key. Output: ``RunSummary`` once the run is accepted. It must not know
HTTP.
"""

import hashlib
import re
from collections.abc import Awaitable, Callable

import msgspec

from schemas import codec
from schemas.request import Principal, RequestContext
from schemas.runs import RunOrigin, RunSpec, RunSubmitted, RunSummary
from services.gateway.capabilities import check_agent
from services.gateway.json_body import refused, unsupported
from services.gateway.models import ModelDirectory, Target
from services.gateway.quotas import Quotas
from services.gateway.run_body import RunBody
from services.gateway.run_id import new_run_id
from services.gateway.run_request import RunRequests, contents
from services.gateway.runs import Runs
from services.gateway.standing import QuotaExceeded
from shared.blobs.store import BlobStore
from shared.errors import BadInput, NotFound, Unavailable

IDEMPOTENCY_KEY = "Idempotency-Key"
GRACE_SECONDS = 3600.0
"""Behind a run's own budget of time; waits for people do not count there."""

_KEY = re.compile(r"[\x20-\x7e]{1,255}")


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """What a key stands for, as stored (JSON)."""

    run_id: str
    body_sha256: str


class RunStarts:
    """Methods raise BadInput naming a field, what a coordinator refuses with, and Unavailable: then the same key begins
    the same run later."""

    def __init__(
        self, runs: Runs, blobs: BlobStore, models: ModelDirectory, requests: RunRequests, quotas: Quotas
    ) -> None:
        self._runs = runs
        self._quotas = quotas
        self._blobs = blobs
        self._models = models
        self._requests = requests

    async def prepare(self, principal: Principal, body: RunBody, target: Target) -> RunSpec:
        """What the body asks for, with everything that it holds stored."""
        check_agent(body, contents(body), target.capabilities)
        await self._check_kind(body.kind)
        await self.check_tools(principal, body.tools, body.approvals)
        return await self._requests.build(body, target, principal)

    async def submit(
        self,
        context: RequestContext,
        spec: RunSpec,
        key: str | None,
        body_sha256: str,
        *,
        origin: RunOrigin | None = None,
        before: Callable[[str], Awaitable[None]] | None = None,
    ) -> RunSummary:
        """``body_sha256``: of the body as it came, since a key stands for one body. ``before``: called with the id of
        a run that is new."""
        now = self._runs.clock.unix_seconds()
        context = msgspec.structs.replace(context, deadline_unix_seconds=now + spec.budget.max_seconds + GRACE_SECONDS)
        run_id = new_run_id(now)
        if key is not None:
            claimed = await self._claimed(context.principal, key, body_sha256, run_id)
            if claimed != run_id and (known := await self._known(context.principal, claimed)) is not None:
                return known
            run_id = claimed
        if before is not None:
            await before(run_id)
        submitted = RunSubmitted(run_id=run_id, context=context, spec=spec, origin=origin)
        try:
            return await self._admitted(submitted)
        except QuotaExceeded:
            # The same key may have begun the run in the meantime: then that is what there is no room beside.
            known = await self._known(context.principal, run_id) if key is not None else None
            if known is None:
                raise
            return known

    async def _admitted(self, submitted: RunSubmitted) -> RunSummary:
        """With a budget of no more than the tokens that are left of the day. Raises QuotaExceeded."""
        principal = submitted.context.principal
        async with self._quotas.run(principal, lambda: self._runs.going(principal)) as left:
            spec = within(submitted.spec, left)
            return await self._runs.submit(msgspec.structs.replace(submitted, spec=spec))

    async def _known(self, principal: Principal, run_id: str) -> RunSummary | None:
        """None: whoever claimed the id did not get to submit it."""
        try:
            return await self._runs.get(principal, run_id)
        except NotFound:
            return None

    async def check_tools(self, principal: Principal, *fields: list[str] | None) -> None:
        """``fields``: tools and approvals. Where nobody says which tools there are, the run finds out."""
        if not any(fields):
            return
        try:
            listed = await self._runs.tools(principal)
        except Unavailable:
            return
        known = {declaration.name for declaration in listed.tools}
        for field, given in zip(("tools", "approvals"), fields, strict=True):
            for index, name in enumerate(given or ()):
                if name not in known:
                    there = ", ".join(sorted(known)) or "none"
                    raise refused(f"{field}[{index}]", f"there is no tool {name!r}; there are: {there}")

    async def _check_kind(self, kind: str) -> None:
        kinds = await self._models.kinds()
        if kinds and kind not in kinds:
            raise unsupported("kind", f"{kind!r} is not here yet; there is: {', '.join(sorted(kinds))}")

    async def _claimed(self, principal: Principal, key: str, body_sha256: str, run_id: str) -> str:
        if not _KEY.fullmatch(key):
            raise refused(IDEMPOTENCY_KEY, "must have 1 to 255 printable ASCII characters")
        claim = Claim(run_id=run_id, body_sha256=body_sha256)
        name = hashlib.sha256(key.encode()).hexdigest()
        stored = await self._blobs.keep_record(_kind(principal), name, codec.encode_json(claim))
        found = codec.decode_json(stored, Claim)
        if found.body_sha256 != claim.body_sha256:
            message = f"{IDEMPOTENCY_KEY}: this key was used with another body"
            raise BadInput("idempotency_key.reused", message, param=IDEMPOTENCY_KEY, status=422)
        return found.run_id


def within(spec: RunSpec, tokens: int | None) -> RunSpec:
    given = [limit for limit in (spec.budget.max_tokens, tokens) if limit is not None]
    budget = msgspec.structs.replace(spec.budget, max_tokens=min(given, default=None))
    return msgspec.structs.replace(spec, budget=budget)


def _kind(principal: Principal) -> str:
    return f"run-keys.{principal.tenant}.{principal.key_id}"
