"""`moontide keys`: a file of hashes, changed whole; the key itself is shown once and kept nowhere."""

import json
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from services.cli.__main__ import run
from services.cli.keyring import Keyring
from shared.keys import KEY_CHARACTERS, KEY_PREFIX, KeyEntry, Quota, key_hash, new_key_id, parse


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "inside" / "keys.jsonl"


def keys(file: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    """The JSON that the command says."""
    assert run(["keys", *arguments, "--keys-file", str(file), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_new_key_is_shown_once(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = keys(file, capsys, "add", "--tenant", "acme", "--name", "ci", "--tokens-per-day", "5", "--expires", "1")
    assert made["key"].startswith(KEY_PREFIX)
    assert len(made["key"]) == len(KEY_PREFIX) + KEY_CHARACTERS
    assert made["key"] not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    (entry,) = parse(file.read_bytes()).keys
    assert (entry.hash, entry.tenant, entry.name) == (key_hash(made["key"]), "acme", "ci")
    assert entry.quota == Quota(tokens_per_day=5)
    assert entry.created is not None
    assert entry.expires is not None
    assert (entry.expires - entry.created).days == 1
    listed = keys(file, capsys, "list")
    assert made["key"] not in json.dumps(listed)
    assert entry.hash not in json.dumps(listed)
    assert [key["key_id"] for key in listed["keys"]] == [made["key_id"]]
    assert run(["keys", "list", "--keys-file", str(file)]) == 0
    assert "5 tokens per day" in capsys.readouterr().out


def test_limits_are_set_and_lifted(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = keys(file, capsys, "add", "--tenant", "acme", "--requests-per-minute", "3")
    keys(file, capsys, "limit", "--key", made["key_id"], "--concurrent-runs", "2", "--requests-per-minute", "none")
    keys(file, capsys, "limit", "--tenant", "acme", "--tokens-per-minute", "9")
    keys(file, capsys, "limit", "--tenant", "acme", "--tokens-per-minute", "10")
    found = parse(file.read_bytes())
    assert found.keys[0].quota == Quota(concurrent_runs=2)
    assert [(item.tenant, item.quota) for item in found.tenants] == [("acme", Quota(tokens_per_minute=10))]


def test_what_people_wrote_stays(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.parent.mkdir()
    file.write_text("# people\n\nsome-plain-key\n")
    (plain,) = keys(file, capsys, "list")["keys"]
    keys(file, capsys, "add", "--tenant", "acme")
    keys(file, capsys, "revoke", plain["key_id"])
    assert file.read_text().startswith("# people\n\n{")
    assert "some-plain-key" not in file.read_text()
    revoked, added = parse(file.read_bytes()).keys
    assert (revoked.hash, revoked.disabled, added.disabled) == (key_hash("some-plain-key"), True, False)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("add", "--tenant", "Acme"), 2),
        (("add", "--tenant", "local"), 2),
        (("add", "--tenant", "a.b"), 2),
        (("add", "--tenant", "a", "--tokens-per-day", "-1"), 2),
        (("add", "--tenant", "a", "--expires", "soon"), 2),
        (("add",), 2),
        (("limit", "--tokens-per-day", "1"), 2),
        (("limit", "--tenant", "a"), 1),
        (("revoke", "key-unknown"), 1),
    ],
)
def test_bad_use_changes_nothing(
    file: Path, arguments: tuple[str, ...], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["keys", *arguments, "--keys-file", str(file)]) == code
    assert not file.exists()


def test_a_broken_file_is_not_overwritten(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.parent.mkdir()
    file.write_text('{"type": "key"}\n')
    assert run(["keys", "add", "--tenant", "a", "--keys-file", str(file)]) == 1
    assert "line 1" in capsys.readouterr().err
    assert file.read_text() == '{"type": "key"}\n'


def test_many_writers_lose_nothing(file: Path) -> None:
    def add() -> None:
        for _ in range(10):
            Keyring(file).add(KeyEntry(key_id=new_key_id(), tenant="acme", hash=key_hash(new_key_id())))

    writers = [threading.Thread(target=add) for _ in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(parse(file.read_bytes()).keys) == 40
    assert sorted(path.name for path in file.parent.iterdir()) == [".keys.jsonl.lock", "keys.jsonl"]


def test_the_environment_names_the_gateways_file(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOONTIDE_GATEWAY_KEYS_FILE", str(file))
    assert run(["keys", "add", "--tenant", "acme"]) == 0
    assert capsys.readouterr().out.startswith(KEY_PREFIX)
    assert len(parse(file.read_bytes()).keys) == 1


def test_up_wants_a_file_with_a_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["up", "--upstream", "http://127.0.0.1:1", "--data-dir", str(tmp_path)]
    assert run([*arguments, "--keys-file", str(tmp_path / "none")]) == 1
    assert "moontide keys add" in capsys.readouterr().err
