"""The language boundary as a library: vocabulary, chat template, prompt, detokeniser and answer parser.

Text and messages go in, token ids come out, and the other way round. Knows nothing of the bus, HTTP or weights.
"""
