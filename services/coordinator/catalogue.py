"""The tools that a run may use: declarations as the model sees them, and the check of its calls.

Input: what tools processes list, and a run's spec. Output: OpenAI tool JSON, and what is wrong with a call in words.
Pure, apart from ``list_tools``. It must not know how a tool works.
"""

import msgspec

from schemas import names
from schemas.chat import ToolCall
from schemas.codec import decode, decode_json, encode, encode_json
from schemas.failure import Failure
from schemas.request import Principal
from schemas.runs import RunSpec
from schemas.tools import ToolDeclaration, ToolsListed, ToolsQuery
from shared.bus.interface import Bus
from shared.errors import BadInput, Internal, from_failure
from shared.language.tool_arguments import Check, arguments_check

LIST_SECONDS = 3.0
SEARCH, BUILTIN_SEARCH = "web_search", "$web_search"
"""The second is Kimi's builtin: the same tool, shown to the model in its own form, and only where a run names it."""
PATCH = "$patch"
"""Reserved: makes the patch of a repository's workspace; never shown to a model."""
SHOWN_NAMES = 20
REASON_CHARACTERS = 500

Problem = tuple[str, str]
"""Code and words: ``tool.unknown`` or ``tool.arguments``."""


async def list_tools(bus: Bus, principal: Principal) -> tuple[ToolDeclaration, ...]:
    """What is there now. Raises Unavailable when no tools process answers."""
    reply = await bus.request(names.SUBJECT_TOOLS_LIST, encode(ToolsQuery(principal=principal)), LIST_SECONDS)
    try:
        listed = decode(reply, ToolsListed | Failure)  # type: ignore[arg-type]
    except msgspec.DecodeError as error:
        raise Internal("tools.list", "the tools service answered in words that are not understood") from error
    if isinstance(listed, Failure):
        raise from_failure(listed)
    return listed.tools


def chosen(listed: tuple[ToolDeclaration, ...], spec: RunSpec) -> tuple[ToolDeclaration, ...]:
    """The tools of one run, by name. Raises BadInput(``run.unknown_tool``) for a name that nobody offers."""
    offered = {tool.name: tool for tool in listed}
    if (search := offered.get(SEARCH)) is not None:
        # Moonshot's models call it with arguments of their own service, which the tool gives back as they are.
        offered[BUILTIN_SEARCH] = msgspec.structs.replace(search, name=BUILTIN_SEARCH, parameters=b'{"type":"object"}')
    if spec.tools is None:
        return tuple(offered[name] for name in sorted(offered) if not name.startswith("$"))
    for name in spec.tools:
        if name not in offered or name == PATCH:
            known = ", ".join(sorted(offered)) or "none"
            raise BadInput("run.unknown_tool", f"there is no tool {name[:64]!r}; there are: {known}", param="tools")
    return tuple(offered[name] for name in sorted(set(spec.tools)))


class Catalogue:
    """The tools of one run."""

    def __init__(self, tools: tuple[ToolDeclaration, ...], approvals: tuple[str, ...] = ()) -> None:
        self._tools = {tool.name: tool for tool in tools}
        self._approvals = frozenset(approvals)
        self._checks: dict[str, Check] = {}
        self.json = encode_json([_shown(tool) for tool in tools]) if tools else b""

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._tools)

    def get(self, name: str) -> ToolDeclaration | None:
        return self._tools.get(name)

    def needs_approval(self, name: str) -> bool:
        tool = self._tools.get(name)
        return tool is not None and (tool.needs_approval or name in self._approvals)

    def writes(self, name: str) -> bool:
        """Whether calls of this tool take and leave the workspace: they run one after the other."""
        tool = self._tools.get(name)
        return tool is not None and tool.workspace == "write"

    def expected_seconds(self, called: tuple[str, ...]) -> float:
        """How long the model will probably have to wait for its tools: the slowest of those it called last."""
        tools = [self._tools[name] for name in called if name in self._tools] or list(self._tools.values())
        return max((tool.expected_seconds for tool in tools), default=0.0)

    def problem(self, call: ToolCall) -> Problem | None:
        """Why a call cannot be run, in words that help the model to make a better one."""
        tool = self._tools.get(call.name)
        if tool is None:
            known = ", ".join(list(self._tools)[:SHOWN_NAMES]) or "none"
            return "tool.unknown", f"There is no tool called {call.name[:64]!r}. The tools are: {known}."
        reason = self._check(tool)(call.arguments)
        if reason is None:
            return None
        return "tool.arguments", f"The arguments do not fit the tool {call.name!r}: {reason[:REASON_CHARACTERS]}."

    def _check(self, tool: ToolDeclaration) -> Check:
        if tool.name not in self._checks:
            self._checks[tool.name] = _check_of(tool)
        return self._checks[tool.name]


def _check_of(tool: ToolDeclaration) -> Check:
    """By its schema. One that is none says nothing: the tool itself judges then."""
    where = f"{tool.name}.parameters"
    try:
        return arguments_check(_schema(tool), where)
    except BadInput:
        return arguments_check(None, where)


def _schema(tool: ToolDeclaration) -> dict[str, object] | None:
    """None for what is no JSON object: the others' calls must not suffer for it."""
    try:
        return decode_json(tool.parameters, dict[str, object])
    except (msgspec.DecodeError, RecursionError):
        return None


def _shown(tool: ToolDeclaration) -> dict[str, object]:
    if tool.name == BUILTIN_SEARCH:
        return {"type": "builtin_function", "function": {"name": tool.name}}
    parameters = _schema(tool) or {"type": "object", "properties": {}}
    function = {"name": tool.name, "description": tool.description, "parameters": parameters}
    return {"type": "function", "function": function}
