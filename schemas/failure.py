"""What went wrong, as it travels. Texts come from our own tables; foreign text stays in traces."""

import msgspec

NOT_RESUMABLE = "upstream.not_resumable"
"""What was delivered of an answer cannot be continued: asked again without it, another answer begins."""


class Failure(msgspec.Struct, frozen=True, kw_only=True, tag="failure"):
    """One refusal or failure. ``status`` follows HTTP; ``param`` names the field or input that is wrong."""

    code: str
    """Stable, dotted, lower case: ``media.undecodable``, ``engine.busy``."""
    message: str
    status: int
    param: str | None = None
    retry_after_seconds: float | None = None
    """Set exactly when trying again can help."""
