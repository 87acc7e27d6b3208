"""The language boundary: messages to token ids and media spans, token ids back to text, reasoning and tool calls."""
