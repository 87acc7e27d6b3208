"""What our grammars cannot say, and where it stands in a schema."""


class Unsupported(Exception):
    """``path``: JSON pointer below the schema's root, filled in by whoever knows it."""

    def __init__(self, reason: str, path: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.path = path
