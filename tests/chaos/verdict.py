"""What must hold of runs afterwards, whoever died: pure judgement of ledgers and of what the outside world counted.

Input: entries with the time at which the broker took them; rows of the model's log (who was asked when, for which step)
and of the harbour's (which effect happened when, under which key). Output: faults by kind, in words.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from schemas.runs import LeaseTaken, LedgerEntry, ModelAnswered, ModelAsked, RunEnded, ToolAnswered, ToolAsked

CLOCK_SECONDS = 0.002
"""Broker and processes read one clock, but not at one moment."""


@dataclass(frozen=True)
class Stored:
    sequence: int
    time: float
    """Unix seconds at which the broker took it."""
    entry: LedgerEntry
    size_bytes: int = 0


@dataclass
class Record:
    """One run as it ended."""

    run_id: str
    label: str
    """By which the model's log knows it."""
    entries: list[Stored] = field(default_factory=list)

    def events(self, kind: Any) -> list[tuple[float, Any]]:
        return [(one.time, event) for one in self.entries for event in one.entry.events if isinstance(event, kind)]


@dataclass
class Faults:
    """Words by kind; ``all`` of them empty means that the promise was kept."""

    found: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def add(self, kind: str, words: str) -> None:
        self.found[kind].append(words)

    def count(self, kind: str) -> int:
        return len(self.found.get(kind, ()))

    def total(self) -> int:
        return sum(map(len, self.found.values()))


def judge(records: Iterable[Record], asked: Iterable[dict[str, Any]], effects: Iterable[dict[str, Any]]) -> Faults:
    faults = Faults()
    by_label, by_run = defaultdict(list), defaultdict(list)
    for row in asked:
        by_label[row["run"]].append(row)
    for row in effects:
        by_run[run_of(row["key"])].append(row)
    for record in records:
        _endings(record, faults)
        _owners(record, faults)
        _model(record, by_label.pop(record.label, []), faults)
        _effects(record, by_run.pop(record.run_id, []), faults)
    for run, rows in by_run.items():
        faults.add("effects_unexplained", f"{len(rows)} effects of {run or 'nobody'}, which is no run")
    return faults


def run_of(call_id: str) -> str:
    """``<run>-<step>-<index>``."""
    return call_id.rsplit("-", 2)[0] if call_id.count("-") >= 2 else ""


def _endings(record: Record, faults: Faults) -> None:
    ends = record.events(RunEnded)
    if len(ends) != 1:
        faults.add("terminal", f"{record.run_id} has {len(ends)} terminal records")
    elif not isinstance(record.entries[-1].entry.events[-1], RunEnded):
        faults.add("terminal", f"{record.run_id} goes on behind its end")


def _owners(record: Record, faults: Faults) -> None:
    """Nothing of an owner behind the lease of the next one; every step answered once."""
    term = 0
    for one in record.entries:
        leases = [event for event in one.entry.events if isinstance(event, LeaseTaken)]
        term = max([term, *(lease.term for lease in leases)])
        if one.entry.term != term:
            faults.add("fencing", f"{record.run_id}: term {one.entry.term} wrote in term {term}")
    answers = Counter(event.step for _, event in record.events(ModelAnswered) if not getattr(event, "summary", False))
    for step, count in answers.items():
        if count > 1:
            faults.add("fencing", f"{record.run_id}: step {step} is answered {count} times")
    for call_id, count in Counter(event.call_id for _, event in record.events(ToolAnswered)).items():
        if count > 1:
            faults.add("fencing", f"{record.run_id}: call {call_id} is answered {count} times")


def _model(record: Record, rows: list[dict[str, Any]], faults: Faults) -> None:
    intents = [(time, event.step) for time, event in record.events(ModelAsked)]
    answered = {event.step: time for time, event in record.events(ModelAnswered)}
    for row in rows:
        if row["what"] != "asked":
            continue
        step, time = row["step"], row["time"]
        if step in answered and time > answered[step] + CLOCK_SECONDS:
            late = time - answered[step]
            faults.add("calls_repaid", f"{record.run_id}: step {step} was asked {late:.3f} s after its recorded answer")
        if not any(of == step and at <= time + CLOCK_SECONDS for at, of in intents):
            faults.add("intent", f"{record.run_id}: the model was asked for step {step} without recorded intent")


def _effects(record: Record, rows: list[dict[str, Any]], faults: Faults) -> None:
    intents = {event.call_id: time for time, event in record.events(ToolAsked)}
    reported = {event.call_id for _, event in record.events(ToolAnswered) if event.possibly_repeated}
    happened = Counter((row["key"], row["keyed"]) for row in rows if row["happened"])
    words = Counter((row["tool"], row["text"]) for row in rows if row["happened"] and row["keyed"])
    for (tool, text), count in words.items():
        if count > 1:
            faults.add("effects_repeated", f"{record.run_id}: {tool} {text!r} happened {count} times")
    for (key, keyed), count in happened.items():
        if not keyed and count > 1 and key not in reported:
            faults.add("effects_unreported", f"{record.run_id}: {key} happened {count} times, and nobody says so")
    for row in rows:
        if intents.get(row["key"], float("inf")) > row["time"] + CLOCK_SECONDS:
            faults.add("intent", f"{record.run_id}: {row['key']} took effect without recorded intent")


def takeover_seconds(records: Iterable[Record], deaths: Iterable[tuple[float, str]]) -> list[float]:
    """From an owner's death to the next owner's lease, for every run that it had then."""
    found = []
    for record in records:
        leases = [(time, event.owner) for time, event in record.events(LeaseTaken)]
        end = record.entries[-1].time if record.entries else 0.0
        for died, owner in deaths:
            before = [who for time, who in leases if time <= died]
            after = [time for time, _ in leases if time > died]
            if before and before[-1] == owner and died < end and after:
                found.append(after[0] - died)
    return found


def percentile(values: list[float], share: float) -> float:
    """The smallest value that so many are not above; 0.0 of none."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
