"""What bubblewrap is told: nothing of this machine that is nobody's business, and never anything without a sandbox."""

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from services.tools import sandbox as module
from services.tools.confined import started
from services.tools.sandbox import Bounds, Descriptors, Sandbox, View
from shared.errors import MoontideError

GIVEN = Descriptors(arguments=3, seccomp=4, info=5, ready=6, gate=7)


@pytest.fixture
def view(tmp_path: Path) -> View:
    if os.geteuid() == 0:
        os.chown(tmp_path, 62_700, 62_700)
    return View(tmp_path)


def mounts(words: list[str]) -> list[tuple[str, ...]]:
    lengths = {"--ro-bind": 2, "--bind": 2, "--tmpfs": 1}
    return [(word, *words[at + 1 : at + 1 + lengths[word]]) for at, word in enumerate(words) if word in lengths]


def test_only_the_workspace_can_be_written(view: View) -> None:
    words = Sandbox(Bounds()).arguments(view, GIVEN)
    assert [mount for mount in mounts(words) if mount[0] == "--bind"] == [("--bind", str(view.workspace), "/workspace")]
    reading = View(view.workspace, writable=False)
    assert not [mount for mount in mounts(Sandbox(Bounds()).arguments(reading, GIVEN)) if mount[0] == "--bind"]


def test_homes_and_settings_are_not_there(view: View) -> None:
    seen = {Path(mount[2]) for mount in mounts(Sandbox(Bounds()).arguments(view, GIVEN)) if mount[0] == "--ro-bind"}
    for place in ("/", "/etc", "/home", "/root", "/var", "/run", "/sys", "/opt", "/srv", "/boot", str(Path.home())):
        assert Path(place) not in seen
    assert Path("/usr") in seen
    assert Path(sys.prefix) in seen or Path(sys.prefix).is_relative_to("/usr")


def test_private_folders_are_hidden_where_they_would_be_seen(view: View, tmp_path: Path) -> None:
    inside = Path(sys.prefix) / "lib"
    words = Sandbox(Bounds(), private=(inside, tmp_path)).arguments(view, GIVEN)
    hidden = [mount[1] for mount in mounts(words) if mount[0] == "--tmpfs"]
    assert str(inside) in hidden
    assert str(tmp_path) not in hidden, "nobody sees it anyway"
    assert words.index(str(inside)) > words.index("--ro-bind")


def test_the_command_line_names_no_folder_of_the_workspace(view: View) -> None:
    line = Sandbox(Bounds()).command_line(["/bin/true"], view, GIVEN)
    assert not [word for word in line if str(view.workspace) in word]
    given = json.loads(line[-1])
    assert (given["command"], given["directory"], given["gate"]) == (["/bin/true"], "/workspace", 7)


def test_every_namespace_and_guard_is_asked_for(view: View) -> None:
    words = Sandbox(Bounds()).arguments(view, GIVEN)
    for word in ("--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--die-with-parent"):
        assert word in words
    for word in ("--new-session", "--clearenv", "--seccomp", "--cap-drop"):
        assert word in words


def test_an_ordinary_user_needs_a_namespace_of_users(view: View, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.os, "geteuid", lambda: 1000)
    assert "--unshare-user" in Sandbox(Bounds()).arguments(view, GIVEN)
    assert "--cap-add" not in Sandbox(Bounds()).arguments(view, GIVEN)


def test_a_workspace_of_root_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root has such folders")
    with pytest.raises(MoontideError, match="would be root"):
        Sandbox(Bounds()).command_line(["/bin/true"], View(tmp_path), GIVEN)


@pytest.mark.parametrize(("name", "value"), [("platform", "darwin"), ("machine", "riscv64")])
def test_where_there_is_no_sandbox_nothing_runs(
    view: View, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    if name == "platform":
        monkeypatch.setattr(module.sys, "platform", value)
    else:
        monkeypatch.setattr(module.platform, "machine", lambda: value)
    with pytest.raises(MoontideError, match="sandboxes cannot be made on this machine") as refusal:
        module.program()
    assert (refusal.value.code, refusal.value.retryable) == ("tools.sandbox", False)


async def test_a_bubblewrap_that_fails_is_told_in_its_own_words(
    view: View, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho 'bwrap: No permissions to create a new namespace' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(module, "program", lambda: broken)
    async with asyncio.timeout(20):
        with pytest.raises(MoontideError, match="No permissions to create a new namespace"):
            await started(Sandbox(Bounds()), ["/bin/true"], view)
