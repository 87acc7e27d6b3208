"""Grammars of requests, compiled off the event loop against the checkpoint's vocabulary, and kept.

Input: ``GenerateRequest.grammar``. Output: the mask of one answer. The vocabulary is loaded with the first request that
needs it; text is nothing that the engine looks at otherwise.
"""

import asyncio
import logging
import threading
from pathlib import Path

from shared.language.grammar.compiler import CompileFigures, GrammarCompiler
from shared.language.grammar.mask import AnswerMask
from shared.language.grammar.source import decode_grammar
from shared.language.grammar.tokens import TokenTable
from shared.language.vocabulary import VOCABULARY_FILE, load_vocabulary

log = logging.getLogger("inference")


class Grammars:
    """``vocabulary_size``: how many logits the model has."""

    def __init__(self, checkpoint_dir: Path, vocabulary_size: int) -> None:
        self._directory, self._size = checkpoint_dir, vocabulary_size
        self._compiler: GrammarCompiler | None = None
        self._loading = threading.Lock()

    @property
    def figures(self) -> CompileFigures:
        """Compiled schemas, hits and seconds so far."""
        return CompileFigures() if self._compiler is None else self._compiler.figures

    async def open(self, grammar: bytes, max_tokens: int) -> AnswerMask:
        """The mask of an answer of up to ``max_tokens``. Raises BadInput."""
        return await asyncio.to_thread(self._opened, grammar, max_tokens)

    def _opened(self, grammar: bytes, max_tokens: int) -> AnswerMask:
        compiler = self._loaded()
        before = compiler.figures.compiled
        answer = compiler.compile(decode_grammar(grammar))
        if compiler.figures.compiled > before:
            figures = compiler.figures
            log.info("grammars: %d compiled in %.3f s, %d hits", figures.compiled, figures.seconds, figures.hits)
        return AnswerMask(answer, max_tokens)

    def _loaded(self) -> GrammarCompiler:
        with self._loading:
            if self._compiler is None:
                table = TokenTable(load_vocabulary(self._directory), self._size)
                table.matcher_source()
                self._compiler = GrammarCompiler(table)
            return self._compiler


def grammars_of(checkpoint_dir: Path, vocabulary_size: int) -> Grammars | None:
    """None for a checkpoint without a vocabulary."""
    return Grammars(checkpoint_dir, vocabulary_size) if (checkpoint_dir / VOCABULARY_FILE).exists() else None
