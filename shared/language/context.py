"""How long an answer may get: the one rule of admission, for tokenizers and engines. Pure."""


def answer_room(context_length: int, prompt_tokens: int) -> int:
    """Tokens that fit behind a prompt; 0 when the prompt itself is longer than the context.

    A prompt that fills the context still gets one: that is chosen at the prompt's last position and never fed back.
    """
    if prompt_tokens > context_length:
        return 0
    return max(context_length - prompt_tokens, 1)
