"""The keys file: API keys hashed at rest, their tenants and quotas, one JSON object or one plain key a line.

Pure: bytes in, ``KeysFile`` out, and back. The gateway reads it, the command writes it. It must not know files or HTTP.

Why one round of SHA-256: a key made here is 256 random bits, so there is nothing that could be tried one by one, which
is all that a slow hash or a salt would make slower; every request, also one with a wrong key, costs a single hash.
A plain line is whatever somebody chose, and is therefore only taken with a warning.
"""

import hashlib
import secrets
import string
from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from schemas import codec
from schemas.request import Principal
from shared.errors import BadInput

KEYS_FILE_MAX_BYTES = 16 * 1024 * 1024
KEY_PREFIX = "mt-"
"""Tells a key from other texts, to people and to scanners of leaked secrets."""
KEY_CHARACTERS = 43
"""Of 62 letters and digits: 256 bits."""
_LETTERS = string.ascii_letters + string.digits
_ID_LETTERS = string.ascii_lowercase + string.digits
HASH = "sha256:"

Limit = Annotated[int, Meta(ge=0)]
Name = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$(?!\n)")]
"""Lower case and without dots: it becomes a part of stored names, on any file system."""
KeyHash = Annotated[str, Meta(pattern=r"^sha256:[0-9a-f]{64}$(?!\n)")]
Moment = Annotated[datetime, Meta(tz=True)]

LOCAL_TENANT = Principal().tenant
"""Who is served without a keys file, and sees everything: no key can be of this tenant."""


class Quota(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """None: no limit of this kind."""

    requests_per_minute: Limit | None = None
    tokens_per_minute: Limit | None = None
    """Prompt and completion; at admission the completion counts with the most that it may become."""
    tokens_per_day: Limit | None = None
    """Of a day in UTC."""
    concurrent_requests: Limit | None = None
    concurrent_runs: Limit | None = None
    """Runs that have not ended, also those that wait or pause."""


class KeyEntry(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, tag_field="type", tag="key"
):
    key_id: Name
    tenant: Name
    hash: KeyHash
    name: str = ""
    created: Moment | None = None
    expires: Moment | None = None
    disabled: bool = False
    quota: Quota = Quota()


class TenantEntry(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, tag_field="type", tag="tenant"
):
    """Need not be there: a tenant without one has no limits of its own."""

    tenant: Name
    suspended: bool = False
    """Its keys are known, and refused."""
    quota: Quota = Quota()
    """Of all its keys together."""


Entry = KeyEntry | TenantEntry


class KeysFile(Struct, frozen=True, kw_only=True):
    keys: tuple[KeyEntry, ...] = ()
    tenants: tuple[TenantEntry, ...] = ()
    plain_keys: int = 0
    """How many of ``keys`` lie in the file as they are."""


def parse(data: bytes) -> KeysFile:
    """Raises BadInput(``keys.file``) that names the line and no text of it."""
    if len(data) > KEYS_FILE_MAX_BYTES:
        raise _bad(f"larger than {KEYS_FILE_MAX_BYTES} bytes")
    keys: dict[str, KeyEntry] = {}
    tenants: dict[str, TenantEntry] = {}
    hashes: set[str] = set()
    plain = 0
    for number, line in enumerate(data.splitlines(), 1):
        entry = parse_line(line, number)
        if entry is None:
            continue
        plain += is_plain(line)
        if isinstance(entry, TenantEntry):
            _check_new(entry.tenant in tenants, "tenant", number)
            tenants[entry.tenant] = entry
        else:
            _check_new(entry.key_id in keys or entry.hash in hashes, "key", number)
            keys[entry.key_id] = entry
            hashes.add(entry.hash)
    return KeysFile(keys=tuple(keys.values()), tenants=tuple(tenants.values()), plain_keys=plain)


def parse_line(line: bytes, number: int = 1) -> Entry | None:
    """None for an empty line or a comment. Raises as ``parse``."""
    text = line.strip()
    if not text or text.startswith(b"#"):
        return None
    return _plain_entry(text, number) if is_plain(text) else _json_entry(text, number)


def is_plain(line: bytes) -> bool:
    """Of a line that has an entry: whether it is the key itself."""
    return not line.strip().startswith(b"{")


def _json_entry(text: bytes, number: int) -> Entry:
    try:
        entry: Entry = codec.decode_json(text, Entry)  # type: ignore[arg-type]
    except (msgspec.MsgspecError, RecursionError) as error:
        raise _bad(f"line {number}: {error}") from None
    if entry.tenant == LOCAL_TENANT:
        raise _bad(f"line {number}: the tenant {LOCAL_TENANT!r} is whoever is served without keys")
    return entry


def _plain_entry(text: bytes, number: int) -> KeyEntry:
    """A tenant of its own for each: who writes such a file promises nothing about who belongs together."""
    if not all(0x21 <= byte <= 0x7E for byte in text) or text.startswith((b'"', b"[", b"}")):
        raise _bad(f"line {number}: neither a JSON object nor a plain key")
    digest = hashlib.sha256(text).hexdigest()
    return KeyEntry(key_id=f"plain-{digest[:16]}", tenant=f"plain-{digest[:16]}", hash=HASH + digest)


def _check_new(known: bool, what: str, number: int) -> None:
    if known:
        raise _bad(f"line {number}: this {what} is there already")


def _bad(reason: str) -> BadInput:
    return BadInput("keys.file", reason)


def render_line(entry: Entry) -> bytes:
    """One line, without its end."""
    return codec.encode_json(entry)


def new_key() -> str:
    return KEY_PREFIX + "".join(secrets.choice(_LETTERS) for _ in range(KEY_CHARACTERS))


def new_key_id() -> str:
    return "key-" + "".join(secrets.choice(_ID_LETTERS) for _ in range(12))


def key_hash(key: str) -> str:
    """Of any text, also one that is no UTF-8 and came in a header."""
    return HASH + hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()
