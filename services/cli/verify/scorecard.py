"""The scorecard: what became of each check, the score, the exit code, and all of it as JSON or lines.

Input: outcomes. Output: values and texts. Pure.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

Status = Literal["passed", "failed", "not_offered"]


@dataclass(frozen=True)
class Outcome:
    name: str
    promise: str
    severity: str
    status: Status
    reason: str = ""
    curl: str = ""
    """Commands that repeat what failed, one a line."""
    measured: Any = None


@dataclass(frozen=True)
class Scorecard:
    url: str
    model: str
    outcomes: Sequence[Outcome]

    def count(self, status: Status) -> int:
        return sum(outcome.status == status for outcome in self.outcomes)

    @property
    def failed(self) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.status == "failed"]

    @property
    def exit_code(self) -> int:
        """0 for full marks, 1 with any defect. What is openly not offered costs nothing."""
        return 1 if self.failed else 0

    def to_json(self) -> dict[str, Any]:
        names = ("name", "status", "reason", "curl", "measured")
        checks = [{name: getattr(outcome, name) for name in names} for outcome in self.outcomes]
        score = {status: self.count(status) for status in ("passed", "failed", "not_offered")}
        return {"url": self.url, "model": self.model, "score": score, "checks": checks}

    def summary(self) -> str:
        counts = (
            f"{self.count('passed')} passed, {self.count('failed')} failed, {self.count('not_offered')} not offered"
        )
        return f"{self.model} at {self.url}: {counts}"


def figures(measured: Any) -> str:
    """What was measured, on one line: ``8: equal 8, unrepeatable 0; …``."""
    if not isinstance(measured, dict):
        return ""
    nested = all(isinstance(value, dict) for value in measured.values())
    if nested:
        return "; ".join(f"{level}: {figures(value)}" for level, value in measured.items())
    return ", ".join(f"{name} {value}" for name, value in measured.items())
