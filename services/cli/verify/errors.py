"""Checks of errors that do not come from a chat's fields: key, model, path, method."""

from services.cli.verify.exchange import Wish
from services.cli.verify.judgement import NotOffered, shaped_error
from services.cli.verify.probe import CHAT, Probe

WRONG_KEY = "moontide-verify-wrong-key"


async def key(probe: Probe) -> None:
    exchange = await probe.exchange(Wish("POST", CHAT, probe.body("Hello", limit=1), bearer=WRONG_KEY))
    if exchange.accepted:
        raise NotOffered("no key is asked for", exchange)
    shaped_error(exchange, (401,))


async def model(probe: Probe) -> None:
    body = probe.body("Hello", limit=1) | {"model": "moontide-verify-no-such-model"}
    shaped_error(await probe.exchange(Wish("POST", CHAT, body)), (404,))


async def path(probe: Probe) -> None:
    shaped_error(await probe.exchange(Wish("GET", "/moontide-verify-no-such-path")), (404,))


async def method(probe: Probe) -> None:
    shaped_error(await probe.exchange(Wish("GET", CHAT)), (405,))
