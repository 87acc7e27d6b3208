"""The Brave Search API as a search provider (https://api-dashboard.search.brave.com/documentation)."""

import html
import re

import msgspec

from services.tools.search import Hit
from services.tools.search_api import ask, web_of
from services.tools.secret import Secret

URL = "https://api.search.brave.com"
PATH = "/res/v1/web/search"
MAX_COUNT = 20
QUESTION_CHARS = 400
_TAG = re.compile(r"</?strong>")


class _Result(msgspec.Struct):
    url: str = ""
    title: str = ""
    description: str = ""
    page_age: str | None = None


class _Web(msgspec.Struct):
    results: list[_Result] = []


class _Answer(msgspec.Struct):
    web: _Web | None = None


class Brave:
    name = "Brave Search"

    def __init__(self, key: Secret, url: str = "") -> None:
        self._key = key
        self._url = f"{(url or URL).rstrip('/')}{PATH}"
        self._web = web_of(self._url)

    async def search(self, question: str, limit: int) -> list[Hit]:
        query = {"q": question[:QUESTION_CHARS], "count": str(min(limit, MAX_COUNT)), "text_decorations": "false"}
        headers = {"X-Subscription-Token": self._key.read()}
        answer = await ask(self._web, self.name, self._url, query, _Answer, headers)
        results = answer.web.results if answer.web is not None else []
        return [
            Hit(title=_text(one.title), url=one.url, snippet=_text(one.description), date=(one.page_age or "")[:10])
            for one in results[:limit]
        ]


def _text(marked: str) -> str:
    return html.unescape(_TAG.sub("", marked))
