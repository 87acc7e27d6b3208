"""What a chat may cost, before anybody has counted: a quick guess for admission, corrected by the answer's own usage.

Pure. Input: a checked body. Output: tokens. It must not know vocabularies: only the model's tokenizer counts exactly.
"""

from services.gateway.chat_body import ChatBody, MessageBody, TextContent

BYTES_PER_TOKEN = 4
"""English has about four letters a token; Chinese three bytes a character, and some characters a token."""
MESSAGE_TOKENS = 4
MEDIUM_TOKENS = 1024
"""An image, or a short clip."""


def prompt_tokens(body: ChatBody) -> int:
    text = len(bytes(body.tools)) + sum(_text_bytes(message) for message in body.messages)
    media = sum(_media(message) for message in body.messages)
    return text // BYTES_PER_TOKEN + MESSAGE_TOKENS * len(body.messages) + MEDIUM_TOKENS * media


def _text_bytes(message: MessageBody) -> int:
    texts = [message.content] if isinstance(message.content, str) else _parts(message)
    texts += [message.reasoning_content or ""]
    texts += [call.function.arguments for call in message.tool_calls or ()]
    return sum(len(text.encode(errors="surrogatepass")) for text in texts)


def _parts(message: MessageBody) -> list[str]:
    return [part.text for part in message.content or () if isinstance(part, TextContent)]


def _media(message: MessageBody) -> int:
    if isinstance(message.content, str):
        return 0
    return sum(not isinstance(part, TextContent) for part in message.content or ())
