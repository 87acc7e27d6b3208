"""Errors survive the wire as the same kind, and say whether trying again can help."""

import pytest

from schemas.codec import decode, encode
from schemas.failure import Failure
from shared.errors import BadInput, Busy, MoontideError, Unavailable, from_failure, internal_failure


@pytest.mark.parametrize(
    "error",
    [
        BadInput("media.undecodable", "clip.mp4: not a video", param="messages[0]"),
        Busy("engine.busy", "full", retry_after_seconds=1.5),
        Unavailable("bus.no_responder", "nobody listens"),
        MoontideError("odd", "a status of its own", status=418),
    ],
)
def test_an_error_crosses_the_wire_unchanged(error: MoontideError) -> None:
    back = from_failure(decode(encode(error.to_failure()), Failure))
    assert type(back) is type(error)
    assert (back.code, back.message, back.status, back.param, back.retry_after_seconds) == (
        error.code,
        error.message,
        error.status,
        error.param,
        error.retry_after_seconds,
    )


def test_only_full_and_missing_parts_are_worth_another_try() -> None:
    assert Busy("a", "b").retryable
    assert Unavailable("a", "b").retryable
    assert not BadInput("a", "b").retryable
    assert from_failure(internal_failure()).retryable is False
