"""The prefix tree: pages that hold the latents of a known prefix, found by the names of its blocks.

Input: names of full blocks, and their pages. Output: the longest known prefix. One node is one full page, never written
again; a path of nodes is a prefix. Whoever uses a node uses all before it, so idle nodes are given up leaf by leaf.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from services.inference.eviction import EvictionOrder


@dataclass(eq=False, slots=True)
class Node:
    name: bytes
    page: int
    parent: "Node | None"
    children: "dict[bytes, Node]" = field(default_factory=dict)
    users: int = 0
    """Running sequences whose tables hold this page."""
    expected: float = 0.0
    """When it will be asked for again (``eviction``)."""
    ticket: int = 0


class PrefixTree:
    def __init__(self) -> None:
        self._root = Node(b"", -1, None)
        self._order = EvictionOrder()
        self.idle = 0
        """Nodes without users: as many pages can be had by ``evict``."""
        self.size = 0

    def match(self, path: Sequence[Node], name: bytes) -> Node | None:
        """The node behind ``path`` with this name."""
        return (path[-1] if path else self._root).children.get(name)

    def insert(self, path: Sequence[Node], name: bytes, page: int) -> Node:
        """A new node behind ``path``, with one user. Its name must not be there yet."""
        parent = path[-1] if path else self._root
        node = Node(name, page, parent, users=1)
        parent.children[name] = node
        self._order.discard(parent)
        self.size += 1
        return node

    def pin(self, node: Node) -> None:
        """One more user. Nodes before it are pinned first."""
        node.users += 1
        if node.users == 1:
            self.idle -= 1
            self._order.discard(node)

    def unpin(self, node: Node, now: float, expected: float) -> None:
        """One user less, who will come back at ``expected``. Nodes behind it are unpinned first. The soonest of all
        announced times counts."""
        node.users -= 1
        node.expected = min(node.expected, expected) if node.expected > now else expected
        if not node.users:
            self.idle += 1
            if not node.children:
                self._order.add(node)

    def evict(self, now: float) -> int:
        """Give up one idle node; its page. ``idle`` must not be 0."""
        node = self._order.farthest(now)
        self._order.discard(node)
        parent = node.parent
        assert parent is not None
        del parent.children[node.name]
        self.idle -= 1
        self.size -= 1
        if parent is not self._root and not parent.users and not parent.children:
            self._order.add(parent)
        return node.page

    def first_names(self, most: int) -> list[bytes]:
        return list(islice(self._root.children, most))

    def nodes(self) -> Iterator[Node]:
        pending = list(self._root.children.values())
        while pending:
            node = pending.pop()
            pending += node.children.values()
            yield node

    def check(self, users: dict[Node, int]) -> None:
        """AssertionError unless the counts are those of ``users``."""
        nodes = list(self.nodes())
        leaves = [node for node in nodes if not node.users and not node.children]
        assert {node: node.users for node in nodes if node.users} == users, "reference counts differ from users"
        assert self.size == len(nodes), "size is wrong"
        assert self.idle == sum(not node.users for node in nodes), "idle count is wrong"
        assert len(self._order) == len(leaves), "idle leaves cannot be evicted"
        assert all(leaf.ticket for leaf in leaves), "an idle leaf has no place in the order of eviction"
        assert all(node.users <= node.parent.users for node in nodes if node.parent is not self._root and node.parent)
