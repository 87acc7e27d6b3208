"""What a list of runs is asked for, read from the query of a URL.

Input: names and values from outside. Output: ``RunsQuery``, or BadInput naming the parameter. Pure.
"""

from collections.abc import Mapping
from typing import get_args

import msgspec

from schemas.request import Principal
from schemas.runs import RunsQuery, RunStatus
from services.gateway.json_body import refused
from services.gateway.run_id import checked_run_id
from shared.errors import NotFound

DEFAULT_LIMIT, MAX_LIMIT = 20, 100


def runs_query(principal: Principal, given: Mapping[str, str]) -> RunsQuery:
    """Raises BadInput."""
    return RunsQuery(
        principal=principal,
        limit=_limit(given.get("limit", str(DEFAULT_LIMIT))),
        before=_after(given.get("after", "")),
        status=_status(given.get("status")),
    )


def _limit(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 9 and 1 <= int(text) <= MAX_LIMIT):
        raise refused("limit", f"must be a number from 1 to {MAX_LIMIT}")
    return int(text)


def _after(text: str) -> str:
    try:
        return checked_run_id(text) if text else ""
    except NotFound as error:
        raise refused("after", "must be the id of a run") from error


def _status(text: str | None) -> RunStatus | None:
    try:
        return msgspec.convert(text, RunStatus | None)
    except msgspec.ValidationError as error:
        raise refused("status", f"must be one of {', '.join(get_args(RunStatus))}") from error
