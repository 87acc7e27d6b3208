"""No path leads out of the workspace, and the file tools say in words what is wrong."""

import os
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.tools import beneath
from services.tools.files import edit_file, list_files, read_file, write_file
from shared.errors import BadInput, MoontideError, NotFound

SECRET = "the canary"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_text(SECRET)
    workspace = tmp_path / "workspace"
    (workspace / "inner").mkdir(parents=True)
    (workspace / "a").write_text("one\ntwo\nthree\n")
    (workspace / "up").symlink_to("..")
    (workspace / "absolute").symlink_to(tmp_path)
    (workspace / "inner" / "back").symlink_to("../a")
    (workspace / "mounted").symlink_to("/workspace/inner")
    (workspace / "loop").symlink_to("loop")
    return workspace


@pytest.mark.parametrize(
    "path",
    [
        "../secret",
        "/etc/passwd",
        "inner/../../secret",
        "up/secret",
        "absolute/secret",
        "/workspace/../secret",
        "/workspace/up/secret",
        "inner/back/../../secret",
        "mounted/../../secret",
        "./././../secret",
        "//etc/passwd",
        "/workspace2/secret",
    ],
)
def test_paths_that_lead_out_are_refused(root: Path, path: str) -> None:
    for attempt in (
        lambda: read_file(root, path, None, None),
        lambda: write_file(root, path, "overwritten"),
        lambda: edit_file(root, path, "canary", "cat", False),
        lambda: list_files(root, path, 1),
    ):
        with pytest.raises(MoontideError):
            attempt()
    assert (root.parent / "secret").read_text() == SECRET


@pytest.mark.parametrize("path", ["a", "/workspace/a", "inner/back", "inner/../a", "mounted/back", "./a"])
def test_paths_that_stay_inside_are_followed(root: Path, path: str) -> None:
    assert read_file(root, path, None, None) == "one\ntwo\nthree\n"


PIECES = st.sampled_from(
    ["..", ".", "", "a", "inner", "back", "up", "absolute", "mounted", "loop", "workspace", "secret"]
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(parts=st.lists(PIECES, max_size=8), rooted=st.booleans())
def test_no_combination_reads_the_canary(
    parts: list[str], rooted: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = root_once(tmp_path_factory)
    path = "/" * rooted + "/".join(parts)
    with suppress(BadInput, NotFound):
        assert SECRET not in read_file(root, path, None, None)


def root_once(factory: pytest.TempPathFactory) -> Path:
    base = factory.getbasetemp() / "beneath"
    if not base.exists():
        base.mkdir()
        root.__wrapped__(base)  # type: ignore[attr-defined]
    return base / "workspace"


def test_a_directory_that_becomes_a_link_meanwhile_leads_nowhere(root: Path) -> None:
    """Somebody swaps a directory and a link to the outside, as fast as it goes."""
    outside = root.parent / "elsewhere"
    outside.mkdir()
    (outside / "file").write_text(SECRET)
    (root / "real").mkdir()
    (root / "real" / "file").write_text("inside")
    (root / "link").symlink_to(outside)
    over = threading.Event()

    def swap() -> None:
        while not over.is_set():
            (root / "real").rename(root / "spare")
            (root / "link").rename(root / "real")
            (root / "real").rename(root / "link")
            (root / "spare").rename(root / "real")

    swapping = threading.Thread(target=swap)
    swapping.start()
    try:
        for _ in range(2000):
            with suppress(NotFound, BadInput):
                assert read_file(root, "real/file", None, None) == "inside"
                edit_file(root, "real/file", "inside", "inside", False)
    finally:
        over.set()
        swapping.join()
    assert (outside / "file").read_text() == SECRET


def test_pipes_and_devices_are_not_opened(root: Path) -> None:
    os.mkfifo(root / "pipe")
    with pytest.raises(BadInput, match="no regular file"):
        read_file(root, "pipe", None, None)


def test_binary_and_huge_files_are_answered_in_words(root: Path) -> None:
    (root / "binary").write_bytes(b"\x89PNG\0\0" + bytes(100))
    with pytest.raises(BadInput, match="binary file of 106 bytes"):
        read_file(root, "binary", None, None)
    (root / "huge").write_text("line\n" * 1_000_000)
    text = read_file(root, "huge", None, None)
    assert len(text) < 1_100_000
    assert text.endswith("of 5000000 bytes are shown: ask for some lines]")
    assert read_file(root, "huge", 999_999, None) == "line\nline\n"
    (root / "long").write_text("x" * 3_000_000)
    assert "ask for fewer lines" in read_file(root, "long", 1, 5)


def test_lines_are_counted_from_one(root: Path) -> None:
    assert read_file(root, "a", 2, 2) == "two\n"
    assert read_file(root, "a", 2, None) == "two\nthree\n"
    assert read_file(root, "a", None, 1) == "one\n"
    with pytest.raises(BadInput, match="only 3 lines"):
        read_file(root, "a", 4, None)
    with pytest.raises(BadInput, match="before first_line"):
        read_file(root, "a", 3, 2)


def test_an_edit_wants_one_place(root: Path) -> None:
    with pytest.raises(BadInput, match="does not occur"):
        edit_file(root, "a", "four", "4", False)
    with pytest.raises(BadInput, match="occurs 3 times"):
        edit_file(root, "a", "\n", "", False)
    assert edit_file(root, "a", "\n", "\r\n", True) == "edited a: 3 places"
    assert edit_file(root, "a", "two\r\n", "2\r\n", False) == "edited a: 1 place"
    assert (root / "a").read_bytes() == b"one\r\n2\r\nthree\r\n"


def test_writing_makes_directories_and_replaces(root: Path) -> None:
    assert write_file(root, "new/deep/file", "text ü") == "wrote new/deep/file: 7 bytes"
    assert write_file(root, "new/deep/file", "t") == "replaced new/deep/file: 1 bytes"
    assert (root / "new/deep/file").read_text() == "t"
    with pytest.raises(BadInput, match="is a directory"):
        write_file(root, "new", "x")
    with pytest.raises(BadInput, match="through a file"):
        write_file(root, "a/b", "x")


def test_a_listing_shows_sizes_links_and_levels(root: Path) -> None:
    assert list_files(root, ".", 1).splitlines()[:2] == ["a  14 bytes", f"absolute -> {root.parent}"]
    assert "inner/back -> ../a" in list_files(root, ".", 2).splitlines()
    assert "inner/back" not in list_files(root, ".", 1)


def test_a_listing_is_bounded(root: Path) -> None:
    for number in range(1100):
        (root / f"f{number}").touch()
    assert list_files(root, ".", 1).splitlines()[-1].startswith("[more than 1000 entries")


def test_what_is_made_belongs_to_the_owner_of_the_workspace(root: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root gives files away")
    os.chown(root, 1234, 1234)
    write_file(root, "x/y", "z")
    assert [(root / path).stat().st_uid for path in ("x", "x/y")] == [1234, 1234]
    with beneath.directory(root, "x") as descriptor:
        assert os.fstat(descriptor).st_uid == 1234
