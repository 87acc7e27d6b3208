"""SearXNG as a search provider: its JSON API (``search.formats`` of the instance must list ``json``)."""

import msgspec

from services.tools.search import Hit
from services.tools.search_api import ask, web_of


class _Result(msgspec.Struct):
    url: str = ""
    title: str = ""
    content: str | None = None
    publishedDate: str | None = None


class _Answer(msgspec.Struct):
    results: list[_Result]


class SearXNG:
    name = "SearXNG"

    def __init__(self, url: str) -> None:
        """``url``: of the instance, without ``/search``."""
        self._url = f"{url.rstrip('/')}/search"
        self._web = web_of(self._url)

    async def search(self, question: str, limit: int) -> list[Hit]:
        query = {"q": question, "format": "json"}
        answer = await ask(self._web, self.name, self._url, query, _Answer)
        return [
            Hit(
                title=result.title, url=result.url, snippet=result.content or "", date=(result.publishedDate or "")[:10]
            )
            for result in answer.results[:limit]
        ]
