"""Which model an endpoint is, and what it cannot promise.

Input: the configuration and the endpoint's own list of models. Output: a complete configuration, and the metadata of
discovery. It must not know how requests are answered.
"""

import logging
from typing import Literal, get_args

import msgspec

from services.upstream.config import Capability, UpstreamConfig
from services.upstream.endpoint import Endpoint, ListedModel
from services.upstream.faults import Fault
from shared.errors import BadInput

log = logging.getLogger("upstream")


async def identify(config: UpstreamConfig, endpoint: Endpoint) -> tuple[UpstreamConfig, ListedModel]:
    """Names and limits, from the configuration first, from the endpoint's own list where that is silent."""
    listed = await _listed(config, endpoint)
    remote = config.remote_model or (listed[0].id if len(listed) == 1 else None)
    if remote is None:
        found = ", ".join(sorted(model.id for model in listed)[:20]) or "none"
        raise BadInput(
            "upstream.config",
            f"the endpoint does not list exactly one model; name one of: {endpoint.key.redact(found)}",
        )
    entry = next((model for model in listed if model.id == remote), ListedModel(id=remote))
    length = config.context_length or entry.max_model_len or entry.context_length
    named = msgspec.structs.replace(config, remote_model=remote, model=config.model or remote, context_length=length)
    return named, entry


def metadata(config: UpstreamConfig, model: str) -> dict[str, str]:
    """Announced in discovery: what this model is called, and what it cannot promise."""
    passed_on = [name for name in get_args(Capability) if name not in config.lacks]
    capabilities = [*passed_on, *(["grammar"] if config.grammar else [])]
    known = {"context_length": str(config.context_length)} if config.context_length else {}
    return known | {
        "model": model,
        "capabilities": ",".join(capabilities),
        "resumable": "false",
        "deterministic": "false",
        "grammar": "true" if config.grammar else "false",
        "video": "false" if "video" in config.lacks else "true",
        "video_path": config.video,
    }


def thinking_switch(config: UpstreamConfig) -> Literal["moonshot", "template", "none"]:
    """Moonshot's own API has a field for it; the open engines pass arguments to the chat template."""
    if config.thinking_switch != "auto":
        return config.thinking_switch
    return "moonshot" if ".moonshot." in config.url or ".kimi." in config.url else "template"


async def _listed(config: UpstreamConfig, endpoint: Endpoint) -> list[ListedModel]:
    try:
        return await endpoint.models()
    except Fault as fault:
        if config.remote_model is None:
            raise fault.error from None
        log.warning("endpoint lists no models", extra={"code": fault.error.code})
        return []
