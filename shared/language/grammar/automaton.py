"""A grammar as an automaton over bytes, built as far as it is used: states are numbers, steps are remembered.

A state is a set of stacks of what is still to come. From every state but ``DEAD`` the grammar can be satisfied, and
``closing`` is the shortest text that does it, the smallest of those. Threads may share it.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from shared.errors import BadInput
from shared.language.grammar.nodes import (
    Alt,
    Chars,
    Divisible,
    Grammar,
    Lexeme,
    Node,
    Rep,
    Rule,
    Seq,
    Text,
)
from shared.language.grammar.shortest import TooLarge, of_all_behind, of_one
from shared.language.grammar.utf8 import byte_ranges

DEAD = -1
END = 0
"""The empty stack."""
MAX_STACKS = 4096
"""In one state."""
MAX_SEARCH = 50_000
"""States looked at for the shortest text that two pieces both accept."""
MAX_SEARCH_AT_ONCE = 20_000
"""States whose shortest texts are found together: up to half a second of compiling."""
DIGITS = sum(1 << byte for byte in b"0123456789")
MINUS = 1 << ord("-")


class Item(NamedTuple):
    """One thing that may come: ``kind`` and what it needs; equal items have one number."""

    kind: str
    value: tuple[int, ...] | bytes | int


class Automaton:
    def __init__(self, grammar: Grammar) -> None:
        """Raises BadInput when nothing satisfies the grammar."""
        self._lock = threading.RLock()
        self._items: list[Item] = []
        self._numbers: dict[Item, int] = {}
        self._converted: dict[Node, int] = {}
        self._stacks: list[tuple[int, int]] = [(-1, -1)]
        self._stack_numbers: dict[tuple[int, int], int] = {}
        self._depths = [0]
        self._states: list[tuple[tuple[int, ...], bool]] = []
        self._state_numbers: dict[tuple[tuple[int, ...], bool], int] = {}
        self._steps: dict[int, int] = {}
        self._shortest: dict[int, bytes | None] = {}
        self._found: dict[int, bytes | None] = {}
        self._stack_shortest: dict[int, bytes] = {END: b""}
        self._rule_names = {name: index for index, name in enumerate(grammar.rules)}
        self._rules = [self._number(body) for body in grammar.rules.values()]
        start = self._number(grammar.start)
        self._rule_shortest: list[bytes | None] = [None] * len(self._rules)
        self._settle()
        self.start = self._state([self._push(start, END)])
        if self.start == DEAD:
            raise BadInput("chat.unsatisfiable_schema", "no value satisfies the schema")

    @property
    def size(self) -> int:
        """What it has come to hold, in entries."""
        return len(self._steps) + len(self._states) + len(self._stacks)

    def accepts(self, state: int) -> bool:
        return self._states[state][1]

    def productive(self, rule: str) -> bool:
        """Whether any text satisfies the rule."""
        return self._rule_shortest[self._rule_names[rule]] is not None

    def read(self, state: int, data: bytes) -> int:
        """The state behind ``data``; DEAD where it cannot stand."""
        steps = self._steps
        for byte in data:
            known = steps.get(state << 8 | byte)
            state = self._step(state, byte) if known is None else known
            if state == DEAD:
                return DEAD
        return state

    def closing(self, state: int) -> bytes:
        """The shortest text from here to a satisfied grammar; of equally short ones the least."""
        stacks, accepts = self._states[state]
        if accepts:
            return b""
        with self._lock:
            return min((self._stack_closing(stack) for stack in stacks), key=lambda text: (len(text), text))

    def depth(self, state: int) -> int:
        """How much is pending on the shallowest stack."""
        return min((self._depths[stack] for stack in self._states[state][0]), default=0)

    # Items

    def _item(self, kind: str, value: tuple[int, ...] | bytes | int) -> int:
        item = Item(kind, value)
        number = self._numbers.get(item)
        if number is None:
            number = self._numbers[item] = len(self._items)
            self._items.append(item)
        return number

    def _number(self, node: Node) -> int:
        if node not in self._converted:
            self._converted[node] = self._convert(node)
        return self._converted[node]

    def _convert(self, node: Node) -> int:
        if isinstance(node, Text):
            return self._item("text", node.data.encode())
        if isinstance(node, Chars):
            return self._characters(node)
        if isinstance(node, Seq):
            return self._item("seq", tuple(map(self._number, node.parts)))
        if isinstance(node, Alt):
            return self._item("alt", tuple(map(self._number, node.options)))
        if isinstance(node, Rep):
            return self._item("rep", (self._number(node.body), node.least, -1 if node.most is None else node.most))
        if isinstance(node, Lexeme):
            return self._number(node.body)
        if isinstance(node, Rule):
            return self._item("rule", self._rule_names[node.name])
        if isinstance(node, Divisible):
            return self._item("mod", (node.by, 0))
        left, right = (self._state([self._push(self._number(side), END)]) for side in (node.left, node.right))
        return self._item("both", (left, right)) if DEAD not in (left, right) else self._item("alt", ())

    def _characters(self, node: Chars) -> int:
        ways = []
        single = 0
        for ranges in byte_ranges(node.ranges):
            masks = [(1 << last + 1) - (1 << first) for first, last in ranges]
            if len(masks) == 1:
                single |= masks[0]
            else:
                ways.append(self._item("seq", tuple(self._item("set", mask) for mask in masks)))
        return self._item("alt", ((self._item("set", single),) if single else ()) + tuple(ways))

    # Stacks and states

    def _push(self, item: int, stack: int) -> int:
        pair = (item, stack)
        number = self._stack_numbers.get(pair)
        if number is None:
            number = self._stack_numbers[pair] = len(self._stacks)
            self._stacks.append(pair)
            self._depths.append(self._depths[stack] + 1)
        return number

    def _state(self, stacks: Iterable[int]) -> int:
        """The state of these stacks, unfolded until each begins with bytes. Hopeless ones are left out."""
        consuming: set[int] = set()
        seen: set[int] = set()
        accepts = False
        todo = list(stacks)
        while todo:
            stack = todo.pop()
            if stack in seen:
                continue
            seen.add(stack)
            if stack == END:
                accepts = True
                continue
            item, rest = self._stacks[stack]
            if self._item_shortest(item) is None:
                continue
            kind = self._items[item].kind
            if kind in ("text", "set", "both", "mod"):
                consuming.add(stack)
                if self._may_be_empty(item):
                    todo.append(rest)
            else:
                todo.extend(self._unfolded(item, rest))
        if len(seen) > MAX_STACKS:
            raise BadInput("chat.unsupported_schema", "the schema is too ambiguous")
        if not consuming and not accepts:
            return DEAD
        key = (tuple(sorted(consuming)), accepts)
        number = self._state_numbers.get(key)
        if number is None:
            number = self._state_numbers[key] = len(self._states)
            self._states.append(key)
        return number

    def _unfolded(self, item: int, rest: int) -> Iterator[int]:
        kind, value = self._items[item]
        if kind == "rule":
            assert isinstance(value, int)
            yield self._push(self._rules[value], rest)
            return
        assert isinstance(value, tuple)
        if kind == "seq":
            for part in reversed(value):
                rest = self._push(part, rest)
            yield rest
        elif kind == "alt":
            for option in value:
                yield self._push(option, rest)
        else:
            body, least, most = value
            if least == 0:
                yield rest
            if most:
                left = self._item("rep", (body, max(least - 1, 0), most - 1 if most > 0 else -1))
                yield self._push(body, self._push(left, rest) if most != 1 else rest)

    def _may_be_empty(self, item: int) -> bool:
        kind, value = self._items[item]
        if kind == "both":
            assert isinstance(value, tuple)
            return all(self.accepts(side) for side in value)
        if kind == "mod":
            assert isinstance(value, tuple)
            return value[1] == 0
        return value == b""

    def _step(self, state: int, byte: int) -> int:
        with self._lock:
            following = [stack for top in self._states[state][0] if (stack := self._behind(top, byte)) >= 0]
            number = self._state(following) if following else DEAD
            self._steps[state << 8 | byte] = number
            return number

    def _behind(self, stack: int, byte: int) -> int:
        """The stack after its first item has taken ``byte``, or -1."""
        item, rest = self._stacks[stack]
        kind, value = self._items[item]
        if kind == "text":
            assert isinstance(value, bytes)
            if not value or value[0] != byte:
                return -1
            return self._push(self._item("text", value[1:]), rest) if len(value) > 1 else rest
        if kind == "set":
            assert isinstance(value, int)
            return rest if value >> byte & 1 else -1
        assert isinstance(value, tuple)
        if kind == "both":
            sides = tuple(self.read(side, bytes((byte,))) for side in value)
            return -1 if DEAD in sides else self._push(self._item("both", sides), rest)
        if not (DIGITS | MINUS) >> byte & 1:
            return -1
        divisor, remainder = value
        remainder = remainder if byte == ord("-") else (remainder * 10 + byte - ord("0")) % divisor
        return self._push(self._item("mod", (divisor, remainder)), rest)

    # Shortest texts

    def _settle(self) -> None:
        """Shortest texts of all rules: from nothing known, until nothing gets shorter (a least fixed point)."""
        changed = True
        while changed:
            changed = False
            for index in range(len(self._rules) - 1, -1, -1):
                found = self._compute(self._rules[index], self._settled)
                if found != self._rule_shortest[index]:
                    self._rule_shortest[index] = found
                    changed = True

    def _settled(self, item: int) -> bytes | None:
        return self._compute(item, self._settled)

    def _item_shortest(self, item: int) -> bytes | None:
        if item not in self._shortest:
            self._shortest[item] = self._compute(item, self._item_shortest)
        return self._shortest[item]

    def _compute(self, item: int, shortest: Callable[[int], bytes | None]) -> bytes | None:
        kind, value = self._items[item]
        if kind == "text":
            assert isinstance(value, bytes)
            return value
        if isinstance(value, int):
            return bytes(((value & -value).bit_length() - 1,)) if kind == "set" else self._rule_shortest[value]
        assert isinstance(value, tuple)
        if kind == "seq":
            parts = [shortest(part) for part in value]
            return None if None in parts else b"".join(part for part in parts if part)
        if kind == "alt":
            texts = [text for option in value if (text := shortest(option)) is not None]
            return min(texts, key=lambda text: (len(text), text), default=None)
        if kind == "rep":
            body = shortest(value[0]) if value[1] else b""
            return None if body is None else body * value[1]
        return self._searched(item)

    def _stack_closing(self, stack: int) -> bytes:
        """Of a stack of a state: a text exists."""
        pending = []
        while stack not in self._stack_shortest:
            pending.append(stack)
            stack = self._stacks[stack][1]
        text = self._stack_shortest[stack]
        for one in reversed(pending):
            text = (self._item_shortest(self._stacks[one][0]) or b"") + text
            self._stack_shortest[one] = text
        return text

    def _searched(self, item: int) -> bytes | None:
        """Over what two pieces (or a divisor) allow together: at once for all that the piece can become, so that
        no token has to wait for a search; where that is too much, each for itself."""
        if item not in self._found:
            try:
                self._found |= of_all_behind(item, self._followers, self._may_be_empty, MAX_SEARCH_AT_ONCE)
            except TooLarge:
                self._found[item] = self._searched_alone(item)
        return self._found[item]

    def _searched_alone(self, item: int) -> bytes | None:
        try:
            return of_one(item, self._followers, self._may_be_empty, MAX_SEARCH)
        except TooLarge as error:
            message = "a pattern or number of the schema is too complex"
            raise BadInput("chat.unsupported_schema", message) from error

    def _followers(self, item: int) -> Iterator[tuple[int, int]]:
        """Bytes that lead on, and what the item is behind them."""
        stack = self._push(item, END)
        for byte in self._useful_bytes(item):
            behind = self._behind(stack, byte)
            if behind >= 0:
                yield byte, self._stacks[behind][0]

    def _useful_bytes(self, item: int) -> Iterator[int]:
        """Of bytes that an item cannot tell apart, the least."""
        kind, value = self._items[item]
        if kind == "mod":
            yield from b"-0123456789"
            return
        assert isinstance(value, tuple)
        masks = [mask for side in value for stack in self._states[side][0] for mask in self._first_masks(stack)]
        left = 0
        for mask in masks:
            left |= mask
        while left:
            byte = (left & -left).bit_length() - 1
            alike = left
            for mask in masks:
                alike &= mask if mask >> byte & 1 else ~mask
            left &= ~alike
            yield byte

    def _first_masks(self, stack: int) -> Iterator[int]:
        kind, value = self._items[self._stacks[stack][0]]
        if kind == "text":
            assert isinstance(value, bytes)
            yield 1 << value[0] if value else 0
        elif kind == "set":
            assert isinstance(value, int)
            yield value
        elif kind == "mod":
            yield from (1 << byte for byte in b"-0123456789")
        else:
            assert isinstance(value, tuple)
            for side in value:
                for inner in self._states[side][0]:
                    yield from self._first_masks(inner)
