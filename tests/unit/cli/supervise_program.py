"""A supervisor as a program of its own, so that a test can kill it: `python supervise_program.py DIRECTORY NAME…`."""

import asyncio
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[3]), str(Path(__file__).parent)]

from children import spec  # noqa: E402

from services.cli.supervisor import supervised  # noqa: E402


async def main(directory: Path, names: list[str]) -> None:
    specs = [spec(directory, name) for name in names]
    async with supervised([specs], names, print) as supervisor:
        pids = [str(child.pid) for child in supervisor.children.values()]
        partial = directory / "pids.partial"
        partial.write_text(" ".join(pids))
        partial.rename(directory / "pids")
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2:]))
