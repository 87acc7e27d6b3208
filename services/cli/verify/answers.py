"""Checks of what every client reads first: the list of models, and one plain answer."""

from typing import Any

from services.cli.verify.exchange import Wish
from services.cli.verify.judgement import accepted, require, shown
from services.cli.verify.probe import Probe

MODELS = Wish("GET", "/models")


def model_ids(body: Any) -> list[str]:
    """Of the body of a model list; empty when it is none."""
    rows = body.get("data") if isinstance(body, dict) else None
    found = [row.get("id") for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    return [name for name in found if isinstance(name, str) and name]


def random_weights(body: Any, model: str) -> bool:
    """Whether a model list says so of ``model``."""
    rows = body.get("data") if isinstance(body, dict) else None
    found = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    return any(row.get("id") == model and row.get("random_weights") is True for row in found)


async def models(probe: Probe) -> None:
    exchange = accepted(await probe.exchange(MODELS))
    body = exchange.json()
    is_list = isinstance(body, dict) and body.get("object") == "list"
    require(is_list, f"the body is no list object: {shown(exchange.data)}", exchange)
    require(probe.target.model in model_ids(body), f"{probe.target.model!r} is not listed", exchange)


async def plain(probe: Probe) -> None:
    reply = await probe.whole(probe.body("Say hello."))
    body = reply.exchange.json()
    require(body.get("object") == "chat.completion", f"object is {body.get('object')!r}", reply.exchange)
    for name, kind in (("id", str), ("model", str), ("created", int)):
        require(isinstance(body.get(name), kind), f"{name} is {shown(body.get(name))!r}", reply.exchange)
    role = body["choices"][0]["message"].get("role")
    require(role == "assistant", f"the role of the answer is {role!r}", reply.exchange)
    require(bool(reply.content or reply.reasoning), "nothing is said", reply.exchange)
