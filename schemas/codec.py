"""The only encoders and decoders. Messages are msgpack; what people and other systems read is JSON."""

from functools import cache
from typing import Any, TypeVar

import msgspec

_encoder = msgspec.msgpack.Encoder()
_json_encoder = msgspec.json.Encoder()

T = TypeVar("T")


@cache
def _decoder(kind: Any) -> msgspec.msgpack.Decoder[Any]:
    return msgspec.msgpack.Decoder(kind)


@cache
def _json_decoder(kind: Any, strict: bool) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind, strict=strict)


def encode(message: Any) -> bytes:
    """msgpack bytes of a struct."""
    return _encoder.encode(message)


def raw(message: Any) -> msgspec.Raw:
    """A message as an already encoded field of another one."""
    return msgspec.Raw(_encoder.encode(message))


def decode(data: bytes | msgspec.Raw, kind: type[T]) -> T:
    """Bytes as ``kind`` (a struct or a union of tagged structs). Raises ``msgspec.ValidationError`` or DecodeError."""
    return _decoder(kind).decode(data)


def encode_json(value: Any) -> bytes:
    return _json_encoder.encode(value)


def decode_json(data: bytes | str, kind: type[T], *, strict: bool = True) -> T:
    return _json_decoder(kind, strict).decode(data)
