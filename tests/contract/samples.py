"""One filled struct per way to fill it, made from the types alone, so that no message can be forgotten.

Input: a struct type. Output: samples: every field with its first choice, with its last choice, only the required ones.
"""

from collections.abc import Callable
from typing import Any, Literal

import msgspec
from msgspec import inspect

from schemas.events import CloudEvent, RequestData
from schemas.generate import structs

Fill = Literal["first", "last", "required"]
FILLS: tuple[Fill, ...] = ("first", "last", "required")
JSON_ONLY: tuple[type[msgspec.Struct], ...] = (CloudEvent, RequestData)


def encoded(kind: type[msgspec.Struct]) -> list[bytes]:
    """The samples of a message as they travel today, each once."""
    return list(dict.fromkeys(encoder(kind)(sample(kind, fill)) for fill in FILLS))


def encoder(kind: type[msgspec.Struct]) -> Callable[[Any], bytes]:
    return msgspec.json.encode if kind in JSON_ONLY else msgspec.msgpack.encode


def all_messages() -> dict[str, type[msgspec.Struct]]:
    return {kind.__name__: kind for kind in structs()}


def plain(kind: type[msgspec.Struct], data: bytes) -> Any:
    """What is in the bytes, without the struct."""
    return msgspec.json.decode(data) if kind in JSON_ONLY else msgspec.msgpack.decode(data)


def decoded(kind: type[msgspec.Struct], data: bytes) -> msgspec.Struct:
    return msgspec.json.decode(data, type=kind) if kind in JSON_ONLY else msgspec.msgpack.decode(data, type=kind)


def sample(kind: type[msgspec.Struct], fill: Fill) -> msgspec.Struct:
    fields = msgspec.structs.fields(kind)
    return kind(
        **{f.name: _value(inspect.type_info(f.type), f.name, fill) for f in fields if _wanted(f.required, fill)}
    )


def _wanted(required: bool, fill: Fill) -> bool:
    return required or fill != "required"


def _value(info: inspect.Type, name: str, fill: Fill) -> Any:
    match info:
        case inspect.UnionType(types=types):
            return _value(_choices(types)[-1 if fill == "last" else 0], name, fill)
        case inspect.StructType(cls=cls):
            return sample(cls, fill)
        case inspect.LiteralType(values=values):
            return sorted(values, key=repr)[-1 if fill == "last" else 0]
        case inspect.TupleType(item_types=items):
            return tuple(_value(item, name, fill) for item in items)
        case inspect.VarTupleType(item_type=item):
            return () if fill == "required" else (_value(item, name, fill),) * 2
        case inspect.DictType(value_type=value):
            return {} if fill == "required" else {"key": _value(value, name, fill)}
        case _:
            return _scalar(info, name)


def _choices(types: tuple[inspect.Type, ...]) -> list[inspect.Type]:
    return sorted((one for one in types if not isinstance(one, inspect.NoneType)), key=repr)


def _scalar(info: inspect.Type, name: str) -> Any:
    match info:
        case inspect.BoolType():
            return True
        case inspect.IntType():
            return 2**40 + len(name)
        case inspect.FloatType():
            return len(name) + 0.5
        case inspect.StrType():
            return f"{name} ü"
        case inspect.BytesType():
            return b"\x00\xff" + name.encode()
        case inspect.RawType():
            return msgspec.Raw(msgspec.msgpack.encode({"type": "sample"}))
        case _:
            raise TypeError(f"no sample for {info}")
