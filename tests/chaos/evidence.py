"""What is left to look at after a storm: ledgers with the broker's times, and the lines that processes wrote."""

import json
from pathlib import Path
from typing import Any

from schemas import codec
from schemas.runs import LedgerEntry
from shared.clock import SystemClock
from shared.ledger.inspection import Inspection
from shared.ledger.journal import ledger_stream, ledger_subject
from tests.chaos.fleet import Fleet
from tests.chaos.verdict import Record, Stored


async def record_of(fleet: Fleet, run_id: str, label: str) -> Record:
    """Every entry with the time at which the broker took it."""
    record, after = Record(run_id, label), 0
    while True:
        found = await fleet.bus.read_log(ledger_stream(run_id), ledger_subject(run_id), after_sequence=after, limit=500)
        if not found:
            return record
        record.entries += [
            Stored(one.sequence, one.time_unix_seconds, codec.decode(one.data, LedgerEntry), len(one.data))
            for one in found
        ]
        after = found[-1].sequence


async def findings(fleet: Fleet) -> list[str]:
    """What `moontide audit` says of this stack."""
    report = await Inspection(fleet.bus, SystemClock(), fleet.blobs, live=True).report()
    return [f"{one.code} {one.id} at {one.sequence}: {one.detail}" for one in report.findings]


def rows(path: Path) -> list[dict[str, Any]]:
    """A kill may leave half a line at the end of what one process wrote."""
    found = []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found
