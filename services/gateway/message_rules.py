"""What the messages of a chat must keep to together: who may say what, which call a result answers, what goes on.

Input: messages whose fields have the right types. Output: nothing, or BadInput naming the field. It must not know
tools, sampling or models.
"""

from collections.abc import Sequence

from services.gateway.chat_body import MessageBody
from services.gateway.json_body import refused


def check_messages(messages: Sequence[MessageBody]) -> None:
    """Raises BadInput."""
    called: set[str] = set()
    for index, message in enumerate(messages):
        path = f"messages[{index}]"
        _check_fields(message, path)
        _check_partial(message, path, last=index == len(messages) - 1)
        called |= {call.id for call in message.tool_calls or ()}
        if message.role == "tool" and message.tool_call_id not in called:
            raise refused(
                f"{path}.tool_call_id", f"no assistant message before has a call {message.tool_call_id!r:.120}"
            )


def check_reasoning_kept(messages: Sequence[MessageBody]) -> None:
    """Moonshot's rule while thinking: a message that called tools says what was thought before, if only nothing."""
    for index, message in enumerate(messages):
        if message.tool_calls and message.reasoning_content is None and message.reasoning is None:
            text = (
                f"thinking is enabled but reasoning_content is missing in assistant tool call message at index {index}"
            )
            raise refused(f"messages[{index}].reasoning_content", text, "missing_field")


def _check_fields(message: MessageBody, path: str) -> None:
    if message.role == "tool" and not message.tool_call_id:
        raise refused(f"{path}.tool_call_id", "is required", "missing_field")
    if message.tool_calls and message.role != "assistant":
        raise refused(f"{path}.tool_calls", "only the assistant calls tools")
    said = message.tool_calls or message.reasoning_content or message.reasoning
    if message.content is None and not (message.role == "assistant" and (said or message.partial)):
        raise refused(f"{path}.content", "is required", "missing_field")


def _check_partial(message: MessageBody, path: str, last: bool) -> None:
    if not message.partial:
        return
    if message.role != "assistant":
        raise refused(f"{path}.partial", "only a message of the assistant can be continued")
    if not last:
        raise refused(f"{path}.partial", "only the last message can be continued")
    if message.tool_calls:
        raise refused(f"{path}.partial", "a message with tool calls cannot be continued")
