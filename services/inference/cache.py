"""The page cache: which of the shard's pages is free, owned by one sequence, or part of the prefix tree.

Input: sequences that open, grow, advance and close. Output: their page tables. Every page is in exactly one of the
three states, and no more pages are given out than there are. A page enters the tree once it is full and computed, and
is never written again; a last, partly filled page belongs to one sequence, so that nothing must be copied: a sequence
that shares a prefix recomputes less than a page of it. It must not know tensors.
"""

from collections import Counter
from collections.abc import Iterable

from services.inference.prefix import Node, PrefixTree
from services.inference.sequence import Sequence


class PageCache:
    """``heed_pauses`` false: announced pauses are ignored, and eviction is least recently used."""

    def __init__(self, pages: int, page_tokens: int, *, heed_pauses: bool = True) -> None:
        self.pages, self.page_tokens, self._heed = pages, page_tokens, heed_pauses
        self.clear()

    def clear(self) -> None:
        """Forget everything: the shard that held the pages is gone. Open sequences must be emptied by the caller."""
        self._free = list(range(self.pages - 1, -1, -1))
        self._tree = PrefixTree()

    @property
    def free(self) -> int:
        return len(self._free)

    @property
    def available(self) -> int:
        """Pages that can be had without taking them from a running sequence."""
        return len(self._free) + self._tree.idle

    @property
    def cached(self) -> int:
        """Pages in the prefix tree."""
        return self._tree.size

    def count(self, length: int) -> int:
        """Pages of so many positions."""
        return -(-length // self.page_tokens)

    def needed(self, sequence: Sequence) -> int:
        """Pages out of ``available`` that a waiting sequence takes when it opens."""
        path = self._known(sequence)
        return self.count(len(sequence.tokens)) - sum(node.users > 0 for node in path)

    def gain(self, running: Sequence, waiting: Sequence) -> int:
        """When ``running`` closes, at least so many pages become available beyond those that ``waiting`` shares."""
        shared = set(self._known(waiting))
        kept = sum(node.users > 1 or node in shared for node in running.nodes)
        return len(running.table) - kept

    def open(self, sequence: Sequence) -> int:
        """Give an empty sequence the longest known prefix; how many positions that is."""
        for node in self._known(sequence):
            self._tree.pin(node)
            sequence.nodes.append(node)
            sequence.table.append(node.page)
        sequence.computed = len(sequence.table) * self.page_tokens
        return sequence.computed

    def skip(self, sequence: Sequence) -> int:
        """Take over blocks that another sequence has computed since; how many positions that is."""
        first = sequence.computed
        while self._at_border(sequence):
            node = self._tree.match(sequence.nodes, sequence.block(len(sequence.nodes), self.page_tokens))
            if node is None:
                break
            self._adopt(sequence, node)
            sequence.computed += self.page_tokens
        return sequence.computed - first

    def grow(self, sequence: Sequence, length: int, now: float) -> bool:
        """Pages for ``length`` positions. False, and nothing is changed, when there are not enough."""
        missing = self.count(length) - len(sequence.table)
        if missing > self.available:
            return False
        for _ in range(missing):
            page = self._free.pop() if self._free else self._tree.evict(now)
            sequence.table.append(page)
        return True

    def publish(self, sequence: Sequence) -> None:
        """Full, computed pages become part of the tree. Where another was first, its page is taken over."""
        for index in range(len(sequence.nodes), sequence.computed // self.page_tokens):
            name = sequence.block(index, self.page_tokens)
            node = self._tree.match(sequence.nodes, name)
            if node is None:
                sequence.nodes.append(self._tree.insert(sequence.nodes, name, sequence.table[index]))
            else:
                self._adopt(sequence, node)

    def close(self, sequence: Sequence, now: float, pause_seconds: float = 0.0) -> None:
        """Give back what a sequence has. What is computed stays known until its pages are needed."""
        expected = now + pause_seconds if self._heed else now
        self._free += sequence.table[len(sequence.nodes) :]
        for node in reversed(sequence.nodes):
            self._tree.unpin(node, now, expected)
        empty(sequence)

    def first_blocks(self, most: int) -> list[bytes]:
        """Names of the first blocks of known prefixes, at most so many: what this cache is good for, in short."""
        return self._tree.first_names(most)

    def check_invariants(self, open_sequences: Iterable[Sequence]) -> None:
        """AssertionError unless each page is exactly one of free, owned and cached, and counts equal users."""
        users: Counter[Node] = Counter()
        held = list(self._free)
        for sequence in open_sequences:
            users.update(sequence.nodes)
            held += sequence.table[len(sequence.nodes) :]
            pages = [node.page for node in sequence.nodes]
            assert sequence.table[: len(pages)] == pages, "a table does not follow the tree"
            assert len(sequence.table) >= self.count(sequence.computed), "computed positions without a page"
        held += [node.page for node in self._tree.nodes()]
        assert sorted(held) == list(range(self.pages)), "a page is lost, or in two states"
        self._tree.check(dict(users))

    def _known(self, sequence: Sequence) -> list[Node]:
        """The longest known prefix; at least one position is left to compute."""
        path: list[Node] = []
        for index in range((len(sequence.tokens) - 1) // self.page_tokens):
            node = self._tree.match(path, sequence.block(index, self.page_tokens))
            if node is None:
                break
            path.append(node)
        return path

    def _at_border(self, sequence: Sequence) -> bool:
        border = sequence.computed == len(sequence.nodes) * self.page_tokens
        return border and sequence.computed + self.page_tokens < len(sequence.tokens)

    def _adopt(self, sequence: Sequence, node: Node) -> None:
        """The next page of the sequence is the tree's; its own is freed."""
        index = len(sequence.nodes)
        self._free.append(sequence.table[index])
        sequence.table[index] = node.page
        sequence.changed(index)
        self._tree.pin(node)
        sequence.nodes.append(node)


def empty(sequence: Sequence) -> None:
    """Nothing of the sequence is in pages."""
    sequence.table, sequence.nodes, sequence.computed = [], [], 0
    sequence.changed_from, sequence.opened = 0, False
