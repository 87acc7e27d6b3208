"""A search engine's HTTP API: one GET, its JSON typed, its refusals in our words.

Input: URL, query, headers. Output: the decoded answer. Shared by the providers; must not know what their fields mean.
"""

from collections.abc import Mapping
from ipaddress import ip_network
from typing import TypeVar
from urllib.parse import urlencode

import msgspec

from services.tools.address import Destinations
from services.tools.http import Web, WebAnswer, WebLimits
from services.tools.url import parse_url
from shared.errors import MoontideError, Unavailable

T = TypeVar("T")
LIMITS = WebLimits(max_bytes=4 * 1024 * 1024, total_seconds=20.0, redirects=0)


def web_of(url: str) -> Web:
    """The configured engine may be anywhere, also on this machine; and nothing else is reached."""
    port = parse_url(url).port
    everywhere = (ip_network("0.0.0.0/0"), ip_network("::/0"))
    return Web(Destinations(networks=everywhere, ports=frozenset({port} if port else ())), LIMITS)


async def ask(
    web: Web, name: str, url: str, query: Mapping[str, str], kind: type[T], headers: Mapping[str, str] | None = None
) -> T:
    """Raises Unavailable (``search.*``, status 502) for everything that is not the answer."""
    accept = {"Accept": "application/json", **(headers or {})}
    try:
        answer = await web.get(f"{url}?{urlencode(query)}", headers=accept)
    except MoontideError as error:
        raise _failed("search.unreachable", f"{name} cannot be asked: {error.message}") from None
    if answer.status != 200:
        raise _refused(name, answer)
    try:
        return msgspec.json.decode(answer.body, type=kind)
    except msgspec.MsgspecError:
        raise _failed("search.malformed", f"{name} answered something that is no list of results") from None


def _refused(name: str, answer: WebAnswer) -> Unavailable:
    if answer.status in (401, 403):
        return _failed("search.unauthorized", f"{name} refuses our key, or this kind of question")
    if answer.status in (402, 429):
        return _failed("search.quota", f"{name} answers no more questions for now: its quota is used up")
    return _failed("search.unreachable", f"{name} answers {answer.status}")


def _failed(code: str, text: str) -> Unavailable:
    """Not retryable: the model is told and can go on without, or ask again later."""
    return Unavailable(code, text, status=502)
