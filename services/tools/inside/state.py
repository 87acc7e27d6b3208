"""The variables of a session as bytes, and back.

Input: the namespace of ``__main__``. Output: one pickle, or which names no pickle can hold. Functions and classes that
were written in the session go along as values and share one namespace again afterwards, as they did before. The usual
random number generators go along too, so that what is drawn next is the same on every machine.
"""

import io
import pickle
import random
import sys
from typing import Any

import cloudpickle

NAMESPACE = "namespace"
GENERATORS = "__generators__"
UNKEPT = frozenset(
    ("__builtins__", "__name__", "__doc__", "__package__", "__loader__", "__spec__", "__annotations__", GENERATORS)
)


class Pickler(cloudpickle.Pickler):
    """``namespace`` itself is not written, only named."""

    def __init__(self, file: io.BytesIO, namespace: dict[str, Any]) -> None:
        super().__init__(file, protocol=5)
        self._namespace = namespace
        self._stand_in = {"__name__": "__main__"}
        self.globals_ref[id(namespace)] = self._stand_in

    def persistent_id(self, obj: Any) -> str | None:
        return NAMESPACE if obj is self._stand_in or obj is self._namespace else None

    def _dynamic_function_reduce(self, func: Any) -> Any:
        """What a function refers to in the namespace is there anyway."""
        reduced = super()._dynamic_function_reduce(func)
        if func.__globals__ is self._namespace:
            reduced[2][1]["__globals__"] = {}
        return reduced


class Unpickler(pickle.Unpickler):
    def __init__(self, data: bytes, namespace: dict[str, Any]) -> None:
        super().__init__(io.BytesIO(data))
        self._namespace = namespace

    def persistent_load(self, pid: Any) -> Any:
        return self._namespace


def kept(namespace: dict[str, Any], max_bytes: int) -> tuple[bytes, dict[str, str]]:
    """(pickle, names that were taken out of the namespace and why): what a later call finds is the same whether the
    interpreter is still there or not."""
    names = [name for name in namespace if name not in UNKEPT]
    whole = _attempt(_all(names, namespace), namespace)
    if isinstance(whole, bytes) and len(whole) <= max_bytes:
        return whole, {}
    each = {name: _attempt(namespace[name], namespace) for name in names}
    dropped = {name: done for name, done in each.items() if isinstance(done, str)}
    sizes = {name: len(done) for name, done in each.items() if isinstance(done, bytes)}
    while True:
        for name in dropped:
            namespace.pop(name, None)
        rest = _attempt(_all([name for name in sizes if name not in dropped], namespace), namespace)
        if isinstance(rest, bytes) and len(rest) <= max_bytes:
            return rest, dropped
        largest = max((name for name in sizes if name not in dropped), key=lambda name: sizes[name])
        reason = f"the variables together are larger than {max_bytes // 1024**2} MiB"
        dropped[largest] = reason if isinstance(rest, bytes) else rest


def restore(data: bytes, namespace: dict[str, Any]) -> None:
    values = Unpickler(data, namespace).load()
    for name, generator in values.pop(GENERATORS).items():
        if name == "random":
            random.setstate(generator)
        else:
            __import__("numpy").random.set_state(generator)
    namespace.update(values)


def _all(names: list[str], namespace: dict[str, Any]) -> dict[str, Any]:
    generators = {"random": random.getstate()}
    numpy = sys.modules.get("numpy.random")
    if numpy is not None:
        generators["numpy"] = numpy.get_state()
    return {**{name: namespace[name] for name in names}, GENERATORS: generators}


def _attempt(value: Any, namespace: dict[str, Any]) -> bytes | str:
    """The pickle, or why there is none."""
    file = io.BytesIO()
    try:
        Pickler(file, namespace).dump(value)
        return file.getvalue()
    except Exception as error:  # noqa: BLE001 - whatever a value's own methods raise
        return f"{type(error).__name__}: {error}"[:200]
