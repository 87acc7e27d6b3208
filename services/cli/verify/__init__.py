"""`moontide verify URL`: a scorecard of any OpenAI-compatible endpoint.

One table of small checks (`table.py`), by topic; an HTTP edge that remembers every exchange (`probe.py`); and a pure
scorecard. Knows nothing of our own services: ours is judged like any other endpoint.
"""
