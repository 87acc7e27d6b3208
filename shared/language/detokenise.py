"""Token bytes to text, incrementally, never splitting a character.

Input: bytes of tokens in order. Output: text; at most three bytes are held back. Invalid bytes become U+FFFD exactly
as ``bytes.decode("utf-8", "replace")`` of the whole would give.
"""

import codecs


class Detokeniser:
    """The state of one piece of text. A new piece needs a new one, or ``finish`` of the last."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, data: bytes) -> str:
        """Every character that is complete now."""
        return self._decoder.decode(data)

    def finish(self) -> str:
        """What was held back, as U+FFFD, and ready for the next piece."""
        text = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        return text
