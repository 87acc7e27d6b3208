"""What a new run must keep to beyond the types of its fields, as refusals that name the field.

Input: JSON bytes. Output: a ``RunBody`` that can be begun, or BadInput. It must not know which models and tools there
are.
"""

import re
from pathlib import PurePosixPath

from services.gateway import chat_rules
from services.gateway.chat_body import MessageBody
from services.gateway.chat_rules import SamplingMode
from services.gateway.json_body import decode_body, refused
from services.gateway.message_rules import check_messages
from services.gateway.run_body import RunBody

_CONTROL = re.compile(r"[\x00-\x1f\x7f\\]")


def read(data: bytes, mode: SamplingMode = "open") -> RunBody:
    """Raises BadInput whose ``param`` is the JSON path of the first field that is wrong."""
    body: RunBody = decode_body(data, RunBody)
    if body.goal is None and body.messages is None:
        raise refused("goal", "is required where there are no messages", "missing_field")
    if body.goal is not None and body.messages is not None:
        raise refused("goal", "contradicts messages, whose last one is the goal")
    if body.messages is not None:
        check_goal(body.messages)
    check_approvals(body.tools, body.approvals)
    _check_paths(body)
    if mode == "kimi":
        chat_rules.check_fixed(body)
    return body


def check_goal(messages: list[MessageBody]) -> None:
    """A conversation whose last message is a goal."""
    check_messages(messages)
    last = len(messages) - 1
    if messages[last].partial:
        raise refused(f"messages[{last}].partial", "a run does not continue a message")
    if messages[last].role not in ("user", "tool"):
        raise refused(f"messages[{last}].role", "the last message is the goal, and a user's")


def check_approvals(tools: list[str] | None, approvals: list[str] | None) -> None:
    for index, name in enumerate(approvals or ()):
        if tools is not None and name not in tools:
            raise refused(f"approvals[{index}]", f"{name!r} is not among tools")


def check_path(path: str, field: str) -> None:
    """A path inside the workspace. Raises BadInput."""
    parts = path.split("/")
    if _CONTROL.search(path) or any(part in ("", ".", "..", ".git") for part in parts):
        raise refused(field, "must be relative, with '/' between its parts, and lead nowhere else")


def _check_paths(body: RunBody) -> None:
    if body.repository is not None and body.files:
        raise refused("repository", "contradicts files: a run begins with either")
    seen: set[str] = set()
    folders: set[str] = set()
    for index, file in enumerate(body.files or ()):
        field = f"files[{index}].path"
        if file.path is None:
            continue
        check_path(file.path, field)
        above = {str(parent) for parent in PurePosixPath(file.path).parents}
        if file.path in seen or file.path in folders or above & seen:
            raise refused(field, f"another file is at {file.path!r:.200}, above or below it")
        seen.add(file.path)
        folders |= above
