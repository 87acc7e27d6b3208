"""`moontide keys`: who may use a gateway. Keys are made, listed, limited and revoked in a file of hashes.

Input: arguments and the keys file. Output: the file, changed; a new key is shown once and kept nowhere. A running
gateway takes the change within a second.
"""

import argparse
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from schemas import codec
from services.cli import terminal
from services.cli.config import DataConfig, keys_file
from services.cli.keyring import Keyring, with_quota
from shared.errors import BadInput
from shared.keys import LOCAL_TENANT, KeyEntry, Name, Quota, TenantEntry, key_hash, new_key, new_key_id

QUOTAS: tuple[str, ...] = Quota.__struct_fields__
OPTIONS = tuple(f"--{name.replace('_', '-')}" for name in QUOTAS)
NO_LIMIT = "none"


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser("keys", help="who may use a gateway, and how much")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    add = actions.add_parser("add", help="make a key; it is shown once")
    add.add_argument("--tenant", type=tenant, required=True, help="whose files, runs and traces it opens")
    add.add_argument("--name", default="", help="what it is for")
    add.add_argument("--expires", type=moment, metavar="DAYS|DATE", help="like 30 or 2027-01-31 (default: never)")
    _finish(add, run_add, quotas=True)
    _finish(actions.add_parser("list", help="keys and tenants, with their limits"), run_list)
    revoke = actions.add_parser("revoke", help="a key opens nothing any more")
    revoke.add_argument("key_id", metavar="KEY_ID")
    _finish(revoke, run_revoke)
    limit = actions.add_parser("limit", help="what a key, or a tenant with all its keys, may use")
    whose = limit.add_mutually_exclusive_group(required=True)
    whose.add_argument("--key", metavar="KEY_ID")
    whose.add_argument("--tenant", type=tenant)
    _finish(limit, run_limit, quotas=True)


def _finish(parser: argparse.ArgumentParser, run: Any, *, quotas: bool = False) -> None:
    if quotas:
        group = parser.add_argument_group("limits", f"a number, or {NO_LIMIT!r}")
        for option in OPTIONS:
            group.add_argument(option, type=limit_number, metavar="N", default=argparse.SUPPRESS)
    parser.add_argument("--keys-file", type=Path, metavar="FILE", help="default: keys.jsonl in the data directory")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.set_defaults(run=run)


def tenant(text: str) -> str:
    """Raises ValueError, as the next two, which argparse turns into words."""
    name = msgspec.convert(text, Name)
    if name == LOCAL_TENANT:
        raise ValueError(text)
    return name


def limit_number(text: str) -> int | None:
    if text != NO_LIMIT and not (text.isascii() and text.isdigit()):
        raise ValueError(text)
    return None if text == NO_LIMIT else int(text)


def moment(text: str) -> datetime:
    if text.isascii() and text.isdigit():
        return datetime.now(UTC).replace(microsecond=0) + timedelta(days=int(text))
    found = datetime.fromisoformat(text)
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def run_add(arguments: argparse.Namespace, data: DataConfig) -> int:
    ring, key = _keyring(arguments, data), new_key()
    entry = KeyEntry(
        key_id=new_key_id(),
        tenant=arguments.tenant,
        hash=key_hash(key),
        name=arguments.name,
        created=datetime.now(UTC).replace(microsecond=0),
        expires=arguments.expires,
        quota=with_quota(Quota(), _given(arguments)),
    )
    ring.add(entry)
    terminal.report(f"{entry.key_id} of tenant {entry.tenant} added to {ring.path}; the key is shown only this once")
    terminal.say_result({"key": key} | _shown(entry), key, as_json=arguments.json)
    return 0


def run_list(arguments: argparse.Namespace, data: DataConfig) -> int:
    ring = _keyring(arguments, data)
    found = ring.read()
    if found.plain_keys:
        terminal.report(f"{found.plain_keys} keys lie in {ring.path} as they are: make new ones, and revoke those")
    if arguments.json:
        shown = {"keys": [_shown(key) for key in found.keys], "tenants": [_shown(item) for item in found.tenants]}
        terminal.say_json({"keys_file": str(ring.path)} | shown)
        return 0
    for entry in (*found.tenants, *found.keys):
        terminal.say(_line(entry))
    return 0


def run_revoke(arguments: argparse.Namespace, data: DataConfig) -> int:
    """Raises NotFound."""
    ring = _keyring(arguments, data)
    entry = ring.change_key(arguments.key_id, lambda key: msgspec.structs.replace(key, disabled=True))
    terminal.say_result(_shown(entry), f"{entry.key_id} is revoked", as_json=arguments.json)
    return 0


def run_limit(arguments: argparse.Namespace, data: DataConfig) -> int:
    """Raises NotFound."""
    ring, given = _keyring(arguments, data), _given(arguments)
    if not given:
        raise BadInput("keys.no_limit", f"say which limit: {', '.join(OPTIONS)}")

    def change(entry: Any) -> Any:
        return msgspec.structs.replace(entry, quota=with_quota(entry.quota, given))

    entry = ring.change_key(arguments.key, change) if arguments.key else ring.change_tenant(arguments.tenant, change)
    terminal.say_result(_shown(entry), _line(entry), as_json=arguments.json)
    return 0


def _keyring(arguments: argparse.Namespace, data: DataConfig) -> Keyring:
    return Keyring(arguments.keys_file or keys_file() or data.root / "keys.jsonl")


def _given(arguments: argparse.Namespace) -> dict[str, int | None]:
    return {field: getattr(arguments, field) for field in QUOTAS if hasattr(arguments, field)}


def _shown(entry: KeyEntry | TenantEntry) -> dict[str, Any]:
    """Everything but the hash."""
    shown = codec.decode_json(codec.encode_json(entry), dict[str, Any])
    return {name: value for name, value in shown.items() if name not in ("hash", "type")}


def _line(entry: KeyEntry | TenantEntry) -> str:
    limits = [f"{value} {name.replace('_', ' ')}" for name, value in _limits(entry.quota)]
    if isinstance(entry, TenantEntry):
        return "  ".join([f"tenant {entry.tenant}", *(["suspended"] if entry.suspended else []), *limits])
    state = "revoked" if entry.disabled else f"until {entry.expires:%Y-%m-%d %H:%M}" if entry.expires else "active"
    return "  ".join([entry.key_id, entry.tenant, state, *([entry.name] if entry.name else []), *limits])


def _limits(quota: Quota) -> list[tuple[str, int]]:
    return [(name, value) for name in QUOTAS if (value := getattr(quota, name)) is not None]
