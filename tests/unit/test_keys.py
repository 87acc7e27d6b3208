"""The keys file: what is written is read again, and what is wrong is named without a word of it."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import BadInput
from shared.keys import Entry, KeyEntry, KeysFile, Quota, TenantEntry, key_hash, new_key, new_key_id, parse, render_line

HASH = key_hash("k")
names = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,62}", fullmatch=True).filter(lambda name: name != "local")
limits = st.none() | st.integers(0, 2**53)
quotas = st.builds(Quota, **dict.fromkeys(Quota.__struct_fields__, limits))
moments = st.none() | st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))
hashes = st.from_regex(r"sha256:[0-9a-f]{64}", fullmatch=True)
key_entries = st.builds(
    KeyEntry,
    key_id=names,
    tenant=names,
    hash=hashes,
    name=st.text(),
    created=moments,
    expires=moments,
    disabled=st.booleans(),
    quota=quotas,
)
tenant_entries = st.builds(TenantEntry, tenant=names, suspended=st.booleans(), quota=quotas)


@given(
    st.lists(key_entries, unique_by=(lambda key: key.key_id, lambda key: key.hash)),
    st.lists(tenant_entries, unique_by=lambda entry: entry.tenant),
)
def test_what_is_written_is_read_again(keys: list[KeyEntry], tenants: list[TenantEntry]) -> None:
    entries: list[Entry] = [*keys, *tenants]
    data = b"# head\n\n" + b"\n".join(render_line(entry) for entry in entries)
    assert parse(data) == KeysFile(keys=tuple(keys), tenants=tuple(tenants))


def test_plain_lines_are_keys_of_a_tenant_each() -> None:
    found = parse(b"# people\nalice-key\n\n  bob-key \n")
    assert found.plain_keys == 2
    assert [key.hash for key in found.keys] == [key_hash("alice-key"), key_hash("bob-key")]
    assert len({key.tenant for key in found.keys}) == 2


SECRET = "ca-na-ry"


@pytest.mark.parametrize(
    "line",
    [
        f'{{"type": "key", "key_id": "a", "tenant": "t", "hash": "{SECRET}"}}',
        f'{{"type": "key", "key_id": "a", "tenant": "t", "key": "{SECRET}"}}',
        f'{{"type": "key", "key_id": "a", "tenant": "t", "hash": "{HASH}", "quota": {{"requests_per_minute": -1}}}}',
        f'{{"type": "key", "key_id": "a", "tenant": "t", "hash": "{HASH}", "expires": "2027-01-01T00:00:00"}}',
        f'{{"type": "key", "key_id": "a", "tenant": "local", "hash": "{HASH}"}}',
        f'{{"type": "key", "key_id": "a", "tenant": "T", "hash": "{HASH}"}}',
        f'{{"type": "key", "key_id": "a", "tenant": "a.b", "hash": "{HASH}"}}',
        f'{{"type": "key", "key_id": "b", "tenant": "t", "hash": "{HASH}"}}',
        '{"type": "tenant", "tenant": "twice"}',
        f'{{"type": "key", "key_id": "{SECRET}',
        f'"{SECRET}"',
        f"two words {SECRET}",
        "[" * 10_000,
    ],
)
def test_a_wrong_line_is_named_and_not_shown(line: str) -> None:
    before = f'{{"type":"key","key_id":"z","tenant":"t","hash":"{HASH}"}}\n{{"type":"tenant","tenant":"twice"}}\n'
    with pytest.raises(BadInput) as caught:
        parse(f"{before}{line}".encode())
    assert "line 3" in caught.value.message
    assert SECRET not in caught.value.message


def test_a_file_has_a_bound() -> None:
    with pytest.raises(BadInput, match="larger than"):
        parse(b"#" * (16 * 1024 * 1024 + 1))


def test_keys_are_long_and_different() -> None:
    made = {new_key() for _ in range(1000)}
    assert len(made) == len({new_key_id() for _ in range(1000)}) == 1000
    assert {len(key) for key in made} == {46}
    assert all(parse(key.encode()).keys[0].hash == key_hash(key) for key in made)
