"""``python -m tests.measure.prefixes``: how much of their prompts agents find in a cache of half the size they need.

The part of ``moontide bench serve`` of that name, by itself. Prints one JSON object; exit code 1 below nine tenths of
an unlimited cache's hits.
"""

import sys

import msgspec

from services.inference.bench.serve_agents import measure

if __name__ == "__main__":
    result = measure(300, 12, seed=1)
    print(msgspec.json.encode(result).decode())
    sys.exit(result.announced_of_unlimited < 0.9)
