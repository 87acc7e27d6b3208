"""``web_search``: questions to all configured providers at once, hits in turn; and ``$web_search``, Kimi's builtin.

Input: ``{query, limit?}``. Output: numbered hits with title, address and snippet. A provider that fails is named while
others answer. Must not know what providers are.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain, zip_longest

import msgspec

from services.tools.search import Hit, SearchProvider
from services.tools.tool import Call, Result, declared, said
from shared.errors import BadInput, MoontideError

DEFAULT_LIMIT = 8
MAX_LIMIT = 20
QUERY_CHARS = 1000
SNIPPET_CHARS = 500


@dataclass(frozen=True)
class WebSearch:
    providers: Sequence[SearchProvider]
    """At least one."""

    declaration = declared(
        "web_search",
        "Search the web and indexed files. Answers titles, addresses and snippets; fetch reads them.",
        {
            "query": {"type": "string", "description": "What to look for, as words or a question."},
            "limit": {
                "type": "integer",
                "minimum": 1,
                "maximum": MAX_LIMIT,
                "default": DEFAULT_LIMIT,
                "description": "How many results.",
            },
        },
        required=("query",),
        expected_seconds=2.0,
    )

    async def run(self, call: Call) -> Result:
        """Raises what the providers raised when none of them answers."""
        query = call.arguments["query"].strip()
        if not query or len(query) > QUERY_CHARS:
            raise BadInput("search.query", f"a query has between 1 and {QUERY_CHARS} characters", param="query")
        limit = call.arguments.get("limit", DEFAULT_LIMIT)
        call.progress(f"searching for {query[:100]}")
        answers = await asyncio.gather(*(_asked(provider, query, limit) for provider in self.providers))
        failures = [answer for answer in answers if isinstance(answer, MoontideError)]
        if len(failures) == len(answers):
            raise failures[0]
        hits = merged([answer for answer in answers if not isinstance(answer, MoontideError)], limit)
        return said(_told(query, hits, failures))


@dataclass(frozen=True)
class BuiltinSearch:
    """Kimi's builtin, which coordinators know by its reserved name. A model that searches by itself (Moonshot's) calls
    it with arguments of its own service, and is answered with the same: that is how its protocol goes."""

    search: WebSearch
    declaration = msgspec.structs.replace(WebSearch.declaration, name="$web_search", parameters=b'{"type":"object"}')

    async def run(self, call: Call) -> Result:
        query, limit = call.arguments.get("query"), call.arguments.get("limit", DEFAULT_LIMIT)
        if not isinstance(query, str):
            return said(msgspec.json.encode(call.arguments).decode())
        limit = min(max(limit, 1), MAX_LIMIT) if isinstance(limit, int) else DEFAULT_LIMIT
        return await self.search.run(replace(call, arguments={"query": query, "limit": limit}))


async def _asked(provider: SearchProvider, query: str, limit: int) -> list[Hit] | MoontideError:
    try:
        return await provider.search(query, limit)
    except MoontideError as error:
        return error


def merged(answers: Iterable[Sequence[Hit]], limit: int) -> list[Hit]:
    """The first of each, the second of each, and so on; an address once; hits without one are dropped."""
    hits: dict[str, Hit] = {}
    for hit in chain.from_iterable(zip_longest(*answers)):
        if hit is not None and hit.url and hit.url not in hits and len(hits) < limit:
            hits[hit.url] = hit
    return list(hits.values())


def _told(query: str, hits: Sequence[Hit], failures: Sequence[MoontideError]) -> str:
    lines = [f"[{failure.message}]" for failure in failures]
    if not hits:
        lines.append(f"Nothing was found for {query!r}.")
    for number, hit in enumerate(hits, 1):
        lines.append(f"{number}. {' '.join(hit.title.split())[:200] or hit.url}{f' ({hit.date})' if hit.date else ''}")
        lines.append(f"   {hit.url}{f' (fetch with start={hit.start})' if hit.start else ''}")
        lines.append(f"   {' '.join(hit.snippet.split())[:SNIPPET_CHARS]}\n")
    return "\n".join(lines).rstrip()
