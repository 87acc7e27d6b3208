"""``python -m tests.chaos.freeze``: a coordinator is frozen in the middle of an append and revived much later.

Real processes, two coordinators, a run of some steps. The owner stops itself, before its append is sent or while it is
on its way; the other one takes the run over and finishes it; then the frozen one is woken. Its ledger must be the same
as before that, nothing may have been asked or done twice, and the revived process must go on with other runs. One JSON
object last; exit code 1 on a fault.
"""

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from schemas.runs import LeaseTaken, RunBudget, RunSpec, SeedFile
from tests.chaos import fleet as fleets
from tests.chaos.client import Client
from tests.chaos.evidence import findings, record_of, rows
from tests.chaos.fleet import Fleet, Options
from tests.chaos.verdict import Record, judge
from tests.endpoints.agent import MODEL
from tests.missions import plain
from tests.waiting import until

STEPS = 8
PATIENCE_SECONDS = 60.0
DROP_SECONDS = 10.0


def options(folder: Path, at: str, append: int, *, fenced: bool) -> Options:
    variables = {
        "CHAOS_FENCING": "on" if fenced else "off",
        "CHAOS_FREEZE_AT": at,
        "CHAOS_FREEZE_APPEND": str(append),
        "CHAOS_FREEZE_FILE": str(folder / "frozen"),
    }
    return Options(local=False, model_seconds=0.02, coordinator="tests.chaos.frozen", variables=variables)


async def begin(client: Client, label: str) -> str:
    book = await client.blobs.put(plain.book(STEPS).encode())
    spec = RunSpec(
        model=MODEL,
        messages=(await client.message(plain.goal(plain.COUNTED, label, STEPS)),),
        files=(SeedFile(path=plain.BOOK, content=book),),
        budget=RunBudget(max_steps=STEPS + 2),
    )
    return (await client.submit(spec)).run_id


async def freeze(folder: Path, at: str, append: int, seconds: float, *, fenced: bool = True) -> dict[str, Any]:
    """``at``: before or sent, see ``frozen.py``; ``append``: which one of the owner's. Not ``fenced``: a defect."""
    frozen = folder / "frozen"
    async with fleets.running(folder / "stack", options(folder, at, append, fenced=fenced)) as fleet:
        client = Client(fleet.bus, fleet.blobs)
        run_id = await begin(client, "frozen")
        await until(frozen.exists, PATIENCE_SECONDS)
        stopped, pid = time.monotonic(), int(frozen.read_text())
        summary = await client.finished(run_id, PATIENCE_SECONDS)
        taken = time.monotonic() - stopped
        before = await record_of(fleet, run_id, "frozen")
        await asyncio.sleep(max(0.0, seconds - taken))
        os.kill(pid, signal.SIGCONT)
        faults = await _revived(fleet, client, pid, before)
        faults += [words for kind in (await _judged(fleet, before)).values() for words in kind]
        faults += await findings(fleet)
    terms = [event.term for _, event in before.events(LeaseTaken)]
    faults += [] if max(terms) >= 2 else ["nobody took the run over"]
    faults += [] if summary.status == "finished" else [f"the run is {summary.status}"]
    return {
        "at": at,
        "append": append,
        "frozen_seconds": round(max(seconds, taken), 1),
        "terms": terms,
        "faults": faults,
    }


async def _revived(fleet: Fleet, client: Client, pid: int, before: Record) -> list[str]:
    """The woken process has dropped the run, its ledger is the same, and further runs are driven."""
    (name,) = [name for name in fleet.names_of("coordinator") if fleet.supervisor.children[name].pid == pid]
    log = fleet.layout.log(name)
    with suppress(TimeoutError):  # without fencing nothing is dropped: then the ledger tells
        await until(lambda: f'"run_id": "{before.run_id}"' in log.read_text(), DROP_SECONDS)
    later = [await begin(client, f"later-{number}") for number in range(3)]
    ends = [(await client.finished(run_id, PATIENCE_SECONDS)).status for run_id in later]
    after = await record_of(fleet, before.run_id, before.label)
    faults = [] if after.entries == before.entries else ["the revived owner changed the ledger"]
    faults += [] if fleet.supervisor.children[name].pid == pid else ["the revived process did not live on"]
    return faults + ([] if ends == ["finished"] * 3 else [f"later runs are {ends}"])


async def _judged(fleet: Fleet, record: Record) -> dict[str, list[str]]:
    rows_of = [row for row in rows(fleet.model_log) if row["run"] == record.label]
    return judge([record], rows_of, []).found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.freeze")
    parser.add_argument("--seconds", type=float, default=60.0)
    parsed = parser.parse_args()
    logging.disable(logging.WARNING)
    found = []
    for at, append in (("before", 4), ("sent", 5)):
        with tempfile.TemporaryDirectory(prefix="moontide-freeze-") as folder:
            found.append(asyncio.run(freeze(Path(folder), at, append, parsed.seconds)))
        print(f"{at}: {len(found[-1]['faults'])} faults", flush=True)
    print(json.dumps({"frozen": found, "faults": sum(len(one["faults"]) for one in found)}))
    return 1 if any(one["faults"] for one in found) else 0


if __name__ == "__main__":
    sys.exit(main())
