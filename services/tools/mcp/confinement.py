"""A server's process in namespaces of its own, where the configuration wants that. Pure, but for looking which folders
of this machine there are.

Input: what the server may see. Output: words before its command. It sees programs and libraries, what ``read`` and
``write`` list, and a private ``/tmp``; no other process, and the network only where it is given. No capability.
"""

from collections.abc import Iterator
from pathlib import Path

from services.tools.mcp.config import Confinement
from services.tools.sandbox import SYSTEM, SYSTEM_FILES, USER_ID, program

NETWORK_FILES = ("/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/ssl", "/etc/pki", "/etc/ca-certificates")


def words(confinement: Confinement, folder: Path, directory: Path | None) -> list[str]:
    """Paths of the configuration are relative to ``folder``. Raises the ``tools.sandbox`` error where no sandbox can be
    made: then nothing runs without."""
    user = ("--unshare-user", "--uid", str(USER_ID), "--gid", str(USER_ID), "--cap-drop", "ALL")
    network = ("--share-net",) if confinement.network else ()
    seen = [str(folder / path) for path in confinement.read]
    written = [str(folder / path) for path in confinement.write]
    return [
        *(str(program()), "--unshare-all", *network, *user, "--die-with-parent", "--new-session"),
        *_system(confinement.network),
        *("--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--setenv", "HOME", "/tmp"),
        *(word for path in seen for word in ("--ro-bind", path, path)),
        *(word for path in written for word in ("--bind", path, path)),
        *(("--chdir", str(directory)) if directory is not None else ("--chdir", "/tmp")),
        "--",
    ]


def _system(network: bool) -> Iterator[str]:
    for name in SYSTEM:
        path = Path(name)
        if path.is_symlink():
            yield from ("--symlink", str(path.readlink()), name)
        elif path.is_dir():
            yield from ("--ro-bind", name, name)
    for name in (*SYSTEM_FILES, *(NETWORK_FILES if network else ())):
        yield from ("--ro-bind-try", name, name)
