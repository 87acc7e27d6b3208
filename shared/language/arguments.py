"""The arguments of one tool call while they arrive: what may be passed on, and how far the JSON has got.

Input: text in order. Output: the same text without white space around it. Pure; knows nothing of tokens or markers.
It tells strings from structure and counts brackets; whether the JSON fits a schema is not its concern.
"""


class Arguments:
    def __init__(self) -> None:
        self._spaces: str | None = None
        """White space that is passed on only if more follows; None before the first character."""
        self._depth = 0
        self._escaped = False
        self.in_string = False

    @property
    def begun(self) -> bool:
        return self._spaces is not None

    @property
    def complete(self) -> bool:
        """Whether every bracket and string that was opened has been closed."""
        return self.begun and not self.in_string and self._depth == 0

    def push(self, text: str) -> str:
        """What may be passed on now."""
        text = text.lstrip() if self._spaces is None else self._spaces + text
        if not text:
            return ""
        passed = text.rstrip()
        self._scan(passed)
        self._spaces = text[len(passed) :]
        return passed

    def _scan(self, text: str) -> None:
        for character in text:
            if self._escaped:
                self._escaped = False
            elif self.in_string:
                self._escaped = character == "\\"
                self.in_string = character != '"'
            elif character == '"':
                self.in_string = True
            else:
                self._depth += (character in "{[") - (character in "}]")
